"""A candidate retriever: counts over what is visible of a log, asked behind contexts of it or any lists of items."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from stages.baselines.transitions import rank_items
from stages.core.spelling_sections import Fill
from stages.corpus.histories import Histories, Ints
from stages.retrievers.visible import visible_counts

ROWS = 1024  # contexts ranked at once


class BaseRetriever(ABC):
    """Counts once; a module of this folder offers its own as `Retriever`."""

    def __init__(self, histories: Histories, visible: Ints, counts: Fill) -> None:
        """visible: [U] the first items of each user that may be counted; counts: text.transitions."""
        self.histories, self.counts = histories, counts
        self.popularity = visible_counts(histories, visible)  # [N]

    @abstractmethod
    def scores(self, users: Ints, lists: Sequence[Ints]) -> sparse.csr_array:
        """[C, N] behind each list of items, oldest first, of users [C] who are not counted; -1 for one in no log."""

    def candidates(self, contexts: Ints, size: int, exclude_seen: bool) -> Ints:
        """The best `size` items of contexts [C, 2] (user, position): [C, size], -1 behind the last; ties go by
        popularity, then to the lower item number.
        """
        found = np.empty((len(contexts), size), dtype=np.int64)
        for start in range(0, len(contexts), ROWS):
            part = contexts[start : start + ROWS]
            before = self.histories.items_before(part)
            scores = self.scores(part[:, 0], before)
            hidden = before if exclude_seen else None
            scores = largest(scores, size + (max(map(len, before)) if exclude_seen else 0))
            found[start : start + ROWS] = rank_items(scores, hidden, self.popularity, size)[0]
        return found


def largest(scores: sparse.csr_array, count: int) -> sparse.csr_array:
    """The `count` largest of each row, and what ties with the last of them: ranking all of a row takes long."""
    kept = np.ones(len(scores.data), dtype=bool)
    for start, end in zip(scores.indptr[:-1], scores.indptr[1:], strict=True):
        if end - start > count:
            row = scores.data[start:end]
            kept[start:end] = row >= np.partition(row, -count)[-count]
    row = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    return sparse.coo_array((scores.data[kept], (row[kept], scores.indices[kept])), shape=scores.shape).tocsr()
