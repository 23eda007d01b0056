"""Slates of names while they are written: which candidates of a pool what is written still fits.

A table operation for all slates at once. No name begins another, since the line break that ends it belongs to it.
"""

import torch
from torch import Tensor

from stages.action_spaces.base import Pool


class NameWalk:
    """K slates of L distinct candidates for each of B users; see `Walk`. N candidates, V tokens of a pool."""

    def __init__(self, pool: Pool, slates: int, length: int) -> None:
        self.pool = pool
        users = len(pool.items)
        device = pool.items.device
        self.tokens = (pool.spelled >= 0).sum(2)[:, None]  # [B, 1, N] of each candidate
        self.items = torch.full((users, slates, length), -1, device=device)
        self.place = torch.zeros(users, slates, dtype=torch.int64, device=device)
        self.depth = torch.zeros_like(self.place)  # tokens written of the item
        self.left = (pool.items >= 0)[:, None].repeat(1, slates, 1)  # [B, K, N] candidates that are not in the slate
        self.fitting = self.left.clone()  # those that begin as what is written of the item
        self.done = torch.zeros_like(self.place, dtype=torch.bool)

    @property
    def writing(self) -> Tensor:
        """[B, K] whether the slate is not whole."""
        return ~self.done

    def open(self) -> Tensor:
        """[B, K, V] tokens with which a fitting candidate goes on."""
        width = self.pool.columns.shape[1]
        behind = self._next()
        alive = self.fitting & (behind >= 0) & self.writing[..., None]
        behind = torch.where(alive, behind, width)  # others go beyond the end
        mask = torch.zeros(*self.place.shape, width + 1, dtype=torch.bool, device=behind.device)
        mask = mask.scatter_(2, behind, True)[..., :-1]
        mask[..., 0] |= self.done
        return mask

    def towards(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The choice [B, K] that goes on with the slates' items at their places, and whether the pool holds them."""
        item = items.gather(2, self.place[..., None])
        found = (self.pool.items[:, None] == item) & (item >= 0)  # [B, K, N]
        choice = self._next().gather(2, found.long().argmax(2)[..., None])[..., 0]
        return choice.clamp(min=0), found.any(2) & (choice >= 0)

    def take(self, choice: Tensor) -> Tensor:
        """Write a token of each slate; the tokens [B, K]."""
        going_on = self.fitting & (self._next() == choice[..., None])
        self.depth += 1
        whole = going_on & (self.tokens == self.depth[..., None])  # at most one: names differ
        ended = whole.any(2) & ~self.done
        item = self.pool.items[:, None].expand_as(whole).gather(2, whole.long().argmax(2)[..., None])
        written = self.items.gather(2, self.place[..., None])
        self.items.scatter_(2, self.place[..., None], torch.where(ended[..., None], item, written))
        self.left &= ~(whole & ended[..., None])
        self.fitting = torch.where(ended[..., None], self.left, going_on)
        self.depth = self.depth.masked_fill(ended, 0)
        last = self.items.shape[2] - 1
        self.done |= ended & (self.place == last)
        self.place = (self.place + ended.long()).clamp(max=last)
        return self.pool.columns.gather(1, choice)

    def _next(self) -> Tensor:
        """[B, K, N] the choice with which each candidate goes on, -1 behind its last token."""
        spelled = self.pool.spelled[:, None].expand(-1, self.place.shape[1], -1, -1)
        at = self.depth.clamp(max=spelled.shape[3] - 1)[..., None, None].expand(-1, -1, spelled.shape[2], 1)
        return spelled.gather(3, at)[..., 0]
