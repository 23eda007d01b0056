"""RQ-VAE: an autoencoder whose latent vector is the sum of one codeword per level (TIGER, arXiv 2305.05065).

    loss = mean |x - decode(sum of codewords)|^2 + sum over levels of mean |sg(r) - e|^2 + commitment mean |r - sg(e)|^2
    r = what the levels before have left of encode(x), e = its nearest codeword

Codebooks start from k-means of the first residuals, as TIGER's do. Where we differ, against codebooks that collapse:
inputs are standardised, a codeword that no item uses moves to a random item after every epoch but the last, AdamW takes
Adagrad's place, and squares are means over their dimensions (of the item and of the codeword), not sums.
"""

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from stages.core.seeding import derived_seed
from stages.core.spelling_sections import Ids, RqVae
from stages.semantic_ids.quantised import Floats, Ints, Quantised, kmeans


class ResidualAutoencoder(nn.Module):
    """Encoder, codebooks [D, size, w] and decoder."""

    def __init__(self, width: int, levels: int, size: int, settings: RqVae) -> None:
        super().__init__()
        widths = [width, *settings.hidden, settings.latent]
        self.encoder, self.decoder = _layers(widths), _layers(widths[::-1])
        self.codebooks = nn.Parameter(torch.zeros(levels, size, settings.latent))

    def nearest(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [n, D] of latent vectors [n, w], and the residual before each level [n, D, w].

        The residuals' gradient goes to the latent vectors alone.
        """
        codes, residuals, left = [], [], latent
        for book in self.codebooks.detach():
            residuals.append(left)
            codes.append(torch.cdist(left.detach(), book).argmin(1))
            left = left - book[codes[-1]]
        return torch.stack(codes, 1), torch.stack(residuals, 1)

    def codewords(self, codes: Tensor) -> Tensor:
        """Codeword of each code [n, D]: [n, D, w]."""
        return torch.stack([book[codes[:, level]] for level, book in enumerate(self.codebooks)], 1)


def quantise(vectors: Floats, levels: int, settings: Ids) -> Quantised:
    """Train on vectors [N, width] and quantise them into `levels` codes of `settings.codebook_size` each."""
    own, size = settings.rqvae, settings.codebook_size
    torch.manual_seed(derived_seed(settings.seed, "rqvae"))
    mean, scale = vectors.mean(0), vectors.std(0) + 1e-6
    data = torch.from_numpy((vectors - mean) / scale)
    model = ResidualAutoencoder(vectors.shape[1], levels, size, own)
    _start_codebooks(model, data, settings)
    optimizer = torch.optim.AdamW(model.parameters(), own.lr, weight_decay=own.weight_decay)
    for epoch in range(own.epochs):
        for rows in torch.randperm(len(data)).split(own.batch_size):
            optimizer.zero_grad()
            _loss(model, data[rows], own.commitment).backward()
            optimizer.step()
        if epoch + 1 < own.epochs:  # what is published has been trained
            _revive(model, data)
    with torch.no_grad():
        latent = model.encoder(data)
        codes, _ = model.nearest(latent)

    @torch.no_grad()
    def decode(chosen: Ints) -> Floats:
        rebuilt = model.decoder(model.codewords(torch.from_numpy(chosen)).sum(1)).numpy()
        return np.asarray(rebuilt * scale + mean, dtype=np.float32)

    books = [book.detach().numpy().copy() for book in model.codebooks]
    return Quantised(codes.numpy(), latent.numpy(), books, decode)


def _loss(model: ResidualAutoencoder, data: Tensor, commitment: float) -> Tensor:
    latent = model.encoder(data)
    codes, residuals = model.nearest(latent)
    words = model.codewords(codes)
    through = latent + (words.sum(1) - latent).detach()  # straight through: the decoder's gradient goes to the encoder
    rebuilt = (model.decoder(through) - data).square().mean()
    to_codewords = (residuals.detach() - words).square().mean((0, 2)).sum()
    to_encoder = (residuals - words.detach()).square().mean((0, 2)).sum()
    return rebuilt + to_codewords + commitment * to_encoder


@torch.no_grad()
def _start_codebooks(model: ResidualAutoencoder, data: Tensor, settings: Ids) -> None:
    """K-means of the untrained encoder's residuals, level by level."""
    left = model.encoder(data).numpy()
    for level in range(len(model.codebooks)):
        labels, centres = kmeans(left, settings.codebook_size, settings.seed, level)
        model.codebooks[level] = torch.from_numpy(centres.astype(np.float32))
        left = left - centres[labels].astype(np.float32)


@torch.no_grad()
def _revive(model: ResidualAutoencoder, data: Tensor) -> None:
    """Move each codeword that no item uses to the residual of a random item."""
    codes, residuals = model.nearest(model.encoder(data))
    for level, book in enumerate(model.codebooks):
        dead = torch.bincount(codes[:, level], minlength=len(book)) == 0
        drawn = torch.randint(len(data), (int(dead.sum()),))
        book[dead] = residuals[drawn, level]


def _layers(widths: list[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
