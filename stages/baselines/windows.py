"""What sequence models are taught: windows of the training histories, in which every item predicts the next.

A history longer than a window is cut at a place drawn anew in each epoch, so that no item always stands first; each
item but a history's first is predicted once an epoch. With a stride below the length windows overlap: only the last
`stride` items of each are predicted, all of them behind at least length - stride others, or all that there are.
Histories of one item or none teach nothing.
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
    """Items of a user, one more than are read: each is predicted from those before it, but for the context's."""

    user: int
    items: Ints
    context: int = 0
    """Places that are read and predict nothing: what stands behind them is predicted in another window."""

    @property
    def targets(self) -> int:
        return len(self.items) - 1 - self.context


class Rows(NamedTuple):
    """Windows of like lengths, padded on the right with item 0."""

    user: Tensor  # [n]
    read: Tensor  # [n, L]
    target: Tensor  # [n, L]
    real: Tensor  # [n, L] whether what stands behind a place is predicted from it: False for context and padding


@dataclass(frozen=True)
class Windows:
    """The windows of a corpus."""

    histories: Histories
    length: int
    """L, items that are read at once."""
    shuffle_ties: bool
    """Whether the order inside a tie group is drawn anew in each epoch."""
    seed: int
    stride: int | None = None
    """Items that a window predicts, at most; None: length."""

    def __post_init__(self) -> None:
        inside_catalogue(self.histories)

    def batches(self, epoch: int, size: int) -> list[list[Window]]:
        """All windows of an epoch in an order drawn from (seed, epoch), with about `size` targets in each batch.

        Equally many targets, not windows: a step on short histories then weighs as much as one on long ones.
        """
        generator = numpy_generator(self.seed, "windows", epoch)
        windows = list(self._cut(generator))
        order = generator.permutation(len(windows))
        targets = np.array([windows[index].targets for index in order])
        batch = (np.cumsum(targets) - targets) // size
        parts = np.split(order, np.flatnonzero(np.diff(batch)) + 1) if len(order) else []
        return [[windows[index] for index in part] for part in parts]

    def _cut(self, generator: np.random.Generator) -> Iterator[Window]:
        for user in np.flatnonzero(self.histories.train_length > 1).tolist():
            items = self.histories.train(user)
            if self.shuffle_ties:
                items = items[np.lexsort([generator.random(len(items)), self.histories.train_ties(user)])]
            stride = self.stride or self.length
            offset = int(generator.integers(stride)) if len(items) > self.length + 1 else 0
            for part in np.split(np.arange(1, len(items)), range(offset, len(items) - 1, stride)):
                if len(part):
                    start = max(0, part[-1] - self.length) if self.stride else part[0] - 1
                    yield Window(user, items[start : part[-1] + 1], int(part[0] - 1 - start))


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
        user, context = torch.tensor([[window.user, window.context] for window in group], device=device).T
        told = torch.arange(items.shape[1] - 1, device=device) >= context[:, None]
        yield Rows(user, items[:, :-1], items[:, 1:], real[:, 1:] & told)


def padded(sequences: list[Ints], device: torch.device) -> tuple[Tensor, Tensor]:
    """Sequences as one tensor [n, L], item 0 behind each, and where the items are real."""
    lengths = np.array([len(items) for items in sequences])
    real = np.arange(max(1, lengths.max())) < lengths[:, None]
    whole = np.zeros(real.shape, dtype=np.int64)
    whole[real] = np.concatenate(sequences)
    return torch.from_numpy(whole).to(device), torch.from_numpy(real).to(device)
