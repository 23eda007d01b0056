"""What users did under RecIF's keywords, counted for pools: as tables, since a common word has most users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stages.corpus.histories import Histories, Ints
from stages.corpus.task_samples import Sample

Keywords = dict[int, list[tuple[str, Ints]]]  # user -> keywords, each once, and their items


@dataclass(frozen=True)
class Under:
    """What users did under which keyword, as far as it is visible: W keywords, P pairs of a user and a keyword."""

    word: dict[str, int]  # the row of `every`
    pair: dict[tuple[int, str], int]  # the row of `own`
    every: sparse.csr_array  # [W, N] how many users did each item under the keyword
    own: sparse.csr_array  # [P, N] 1 where the user did

    @classmethod
    def of(cls, histories: Histories, visible: Ints, keywords: Keywords) -> "Under":
        """Keywords of the same items as histories; visible [U]: the first items of each user that may be counted."""
        word: dict[str, int] = {}
        pair: dict[tuple[int, str], int] = {}
        of_pair, did = [], [np.empty(0, np.int64)]
        for user, words in keywords.items():
            known = histories.item[histories.offsets[user] : histories.offsets[user] + visible[user]]
            for name, items in words:
                pair[user, name] = len(pair)
                of_pair.append(word.setdefault(name, len(word)))
                did.append(np.intersect1d(items, known))
        row = np.repeat(np.arange(len(pair)), [len(items) for items in did[1:]])
        shape = len(pair), histories.item_count
        own = sparse.coo_array((np.ones(len(row)), (row, np.concatenate(did))), shape=shape).tocsr()
        at = np.array(of_pair, dtype=np.int64), np.arange(len(pair))
        gathered = sparse.coo_array((np.ones(len(pair)), at), shape=(len(word), len(pair))).tocsr() @ own
        return cls(word, pair, gathered, own)

    def by_others(self, samples: Sequence[Sample]) -> sparse.csr_array:
        """[C, N] how many others did each item under the sample's keyword."""
        named = [self.word.get(own.condition, -1) for own in samples]
        told = [self.pair.get((own.user, own.condition), -1) for own in samples]
        found = _rows(self.every, named) - _rows(self.own, told)
        found.eliminate_zeros()
        return found


def _rows(table: sparse.csr_array, rows: Sequence[int]) -> sparse.csr_array:
    """Rows [C] of a table, empty for -1: [C, N]."""
    place = np.flatnonzero(np.array(rows, dtype=np.int64) >= 0)
    chosen = np.array(rows, dtype=np.int64)[place]
    picked = sparse.coo_array((np.ones(len(place)), (place, chosen)), shape=(len(rows), table.shape[0])).tocsr()
    return picked @ table
