"""The encoder of SASRec and ReaRec: causal self-attention over item embeddings, which are the output weights as well.

B rows, L items, Q queries of a row, h hidden, H heads, N items. Blocks normalise behind each part (post-LN), as
BERT4Rec's and RecBole's do; SASRec's paper (arXiv 1808.09781, Sec. III-C) normalises before, with ReLU in the middle.
"""

from typing import Annotated, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from stages.core.section import Count, Section

STD = 0.02  # of initial weights, as BERT's
EPS = 1e-12

Pair = tuple[Tensor, Tensor]


class Memory(NamedTuple):
    """Keys and values of one block, [B, H, L, h / H] of the items, and what each query has added after them."""

    items: Pair
    own: list[Pair]  # [B, H, Q, h / H] each: a query sees its own alone


class Size(Section):
    """An encoder's size."""

    length: Annotated[int, Field(ge=2)]
    """L, items that are read at once: the latest of a context."""
    hidden: Count
    """Width of embeddings and states."""
    blocks: Count
    heads: Count
    feed_forward: Count
    """Width inside a block."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Of inputs, attention weights and what blocks add."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is no multiple of heads {self.heads}")
        return self


class Block(nn.Module):
    """Multi-head attention and a feed-forward layer."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        hidden, feed_forward, self.heads = size.hidden, size.feed_forward, size.heads
        self.query, self.key_value = nn.Linear(hidden, hidden), nn.Linear(hidden, 2 * hidden)
        self.mixed = nn.Linear(hidden, hidden)
        self.wide, self.narrow = nn.Linear(hidden, feed_forward), nn.Linear(feed_forward, hidden)
        self.attended_norm, self.norm = nn.LayerNorm(hidden, EPS), nn.LayerNorm(hidden, EPS)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, state: Tensor, mask: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """States [B, Q, h] of queries that see the items of the mask [.., Q, L], and what the memory has of their own.

        Without a memory the queries are the items. Returns the states after the block, and the memory with them in it.
        """
        query = self._split(self.query(state))
        key, value = (self._split(part) for part in self.key_value(state).chunk(2, -1))
        memory = Memory((key, value), []) if memory is None else Memory(memory.items, [*memory.own, (key, value)])
        keys, values = memory.items
        scores = (query @ keys.transpose(-1, -2)).masked_fill(~mask, -torch.inf)  # [B, H, Q, L]
        own = [(query * mine).sum(-1, keepdim=True) for mine, _ in memory.own]
        weight = (torch.cat([scores, *own], -1) / query.shape[-1] ** 0.5).softmax(-1)
        weight = self.dropout(weight)
        attended = weight[..., : keys.shape[2]] @ values
        for place, (_, mine) in enumerate(memory.own, keys.shape[2]):
            attended = attended + weight[..., place : place + 1] * mine
        state = self.attended_norm(state + self.dropout(self.mixed(attended.transpose(1, 2).flatten(2))))
        middle = functional.gelu(self.wide(state))
        return self.norm(state + self.dropout(self.narrow(middle))), memory

    def _split(self, state: Tensor) -> Tensor:
        """[B, Q, h] -> [B, H, Q, h / H]."""
        return state.view(*state.shape[:2], self.heads, -1).transpose(1, 2)


class Encoder(nn.Module):
    """Items [B, L] to states [B, L, h]: the state at an item scores what comes next, by the item embeddings.

    Rows are padded on the right: no item sees what is behind it, so what stands there is idle.
    """

    items: nn.Embedding


class ItemEncoder(Encoder):
    """Causal self-attention over items and their positions."""

    def __init__(self, items: int, size: Size) -> None:
        super().__init__()
        self.items, self.positions = nn.Embedding(items, size.hidden), nn.Embedding(size.length, size.hidden)
        self.norm, self.dropout = nn.LayerNorm(size.hidden, EPS), nn.Dropout(size.dropout)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.blocks))
        self.apply(_draw)

    def forward(self, items: Tensor) -> Tensor:
        """[B, L] items -> [B, L, h]: the state at an item predicts the next one."""
        return self.read(items)[0]

    def read(self, items: Tensor) -> tuple[Tensor, list[Memory]]:
        """The same, and each block's memory of the items."""
        places = torch.arange(items.shape[1], device=items.device)
        return self.through(self.items(items) + self.positions(places), causal(items), None)

    def through(self, state: Tensor, mask: Tensor, memories: list[Memory] | None) -> tuple[Tensor, list[Memory]]:
        """Pass inputs [B, Q, h] through all blocks, after what the memories hold."""
        state, after = self.dropout(self.norm(state)), []
        for place, block in enumerate(self.blocks):
            state, memory = block(state, mask, memories and memories[place])
            after.append(memory)
        return state, after


def causal(items: Tensor) -> Tensor:
    """[L, L] which of the items [B, L] each place sees."""
    places = torch.arange(items.shape[1], device=items.device)
    return places[:, None] >= places


def up_to(items: Tensor, last: Tensor) -> Tensor:
    """[B, 1, 1, L] which of the items [B, L] one query of each row sees: those up to place `last` [B]."""
    return (torch.arange(items.shape[1], device=items.device) <= last[:, None])[:, None, None]


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
