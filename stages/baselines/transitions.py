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

from stages.core.section import Count, Rate, Section
from stages.corpus.histories import Histories, Ints

Floats = npt.NDArray[np.float64]

ROWS = 1024  # users ranked at once
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


def recommend(histories: Histories, params: Params, split: str, exclude_seen: bool, seed: int) -> tuple[Ints, Floats]:
    """Lists for the users with a target in the split: items [U, n], best first, and their scores.

    Counts come from the training part alone, for both splits. Nothing is random.
    """
    users = np.flatnonzero(histories.target(split) >= 0)
    matrix = transition_matrix(histories, params.window)
    items = np.empty((len(users), params.list_length), dtype=np.int64)
    values = np.empty(items.shape)
    for start in range(0, len(users), ROWS):
        contexts = [histories.context(user, split) for user in users[start : start + ROWS]]
        found = scores(matrix, contexts, params)
        hidden = contexts if exclude_seen else None
        part = slice(start, start + ROWS)
        items[part], values[part] = rank_items(found, hidden, histories.train_count, params.list_length)
    return items, values


def transition_matrix(histories: Histories, window: int) -> sparse.csr_array:
    """[N, N] counts c[i, j] of the training parts, weighted by 1 / distance."""
    first = np.arange(len(histories.item))
    end = np.repeat(histories.offsets[:-1] + histories.train_length, np.diff(histories.offsets))
    earlier, later, weight = [], [], []
    for distance in range(1, window + 1):
        pair = first[first + distance < end]
        earlier.append(histories.item[pair])
        later.append(histories.item[pair + distance])
        weight.append(np.full(len(pair), 1 / distance))
    places = (np.concatenate(earlier), np.concatenate(later))
    shape = (histories.item_count, histories.item_count)
    return sparse.coo_array((np.concatenate(weight), places), shape=shape).tocsr()


def scores(matrix: sparse.csr_array, contexts: Sequence[Ints], params: Params) -> sparse.csr_array:
    """[rows, N] score of every item that ever followed one of the last items of a context (oldest item first)."""
    newest = [context[::-1][: params.last_items] for context in contexts]
    lengths = [len(own) for own in newest]
    row = np.repeat(np.arange(len(newest)), lengths)
    age = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    item = np.concatenate(newest)
    votes = sparse.coo_array((params.decay**age, (row, item)), shape=(len(newest), matrix.shape[0])).tocsr()
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
