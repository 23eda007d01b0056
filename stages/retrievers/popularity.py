"""Candidates by popularity: the most frequent items, less what the user has seen."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from stages.corpus.histories import Ints
from stages.retrievers.base import ROWS, BaseRetriever


class Retriever(BaseRetriever):
    """Nothing that hangs on a list: ties, and all are, go by popularity."""

    def scores(self, users: Ints, lists: Sequence[Ints]) -> sparse.csr_array:
        return sparse.csr_array((len(lists), len(self.popularity)))  # zeros

    def candidates(self, contexts: Ints, size: int, exclude_seen: bool) -> Ints:
        """As any retriever's; less is ranked where all rank alike."""
        order = np.lexsort((np.arange(len(self.popularity)), -self.popularity))
        place = np.argsort(order)
        found = np.full((len(contexts), size), -1, dtype=np.int64)
        for start in range(0, len(contexts), ROWS):
            part = contexts[start : start + ROWS]
            seen = self.histories.items_before(part) if exclude_seen else [order[:0]] * len(part)
            depth = min(len(order), size + max(map(len, seen)))  # so many hold `size` that are not seen
            row, column = np.repeat(np.arange(len(part)), [len(own) for own in seen]), place[np.concatenate(seen)]
            hidden = np.zeros((len(part), depth), dtype=bool)
            hidden[row[column < depth], column[column < depth]] = True
            first = np.argsort(hidden, axis=1, kind="stable")[:, :size]
            kept = np.where(np.take_along_axis(hidden, first, axis=1), -1, order[first])
            found[start : start + ROWS, : kept.shape[1]] = kept
        return found
