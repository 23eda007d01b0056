"""Candidates by transition counts: what followed the context's last items in the histories of other users.

The counts are those of the baseline `transitions`, over what SFT may see. What a user's own history adds to them is
taken off again: a training context would otherwise find its next item counted, and a pool there would promise more than
one at test time does.
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
    popularity = visible_counts(histories, visible)
    found = np.empty((len(contexts), size), dtype=np.int64)
    for start in range(0, len(contexts), ROWS):
        part = contexts[start : start + ROWS]
        before = histories.items_before(part)
        scores = transitions.scores(matrix, before, params) - own_scores(histories, visible, part, params)
        scores.data = scores.data.round(transitions.DECIMALS)
        scores.eliminate_zeros()
        hidden = before if exclude_seen else None
        found[start : start + ROWS] = transitions.rank_items(scores, hidden, popularity, size)[0]
    return found


def own_scores(histories: Histories, visible: Ints, contexts: Ints, params: transitions.Params) -> sparse.csr_array:
    """What each context's own user adds to its scores: [C, N]."""
    user, position = contexts.T
    row, item, value = [], [], []
    for age in range(params.last_items):
        for distance in range(1, params.window + 1):
            voter, later = position - 1 - age, position - 1 - age + distance
            counted = np.flatnonzero((voter >= 0) & (later < visible[user]))
            row.append(counted)
            item.append(histories.item[histories.offsets[user[counted]] + later[counted]])
            value.append(np.full(len(counted), params.decay**age / distance))
    places = (np.concatenate(row), np.concatenate(item))
    return sparse.coo_array((np.concatenate(value), places), shape=(len(contexts), histories.item_count)).tocsr()
