"""Pools of candidates as token sequences: what may come next while an item of the pool is written.

An item is the tokens of its name and the END behind them, so that no item begins another. A slate is items of the
pool, one after the other, each at most once. Which candidates the tokens written so far still fit is a table operation
for all slates at once: candidates are compared with each other, once per pool, by the length of their common beginning.

B users, K slates, N candidates, D tokens of the longest name, L items, T tokens of the longest slate.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Spelled(NamedTuple):
    """Given slates, token by token; T is their longest, and the rest is padding."""

    token: Tensor  # [B, K, T]
    place: Tensor  # [B, K, T] 0 to L - 1: whose token it is
    depth: Tensor  # [B, K, T] its number in the item
    real: Tensor  # [B, K, T] False for padding


class Candidates:
    """The pools of B users."""

    def __init__(self, tokens: Tensor, length: Tensor) -> None:
        """Tokens [B, N, D]; length [B, N] tokens of each candidate, END included, 0 where there is none."""
        self.tokens, self.length = tokens, length
        present = length > 0
        inside = torch.arange(tokens.shape[2], device=tokens.device) < length[..., None]
        equal = (tokens[:, :, None] == tokens[:, None]) & (inside[:, :, None] & inside[:, None])
        self.common = equal.long().cumprod(-1).sum(-1)  # [B, N, N] tokens that two begin with alike
        self.present = present

    def fitting(self, chosen: Tensor, depth: Tensor, taken: Tensor) -> Tensor:
        """Candidates that begin as `chosen` [B, R] does for `depth` [B, R] tokens and are not `taken` [B, R, N]."""
        user = torch.arange(len(self.tokens), device=depth.device)[:, None]
        return self.present[:, None] & ~taken & (self.common[user, chosen] >= depth[..., None])

    def next_tokens(self, depth: Tensor) -> Tensor:
        """Token `depth` [B, R] of each candidate: [B, R, N]; some token where it has none."""
        at = depth[:, :, None, None].expand(-1, -1, self.tokens.shape[1], 1)
        return self.tokens[:, None].expand(-1, depth.shape[1], -1, -1).gather(3, at)[..., 0]

    def namesakes(self, fitting: Tensor, depth: Tensor) -> Tensor:
        """How many of the fitting candidates [B, R, N] go on with the same token as each, itself included.

        A softmax over distinct tokens is one over candidates with the logarithm of this number taken off the logits.
        """
        found = torch.ones_like(fitting, dtype=torch.float32)
        for step in range(int(depth.max()) + 1):
            alike = (self.common > step).float()  # [B, N, N]
            rows = fitting.float() @ alike
            found = torch.where((depth == step)[..., None], rows, found)
        return found.clamp(min=1)

    def spell(self, chosen: Tensor) -> Spelled:
        """The tokens of slates of candidates [B, K, L]."""
        users, slates, items = chosen.shape
        user = torch.arange(users, device=chosen.device)[:, None, None]
        length = self.length[user, chosen]  # [B, K, L]
        end = length.cumsum(2)
        at = torch.arange(int(end[..., -1].max()), device=chosen.device).expand(users, slates, -1).contiguous()
        place = torch.searchsorted(end.contiguous(), at, right=True)
        real, place = place < items, place.clamp(max=items - 1)
        depth = torch.where(real, at - (end - length).gather(2, place), 0)
        token = self.tokens[user, chosen.gather(2, place), depth]
        return Spelled(torch.where(real, token, 0), place, depth, real)

    def log_probs(self, logits: Tensor, fitting: Tensor, depth: Tensor) -> Tensor:
        """Log-probability of the token that each candidate goes on with, over the tokens that fit: [B, R, N].

        logits [B, R, N] of `next_tokens`; -inf where a candidate does not fit.
        """
        logits = logits.masked_fill(~fitting, -torch.inf)
        return logits - (logits - self.namesakes(fitting, depth).log()).logsumexp(-1, keepdim=True)
