"""What sequence models are taught: windows of the training histories, in which every item predicts the next.

A history longer than a window is cut at a place drawn anew in each epoch, so that no item always stands first; each
item but a history's first is predicted once an epoch. Histories of one item or none teach nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.core.errors import InputError
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, Ints

GROUP = 64  # rows that are padded to one length


class Window(NamedTuple):
    """Items of a user, one more than are read: each is predicted from those before it."""

    user: int
    items: Ints


class Rows(NamedTuple):
    """Windows of like lengths, padded on the right with item 0."""

    user: Tensor  # [n]
    read: Tensor  # [n, L]
    target: Tensor  # [n, L]
    real: Tensor  # [n, L] False for padding


@dataclass(frozen=True)
class Windows:
    """The windows of a corpus."""

    histories: Histories
    length: int
    """L, items that are read at once."""
    shuffle_ties: bool
    """Whether the order inside a tie group is drawn anew in each epoch."""
    seed: int

    def __post_init__(self) -> None:
        inside_catalogue(self.histories)

    def batches(self, epoch: int, size: int) -> list[list[Window]]:
        """All windows of an epoch in an order drawn from (seed, epoch), with about `size` targets in each batch.

        Equally many targets, not windows: a step on short histories then weighs as much as one on long ones.
        """
        generator = numpy_generator(self.seed, "windows", epoch)
        windows = list(self._cut(generator))
        order = generator.permutation(len(windows))
        targets = np.array([len(windows[index].items) - 1 for index in order])
        batch = (np.cumsum(targets) - targets) // size
        parts = np.split(order, np.flatnonzero(np.diff(batch)) + 1) if len(order) else []
        return [[windows[index] for index in part] for part in parts]

    def _cut(self, generator: np.random.Generator) -> Iterator[Window]:
        for user in np.flatnonzero(self.histories.train_length > 1).tolist():
            items = self.histories.train(user)
            if self.shuffle_ties:
                items = items[np.lexsort([generator.random(len(items)), self.histories.train_ties(user)])]
            offset = int(generator.integers(self.length)) if len(items) > self.length + 1 else 0
            for part in np.split(np.arange(1, len(items)), range(offset, len(items) - 1, self.length)):
                if len(part):
                    yield Window(user, items[part[0] - 1 : part[-1] + 1])


def inside_catalogue(histories: Histories) -> None:
    """Raise InputError where a history has an item that the catalogue has not."""
    item, count = histories.item, histories.item_count
    if len(item) and (item.min() < 0 or item.max() >= count):
        raise InputError(f"corpus: an item of a history is outside the catalogue, 0..{count - 1}; rerun prepare")


def rows(windows: list[Window], device: torch.device) -> Iterator[Rows]:
    """The windows of a batch, longest first, in groups that are padded to their own longest."""
    ordered = sorted(windows, key=lambda window: -len(window.items))
    for start in range(0, len(ordered), GROUP):
        group = ordered[start : start + GROUP]
        items, real = padded([window.items for window in group], device)
        user = torch.tensor([window.user for window in group], device=device)
        yield Rows(user, items[:, :-1], items[:, 1:], real[:, 1:])


def padded(sequences: list[Ints], device: torch.device) -> tuple[Tensor, Tensor]:
    """Sequences as one tensor [n, L], item 0 behind each, and where the items are real."""
    lengths = np.array([len(items) for items in sequences])
    real = np.arange(max(1, lengths.max())) < lengths[:, None]
    whole = np.zeros(real.shape, dtype=np.int64)
    whole[real] = np.concatenate(sequences)
    return torch.from_numpy(whole).to(device), torch.from_numpy(real).to(device)
