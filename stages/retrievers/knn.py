"""Candidates by item-based nearest neighbours (Deshpande and Karypis 2004): what the users of the last items have too.

    cos(i, j) = c(i, j) / sqrt(n_i n_j)
    score(j | context) = sum over its last `last_items` items i, newest first with age 0, 1, .., of decay^age cos(i, j)

n_i: users with item i among what SFT may see; c(i, j): users with both, in any order and at any distance. A context's
own user is taken off n and c, as in transitions.py. Left out: the cut to the k nearest neighbours of each item.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from stages.baselines import transitions
from stages.core.spelling_sections import Fill
from stages.corpus.histories import Histories, Ints
from stages.retrievers.base import BaseRetriever


class Retriever(BaseRetriever):
    """What the counts say of any item beside others; their `window` has no part in it."""

    def __init__(self, histories: Histories, visible: Ints, counts: Fill) -> None:
        super().__init__(histories, visible, counts)
        owned = visible_items(histories, visible)
        self.users = np.bincount(owned.indices, minlength=histories.item_count)
        self.together = sparse.csr_array(owned.T @ owned - sparse.diags_array(self.users, dtype=np.float64))
        self.owned = sparse.vstack([owned, sparse.csr_array((1, owned.shape[1]))], format="csr")  # nobody, at the end

    def scores(self, users: Ints, lists: Sequence[Ints]) -> sparse.csr_array:
        own = self.owned[np.where(users < 0, self.owned.shape[0] - 1, users)]
        return neighbours(self.together, self.users, own, lists, self.counts)


def visible_items(histories: Histories, visible: Ints) -> sparse.csr_array:
    """[U, N] 1 where an item stands among the first visible[u] of user u."""
    length = np.diff(histories.offsets)
    user = np.repeat(np.arange(len(length)), length)
    place = np.arange(len(user)) - histories.offsets[user]
    counted = place < visible[user]
    ones = np.ones(int(counted.sum()))
    shape = (len(length), histories.item_count)
    owned = sparse.coo_array((ones, (user[counted], histories.item[counted])), shape=shape).tocsr()
    owned.data[:] = 1  # an item that a user has twice counts once
    return owned


def neighbours(
    together: sparse.csr_array, users: Ints, own: sparse.csr_array, contexts: Sequence[Ints], counts: Fill
) -> sparse.csr_array:
    """Scores [rows, N] of contexts (items, oldest first). together [N, N]: c, 0 on its diagonal; users [N]: n.

    own [rows, N]: the visible items of each context's user. Without that user n is one less for each of them and c for
    each pair of them: what the voters among them give to one of them is one less for each voter but itself.
    """
    newest = [context[::-1][: counts.last_items] for context in contexts]
    lengths = [len(items) for items in newest]
    row = np.repeat(np.arange(len(newest)), lengths)
    age = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = (row, np.concatenate(newest))
    votes = over_root(sparse.coo_array((counts.decay**age, places), shape=own.shape).tocsr(), users, own)
    from_own = votes.multiply(own)
    scores = votes @ together - (own.multiply(from_own.sum(axis=1)[:, None]) - from_own)
    found = over_root(sparse.csr_array(scores), users, own)
    found.data = found.data.round(transitions.DECIMALS)
    found.eliminate_zeros()
    return found


def over_root(values: sparse.csr_array, users: Ints, own: sparse.csr_array) -> sparse.csr_array:
    """Divide values [rows, N] by the root of how many other users have the item; 0 where none has."""
    by_all, by_others = (np.where(n > 0, 1 / np.sqrt(np.maximum(n, 1)), 0.0) for n in (users, users - 1))
    scaled, mine = values.copy(), sparse.csr_array(values.multiply(own))
    scaled.data *= by_all[scaled.indices]
    mine.data *= (by_others - by_all)[mine.indices]
    return sparse.csr_array(scaled + mine)
