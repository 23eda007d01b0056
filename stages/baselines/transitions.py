"""Item-to-item transition counts: what followed the user's last items in other histories.

    c[i, j] = sum over pairs (i at p, j at p + d) of the training part, 1 <= d <= window, of 1 / d
    score(j | context) = sum over its last `last_items` items i, newest first with age 0, 1, .., of decay^age * c[i, j]

No learning and little to tune, so a learnt model has to beat it: always reported. `sft` and the retriever of that name
use the same counts. Left out: any normalisation by popularity.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stages.baselines.asked import Asked, Floats, Lists
from stages.core.section import Count, Rate, Section
from stages.corpus.histories import Histories, Ints

ROWS = 1024  # contexts ranked at once
DECIMALS = 9  # scores that differ only by the order of a sum have to tie


class Params(Section):
    """Section `transitions` of params.yaml."""

    window: Count
    """Largest distance d of a counted pair."""
    last_items: Count
    """Items of the context that vote."""
    decay: Rate
    """Factor of a vote per step of age."""
    list_length: Count
    """n, items per list."""


def ranker(histories: Histories, params: Params) -> "Transitions":
    """Ready to recommend from the counts of the training parts. Nothing is random."""
    return Transitions(histories, params)


class Transitions:
    """The items by what followed a context's last ones."""

    def __init__(self, histories: Histories, params: Params) -> None:
        self.matrix, self.params = transition_matrix(histories, params.window), params
        self.train_count = histories.train_count

    def ranked(self, asked: Asked) -> Lists:
        """Lists and their scores; see rank_items."""
        count = self.train_count if asked.among is None else self.train_count[asked.among]
        found = []
        for part in asked.parts(ROWS):
            score = scores(self.matrix, part.contexts, self.params)
            own = score if asked.among is None else score[:, asked.among]
            found.append(rank_items(own, part.hidden, count, asked.length))
        places, values = (np.concatenate(own) for own in zip(*found, strict=True))
        return asked.named(places), values

    def judged(self, asked: Asked) -> Floats:
        """The scores of the candidates, 0 for one that followed none of the context's last items."""
        found = []
        for part in asked.parts(ROWS):
            score = scores(self.matrix, part.contexts, self.params)
            found.append(np.asarray(score[np.arange(len(part.contexts)), part.candidates]))
        return np.concatenate(found)


def transition_matrix(histories: Histories, window: int) -> sparse.csr_array:
    """[N, N] counts c[i, j] of the training parts, weighted by 1 / distance."""
    first = np.arange(len(histories.item))
    end = np.repeat(histories.offsets[:-1] + histories.train_length, np.diff(histories.offsets))
    earlier, later = [], []
    for distance in range(1, window + 1):
        pair = first[first + distance < end]
        earlier.append(histories.item[pair].astype(np.int32))
        later.append(histories.item[pair + distance].astype(np.int32))
    return weighted_pairs(earlier, later, (histories.item_count, histories.item_count))


def weighted_pairs(
    earlier: list[npt.NDArray[np.int32]], later: list[npt.NDArray[np.int32]], shape: tuple[int, int]
) -> sparse.csr_array:
    """Counts of pairs by place and later item, weighted by 1 / distance; both by distance, from 1.

    In numbers of 32 bits: of a log of 10^8 interactions the pairs are most of what is in memory.
    """
    weight = np.repeat(1 / np.arange(1, len(earlier) + 1), [len(own) for own in earlier])
    places = (np.concatenate(earlier), np.concatenate(later))
    return sparse.coo_array((weight, places), shape=shape).tocsr()


def scores(matrix: sparse.csr_array, contexts: Sequence[Ints], params: Params) -> sparse.csr_array:
    """[rows, N] score of every item that ever followed one of the last items of a context (oldest item first)."""
    newest = [context[::-1][: params.last_items] for context in contexts]
    lengths = [len(own) for own in newest]
    row = np.repeat(np.arange(len(newest)), lengths)
    age = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    item = np.concatenate(newest)
    places = row.astype(np.int32), item.astype(np.int32)  # numbers as the matrix has them, or it would be copied
    votes = sparse.coo_array((params.decay**age, places), shape=(len(newest), matrix.shape[0])).tocsr()
    found = votes @ matrix
    found.data = found.data.round(DECIMALS)
    return found


def rank_items(
    found: sparse.csr_array, hidden: Sequence[Ints] | None, train_count: Ints, length: int
) -> tuple[Ints, Floats]:
    """Best items of each row of scores [rows, N], less its hidden items: items [rows, length] and their scores.

    Equal scores: higher train_count first, then lower item number. Rows with fewer scored items go on with the most
    popular ones at score 0; slots beyond the last item that is not hidden hold -1.
    """
    rows, item_count = found.shape
    order = np.lexsort((np.arange(item_count), -train_count))
    place = np.empty_like(order)
    place[order] = np.arange(item_count)
    scored = found.tocoo()
    row, item = scored.row.astype(np.int64), scored.col.astype(np.int64)
    own = [np.empty(0, dtype=np.int64)] * rows if hidden is None else hidden
    lengths = [len(part) for part in own]
    barred = np.repeat(np.arange(rows), lengths) * item_count + np.concatenate(own)
    open_ = ~np.isin(row * item_count + item, barred)
    row, item, score = row[open_], item[open_], scored.data[open_]

    short = np.flatnonzero(np.bincount(row, minlength=rows) < length)
    depth = min(item_count, length + max(lengths))  # so many popular items hold `length` that are not hidden
    fill_row, fill_item = np.repeat(short, depth), np.tile(order[:depth], len(short))
    fresh = ~np.isin(fill_row * item_count + fill_item, np.concatenate([barred, row * item_count + item]))
    row, item = np.concatenate([row, fill_row[fresh]]), np.concatenate([item, fill_item[fresh]])
    score = np.concatenate([score, np.zeros(int(fresh.sum()))])

    best = np.lexsort((place[item], -score, row))
    row, item, score = row[best], item[best], score[best]
    slot = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
    kept = slot < length
    items = np.full((rows, length), -1, dtype=np.int64)
    values = np.zeros((rows, length))
    items[row[kept], slot[kept]] = item[kept]
    values[row[kept], slot[kept]] = score[kept]
    return items, values
