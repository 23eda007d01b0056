"""Candidates by popularity: the most frequent items, less what the user has seen."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from stages.core.spelling_sections import Fill
from stages.corpus.histories import Histories, Ints
from stages.retrievers.visible import visible_counts

ROWS = 1024  # contexts ranked at once


def candidates(
    histories: Histories, visible: Ints, contexts: Ints, size: int, exclude_seen: bool, counts: Fill
) -> Ints:
    """The `size` most frequent items of contexts [C, 2] (user, position): [C, size], -1 behind the last.

    visible [U]: the first items of each user that may be counted. Equal counts: lower item number first. counts: has no
    part in it.
    """
    order = np.lexsort((np.arange(histories.item_count), -visible_counts(histories, visible)))
    place = np.argsort(order)
    found = np.full((len(contexts), size), -1, dtype=np.int64)
    for start in range(0, len(contexts), ROWS):
        part = contexts[start : start + ROWS]
        seen = histories.items_before(part) if exclude_seen else [order[:0]] * len(part)
        depth = min(len(order), size + max(map(len, seen)))  # so many hold `size` that are not seen
        row, column = np.repeat(np.arange(len(part)), [len(own) for own in seen]), place[np.concatenate(seen)]
        hidden = np.zeros((len(part), depth), dtype=bool)
        hidden[row[column < depth], column[column < depth]] = True
        first = np.argsort(hidden, axis=1, kind="stable")[:, :size]
        kept = np.where(np.take_along_axis(hidden, first, axis=1), -1, order[first])
        found[start : start + ROWS, : kept.shape[1]] = kept
    return found


class Scorer:
    """Nothing that hangs on a list: ties, and all are, go by popularity."""

    def __init__(self, histories: Histories, visible: Ints, counts: Fill) -> None:
        self.item_count = histories.item_count

    def scores(self, users: Ints, lists: Sequence[Ints]) -> sparse.csr_array:
        """[C, N] of zeros."""
        return sparse.csr_array((len(lists), self.item_count))
