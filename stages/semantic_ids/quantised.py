"""What every tokenizer gives, and what tokenizers share: k-means, residuals, distances."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from stages.core.errors import InputError
from stages.core.seeding import derived_seed

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Quantised:
    """N items as D codes each, and the space in which their distances to codewords are taken."""

    codes: Ints  # [N, D]
    points: Floats  # [N, w] what was quantised: the embeddings, or what an encoder makes of them
    codebooks: list[Floats]  # D times [size, w]: a point is about the sum of its codewords
    decode: Callable[[Ints], Floats]
    """Codes [N, D] -> embeddings [N, width] rebuilt from them."""

    def sizes(self, codes: Ints) -> list[int]:
        """Codes of each level of ids made of these; a level that was added behind has as many as it needs."""
        own = [len(book) for book in self.codebooks]
        return own + (codes[:, len(own) :].max(0) + 1).tolist()


def residual(
    vectors: Floats, levels: int, size: int, cluster: Callable[[Floats, int], tuple[Ints, Floats]]
) -> Quantised:
    """Quantise vectors [N, width]: each level clusters what the levels before it left over.

    cluster: residuals [N, width] and level -> labels [N] and centres [size, width].
    """
    left = vectors.copy()
    codes, codebooks = [], []
    for level in range(levels):
        labels, centres = cluster(left, level)
        codes.append(labels.astype(np.int64))
        codebooks.append(centres.astype(np.float32))
        left = left - codebooks[-1][codes[-1]]
    return Quantised(np.stack(codes, axis=1), vectors, codebooks, lambda own: codeword_sum(own, codebooks))


def kmeans(points: Floats, size: int, seed: int, level: int) -> tuple[Ints, Floats]:
    """Labels [N] and centres [size, width] of k-means; the seed and the level draw its starts.

    Raises InputError where there are more codes than items.
    """
    if len(points) < size:
        raise InputError(f"{len(points)} items are fewer than {size} codes; lower semantic_id.codebook_size")
    found = KMeans(size, n_init=4, random_state=derived_seed(seed, "kmeans", level) % 2**32).fit(points)
    return found.labels_, found.cluster_centers_


def codeword_sum(codes: Ints, codebooks: list[Floats]) -> Floats:
    """Sum of the codewords of codes [N, D], or of their first levels: [N, w]."""
    parts = [book[codes[:, level]] for level, book in enumerate(codebooks[: codes.shape[1]])]
    return np.sum(parts, axis=0, dtype=np.float32)


def squared_distance(vectors: Floats, codebook: Floats) -> Floats:
    """Squared distance of each of N vectors to each codeword: [N, size]."""
    return (vectors**2).sum(1, keepdims=True) + (codebook**2).sum(1) - 2 * vectors @ codebook.T


def fewest_levels(items: int, size: int) -> int:
    """How many levels of `size` codes give at least two ids per item: room for k-means to put like items together.

    Raises InputError where 5 levels do not.
    """
    for levels in range(1, 6):
        if size**levels >= 2 * items:
            return levels
    raise InputError(f"{items} items need more than 5 levels of {size} codes; raise semantic_id.codebook_size")
