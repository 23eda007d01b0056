"""Slates of Semantic IDs while they are written: which codes lead to an item that may be named."""

import torch
from torch import Tensor

from stages.action_spaces.base import Catalogue, Prompts


class CodeWalk:
    """Slates while they are written, code by code; between two items stand the marks, if there are any."""

    def __init__(self, space: Catalogue, prompts: Prompts, slates: int, length: int) -> None:
        self.space, self.prompts, self.written = space, prompts, 0
        self.shape = len(prompts.tokens), slates
        self.items = torch.full((*self.shape, length), -1, device=prompts.tokens.device)
        self._begin()

    @property
    def level(self) -> int:
        """Whose code comes next; beyond the last level, the number of a mark."""
        return self.written % self.space.width

    @property
    def place(self) -> Tensor:
        """[B, K] the item that is being written."""
        place = min(self.written // self.space.width, self.items.shape[2] - 1)
        return torch.full(self.shape, place, device=self.items.device)

    @property
    def writing(self) -> Tensor:
        """[B, K] whether there is more to write: the same for all."""
        whole = self.written == self.items.shape[2] * self.space.width - len(self.space.marks)
        return torch.full(self.shape, not whole, device=self.items.device)

    def open(self) -> Tensor:
        """[B, K, C] codes that lead to an item which may be named and is not in the slate; one choice for a mark."""
        if self.level >= self.space.trie.depth:
            return (torch.arange(self.space.columns.shape[1], device=self.items.device) == 0).expand(*self.shape, -1)
        return self.space.trie.allowed(self.node, self.level, self.prompts.banned, self.items, self.prompts.only)

    def towards(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The code [B, K] of the slates' next items at this level; there is one wherever there is an item."""
        item = items[:, :, self.written // self.space.width]
        if self.level >= self.space.trie.depth:
            return torch.zeros_like(item), item >= 0
        return self.space.trie.codes[item, self.level].long(), item >= 0

    def take(self, choice: Tensor) -> Tensor:
        """Write a code of each slate, or a mark; the tokens [B, K]."""
        trie, level = self.space.trie, self.level
        if level >= trie.depth:
            self.written += 1
            return torch.full_like(choice, int(self.space.marks[::-1][level - trie.depth]))
        self.node = trie.advance(self.node, choice)
        self.written += 1
        if level == trie.depth - 1:
            self.items[:, :, (self.written - 1) // self.space.width] = trie.item_at(self.node)
            self._begin()
        return self.space.columns[level, choice]

    def _begin(self) -> None:
        self.node = self.space.trie.start(*self.shape)
