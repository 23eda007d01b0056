"""Slates of names while a model writes them unaided: any token of the vocabulary, read as lines when they are whole."""

from collections.abc import Callable

import torch
from torch import Tensor

from stages.action_spaces.base import Pool


class LineWalk:
    """K slates of L lines for each of B users; see `Walk`. V tokens of the vocabulary, all of which are choices.

    A slate ends with its L-th line break, where the model ends its turn, or with as many tokens as L of the pool's
    longest names have. A line that names no candidate is the null action, -1; a candidate may be named twice.
    """

    def __init__(
        self,
        pool: Pool,
        slates: int,
        length: int,
        line_breaks: Tensor,
        end_of_turn: int,
        parse: Callable[[Tensor, Pool, int], Tensor],
    ) -> None:
        """line_breaks [V'] and end_of_turn: as of the space; parse: what reads tokens [B, K, T] as [B, K, L] items."""
        self.pool, self.length, self.parse = pool, length, parse
        device = pool.items.device
        self.line_breaks, self.end_of_turn = line_breaks.to(device), end_of_turn
        self.most = length * pool.spelled.shape[2]
        self.written = torch.zeros(len(pool.items), slates, dtype=torch.int64, device=device)  # lines
        self.depth = torch.zeros_like(self.written)  # tokens of the line that is being written
        self.tokens: list[Tensor] = []  # [B, K] each, -1 behind a slate's end

    @property
    def items(self) -> Tensor:
        """[B, K, L] the candidates that whole and begun lines name."""
        if not self.tokens:
            return torch.full((*self.written.shape, self.length), -1, device=self.written.device)
        return self.parse(torch.stack(self.tokens, 2), self.pool, self.length)

    @property
    def place(self) -> Tensor:
        """[B, K] the line that is being written."""
        return self.written.clamp(max=self.length - 1)

    @property
    def writing(self) -> Tensor:
        """[B, K] whether the slate may go on."""
        return (self.written < self.length) & (len(self.tokens) < self.most)

    def open(self) -> Tensor:
        """[B, K, 1] every token, at once."""
        return torch.ones_like(self.written, dtype=torch.bool)[..., None]

    def towards(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The token [B, K] that goes on with the slates' items at their places, and whether the pool holds them."""
        item = items.gather(2, self.place[..., None])
        found = (self.pool.items[:, None] == item) & (item >= 0)  # [B, K, N]
        number = found.long().argmax(2)
        spelled = self.pool.spelled.gather(1, number[..., None].expand(-1, -1, self.pool.spelled.shape[2]))
        at = self.depth.clamp(max=spelled.shape[2] - 1)
        choice = spelled.gather(2, at[..., None])[..., 0]
        return self.pool.columns.gather(1, choice.clamp(min=0)), found.any(2) & (choice >= 0)

    def take(self, choice: Tensor) -> Tensor:
        """Write a token of each slate; the tokens [B, K]."""
        self.tokens.append(choice.where(self.writing, -1))
        breaks = self.line_breaks[choice.clamp(max=len(self.line_breaks) - 1)]
        self.depth = (self.depth + 1).masked_fill(breaks > 0, 0)
        self.written = (self.written + breaks).masked_fill(choice == self.end_of_turn, self.length)
        return choice
