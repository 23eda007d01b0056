"""Candidates by transition counts: what followed the context's last items in the histories of other users.

The counts are those of the baseline `transitions`, over what SFT may see. What a user's own history adds to them is
taken off again: a training context would otherwise find its next item counted, and a pool there would promise more than
one at test time does. Ties go by popularity, which counts everybody.
"""

from dataclasses import replace

import numpy as np
from scipy import sparse

from stages.baselines import transitions
from stages.core.sections import Fill
from stages.corpus.histories import Histories, Ints
from stages.retrievers.visible import visible_counts

ROWS = 1024  # contexts ranked at once


def candidates(
    histories: Histories, visible: Ints, contexts: Ints, size: int, exclude_seen: bool, counts: Fill
) -> Ints:
    """The best `size` items of contexts [C, 2] (user, position): [C, size], -1 behind the last.

    visible [U]: the first items of each user that may be counted.
    """
    params = transitions.Params(**counts.model_dump(), list_length=size)
    matrix = transitions.transition_matrix(replace(histories, train_length=visible), params.window)
    own, popularity = OwnPairs(histories, visible, params.window), visible_counts(histories, visible)
    found = np.empty((len(contexts), size), dtype=np.int64)
    for start in range(0, len(contexts), ROWS):
        part = contexts[start : start + ROWS]
        before = histories.items_before(part)
        scores = transitions.scores(matrix, before, params) - own.scores(part, params.last_items, params.decay)
        scores.data = scores.data.round(transitions.DECIMALS)
        scores.eliminate_zeros()
        hidden = before if exclude_seen else None
        found[start : start + ROWS] = transitions.rank_items(scores, hidden, popularity, size)[0]
    return found


class OwnPairs:
    """What each user's own visible history adds to the counts of the items in it."""

    def __init__(self, histories: Histories, visible: Ints, window: int) -> None:
        count = histories.item_count
        length = np.diff(histories.offsets)
        user = np.repeat(np.arange(len(length)), length)
        self.key = user * count + histories.item  # [interactions] of user and item
        seen = np.arange(len(user)) - histories.offsets[user] < visible[user]
        self.known = np.unique(self.key[seen])
        earlier, later, weight = [], [], []
        first = np.arange(len(user))
        for distance in range(1, window + 1):
            pair = first[: len(user) - distance]
            pair = pair[(user[pair] == user[pair + distance]) & seen[pair + distance]]
            earlier.append(np.searchsorted(self.known, self.key[pair]))
            later.append(histories.item[pair + distance])
            weight.append(np.full(len(pair), 1 / distance))
        places = (np.concatenate(earlier), np.concatenate(later))
        shape = (len(self.known), count)
        self.counts = sparse.coo_array((np.concatenate(weight), places), shape=shape).tocsr()
        self.offsets = histories.offsets

    def scores(self, contexts: Ints, last_items: int, decay: float) -> sparse.csr_array:
        """Their part of the scores of contexts [C, 2]: [C, N]."""
        user, position = contexts.T
        row, place, value = [], [], []
        for age in range(last_items):
            voting = np.flatnonzero(position > age)
            key = self.key[self.offsets[user[voting]] + position[voting] - 1 - age]
            at = np.searchsorted(self.known, key).clip(max=len(self.known) - 1)
            there = self.known[at] == key
            row.append(voting[there])
            place.append(at[there])
            value.append(np.full(int(there.sum()), decay**age))
        shape = (len(contexts), len(self.known))
        votes = sparse.coo_array((np.concatenate(value), (np.concatenate(row), np.concatenate(place))), shape=shape)
        return votes.tocsr() @ self.counts
