"""What retrievers may look at: the history before a context, and what is visible of the log."""

import numpy as np

from stages.corpus.histories import Histories, Ints


def items_before(histories: Histories, contexts: Ints) -> list[Ints]:
    """The user's items before each context [C, 2] of (user, position), oldest first."""
    start = histories.offsets[contexts[:, 0]]
    return [histories.item[first : first + position] for first, position in zip(start, contexts[:, 1], strict=True)]


def visible_counts(histories: Histories, visible: Ints) -> Ints:
    """[N] how often each item stands among the first visible[u] of the users u."""
    length = np.diff(histories.offsets)
    place = np.arange(len(histories.item)) - np.repeat(histories.offsets[:-1], length)
    return np.bincount(histories.item[place < np.repeat(visible, length)], minlength=histories.item_count)
