"""Transition counts of everybody else: those of stages/baselines/transitions.py, less what a context's own user added.

A context that was counted itself would find its next item counted, and promise more than one that was not.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from stages.baselines import transitions
from stages.corpus.histories import Histories, Ints


class OthersCounts:
    """Counts of the users' visible items; N items."""

    def __init__(self, histories: Histories, visible: Ints, params: transitions.Params) -> None:
        """visible: [U] the first items of each user that are counted."""
        self.params = params
        self.matrix = transitions.transition_matrix(replace(histories, train_length=visible), params.window)  # [N, N]
        self.own = OwnPairs(histories, visible, params.window)

    def scores(self, users: Ints, lists: Sequence[Ints]) -> sparse.csr_array:
        """[C, N] score of every item behind lists, oldest first, of users [C]; -1 for one who is not counted."""
        scores = transitions.scores(self.matrix, lists, self.params)
        scores = scores - self.own.scores(users, lists, self.params.last_items, self.params.decay)
        scores.data = scores.data.round(transitions.DECIMALS)
        scores.eliminate_zeros()
        return scores


class OwnPairs:
    """What each user's own visible history adds to the counts of the items in it."""

    def __init__(self, histories: Histories, visible: Ints, window: int) -> None:
        count = histories.item_count
        length = np.diff(histories.offsets)
        user = np.repeat(np.arange(len(length)), length)
        pairs = user * count + histories.item  # [interactions] of user and item
        seen = np.arange(len(user)) - histories.offsets[user] < visible[user]
        self.known = np.unique(pairs[seen])
        earlier, later = [], []
        first = np.arange(len(user))
        for distance in range(1, window + 1):
            pair = first[: len(user) - distance]
            pair = pair[(user[pair] == user[pair + distance]) & seen[pair + distance]]
            earlier.append(np.searchsorted(self.known, pairs[pair]).astype(np.int32))
            later.append(histories.item[pair + distance].astype(np.int32))
        self.counts = transitions.weighted_pairs(earlier, later, (len(self.known), count))
        self.item_count = count

    def scores(self, users: Ints, lists: Sequence[Ints], last_items: int, decay: float) -> sparse.csr_array:
        """Their part of the scores of lists of items, oldest first, of users [C]: [C, N]."""
        length = np.array([len(own) for own in lists], dtype=np.int64)
        row, place, value = [], [], []
        for age in range(last_items):
            voting = np.flatnonzero(length > age)
            item = np.array([lists[one][-1 - age] for one in voting.tolist()], dtype=np.int64)
            key = np.where(users[voting] >= 0, users[voting] * self.item_count + item, -1)
            at = np.searchsorted(self.known, key).clip(max=len(self.known) - 1)
            there = self.known[at] == key
            row.append(voting[there].astype(np.int32))
            place.append(at[there].astype(np.int32))
            value.append(np.full(int(there.sum()), decay**age))
        shape = (len(lists), len(self.known))
        votes = sparse.coo_array((np.concatenate(value), (np.concatenate(row), np.concatenate(place))), shape=shape)
        return votes.tocsr() @ self.counts
