"""Candidates by transition counts: what followed the context's last items in the histories of other users.

The counts are those of the baseline `transitions`, over what SFT may see. What a user's own history adds to them is
taken off again: a training context would otherwise find its next item counted, and a pool there would promise more than
one at test time does. Ties go by popularity, which counts everybody.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from stages.baselines import transitions
from stages.core.spelling_sections import Fill
from stages.corpus.histories import Histories, Ints
from stages.retrievers.base import BaseRetriever


class Retriever(BaseRetriever):
    """What the counts say of any item behind others."""

    def __init__(self, histories: Histories, visible: Ints, counts: Fill) -> None:
        super().__init__(histories, visible, counts)
        self.params = transitions.Params(**counts.model_dump(), list_length=1)
        self.matrix = transitions.transition_matrix(replace(histories, train_length=visible), counts.window)
        self.own = OwnPairs(histories, visible, counts.window)

    def scores(self, users: Ints, lists: Sequence[Ints]) -> sparse.csr_array:
        params = self.params
        scores = transitions.scores(self.matrix, lists, params)
        scores = scores - self.own.scores(users, lists, params.last_items, params.decay)
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
            item = np.array([lists[one][-1 - age] for one in voting], dtype=np.int64)
            key = np.where(users[voting] >= 0, users[voting] * self.item_count + item, -1)
            at = np.searchsorted(self.known, key).clip(max=len(self.known) - 1)
            there = self.known[at] == key
            row.append(voting[there].astype(np.int32))
            place.append(at[there].astype(np.int32))
            value.append(np.full(int(there.sum()), decay**age))
        shape = (len(lists), len(self.known))
        votes = sparse.coo_array((np.concatenate(value), (np.concatenate(row), np.concatenate(place))), shape=shape)
        return votes.tocsr() @ self.counts
