"""What the language-model stages ask of an action space."""

from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from stages.action_spaces.trie import Trie
from stages.corpus.histories import Ints


class Prompts(NamedTuple):
    """Contexts as the model reads them, B users."""

    tokens: Tensor  # [B, P], padded on the right, where causal attention does not see it
    mask: Tensor  # [B, P] 1 where there is a token
    banned: Tensor  # [B, X] items that must not be recommended, -1 for none
    only: Tensor | None = None  # [B, Z] the items that may be recommended at all, -1 for none; None: the catalogue

    def to(self, device: torch.device | str) -> "Prompts":
        return Prompts(*(None if tensor is None else tensor.to(device) for tensor in self))

    def of(self, users: Ints) -> "Prompts":
        """The prompts of some users, without the padding that only others needed."""
        width = int(self.mask[users].sum(1).max())
        only = None if self.only is None else self.only[users]
        return Prompts(self.tokens[users, :width], self.mask[users, :width], self.banned[users], only)


class ActionSpace(Protocol):
    """How items are spelled. A module of this folder offers one as `Actions`."""

    trie: Trie
    columns: Tensor
    """[D, C] token of each code at each level of the trie: the only columns of the output layer that are computed."""
    vocabulary: int
    fingerprint: str
    """Hash of the spelling: a policy refuses to run on another one."""

    def __init__(self, folder: Path, items: int) -> None:
        """Load what the tokenizing stage wrote for a catalogue of `items`. Raises InputError where it is damaged."""

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors."""

    def history(self, items: Ints) -> Ints:
        """Token ids of a history that starts a sequence, oldest item first."""

    @property
    def slate_token(self) -> int:
        """The token that asks for a slate (sft.label: slate)."""


def pad(rows: list[Ints], value: int) -> tuple[Tensor, Tensor]:
    """Stack rows of different lengths into [B, P] with a mask of the same shape."""
    width = max(1, *(len(row) for row in rows))
    tokens = np.full((len(rows), width), value, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def prompts(
    space: ActionSpace,
    contexts: list[Ints],
    history_items: int,
    label: str,
    exclude_seen: bool,
    only: list[Ints] | None = None,
) -> Prompts:
    """Prompts of contexts (item numbers, oldest first), cut to their last `history_items` items.

    The whole context, not only what is shown, is banned where the data set excludes seen items. only: for each context
    the items that may be recommended at all, such as those of a category or new ones.
    """
    end = np.array([space.slate_token] if label == "slate" else [], dtype=np.int64)
    rows = [np.concatenate([space.history(context[-history_items:]), end]) for context in contexts]
    tokens, mask = pad(rows, 0)
    seen = [np.unique(context) if exclude_seen else context[:0] for context in contexts]
    if only is None:
        return Prompts(tokens, mask, pad(seen, -1)[0])
    seen = [np.intersect1d(own, listed) for own, listed in zip(seen, only, strict=True)]
    return Prompts(tokens, mask, pad(seen, -1)[0], pad([np.unique(listed) for listed in only], -1)[0])
