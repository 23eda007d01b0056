"""T5's decoder for many beams per user, one token at a time: what the user's history says is kept once for all beams.

transformers' own cache holds a copy of the encoder's keys and values for each beam. Here the beams of a user stand side
by side in one tensor; the weights are those of T5ForConditionalGeneration, and so are the results.

B users, K beams, S tokens of the encoder, H heads, d width of a head, h width of the model.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

Pair = tuple[Tensor, Tensor]  # keys and values


@dataclass
class Steps:
    """A model that has encoded its users' histories; without gradients and dropout."""

    model: T5ForConditionalGeneration
    states: Tensor  # [B, S, h] of the encoder
    mask: Tensor  # [B, S] 1 where there is a token
    own: list[Pair] = field(default_factory=list)  # by layer: [B, H, K, t, d] of the tokens written
    far: list[Pair] = field(default_factory=list)  # by layer: [B, H, S, d] of the encoder's states

    @torch.no_grad()
    def read(self, tokens: Tensor) -> Tensor:
        """Read one more token of each beam [B, K]; the states that predict the next [B, K, h]."""
        decoder = self.model.decoder
        hidden = decoder.embed_tokens(tokens)
        written = self.own[0][0].shape[3] if self.own else 0
        bias = decoder.block[0].layer[0].SelfAttention.compute_bias(1, written + 1, past_seen_tokens=written)
        closed = torch.where(self.mask == 0, -torch.inf, 0.0)[:, None, None]  # [B, 1, 1, S]
        for index, block in enumerate(decoder.block):
            near, across, forward = block.layer
            query, key, value = _heads(near.SelfAttention, near.layer_norm(hidden), "qkv")  # [B, H, K, d]
            key, value = key[:, :, :, None], value[:, :, :, None]
            if written:
                key, value = (torch.cat(pair, 3) for pair in zip(self.own[index], (key, value), strict=True))
            self._keep(index, (key, value))
            weights = ((query[:, :, :, None] @ key.transpose(3, 4)) + bias[:, :, :, None]).softmax(-1)
            hidden = hidden + _joined(near.SelfAttention, (weights @ value)[:, :, :, 0])
            if index == len(self.far):
                self.far.append(_heads(across.EncDecAttention, self.states, "kv"))
            (query,) = _heads(across.EncDecAttention, across.layer_norm(hidden), "q")
            weights = ((query @ self.far[index][0].transpose(2, 3)) + closed).softmax(-1)  # [B, H, K, S]
            hidden = forward(hidden + _joined(across.EncDecAttention, weights @ self.far[index][1]))
        return decoder.final_layer_norm(hidden)

    def select(self, beams: Tensor) -> None:
        """Go on with the beams named [B, K'], in that order, some several times."""
        users = torch.arange(len(beams), device=beams.device)[:, None]
        self.own = [tuple(part.transpose(1, 2)[users, beams].transpose(1, 2) for part in pair) for pair in self.own]

    def _keep(self, index: int, pair: Pair) -> None:
        self.own[index : index + 1] = [pair]


def _heads(attention: T5Attention, states: Tensor, parts: str) -> tuple[Tensor, ...]:
    """Queries, keys or values [B, H, n, d] of states [B, n, h]."""
    width = attention.key_value_proj_dim
    return tuple(getattr(attention, part)(states).unflatten(-1, (-1, width)).transpose(1, 2) for part in parts)


def _joined(attention: T5Attention, heads: Tensor) -> Tensor:
    """The output [B, n, h] of heads [B, H, n, d]."""
    return attention.o(heads.transpose(1, 2).flatten(2))
