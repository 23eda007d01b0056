"""Most popular items: the same list for everyone, less what the user has seen."""

import numpy as np
import numpy.typing as npt

from stages.core.section import Count, Section
from stages.corpus.histories import Histories, Ints

ROWS = 1024  # users ranked at once


class Params(Section):
    """Section `popularity` of params.yaml."""

    list_length: Count
    """n, items per list."""


def recommend(
    histories: Histories, params: Params, split: str, exclude_seen: bool, seed: int
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Lists for the users with a target in the split: items [U, n], best first, and their scores, train_count.

    Equal counts: lower item number first. Slots beyond the last unseen item hold -1 and score 0. Nothing is random.
    """
    users = np.flatnonzero(histories.target(split) >= 0)
    order = np.lexsort((np.arange(histories.item_count), -histories.train_count))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    items = np.full((len(users), params.list_length), -1, dtype=np.int64)
    for start in range(0, len(users), ROWS):
        seen = [histories.context(user, split) if exclude_seen else order[:0] for user in users[start : start + ROWS]]
        lengths = [len(own) for own in seen]
        depth = min(len(order), params.list_length + max(lengths))  # so many items hold n unseen ones
        row = np.repeat(np.arange(len(seen)), lengths)
        column = place[np.concatenate(seen)]
        hidden = np.zeros((len(seen), depth), dtype=bool)
        hidden[row[column < depth], column[column < depth]] = True
        chosen = np.argsort(hidden, axis=1, kind="stable")[:, : params.list_length]
        kept = np.where(np.take_along_axis(hidden, chosen, axis=1), -1, order[chosen])
        items[start : start + ROWS, : kept.shape[1]] = kept
    return items, np.where(items >= 0, histories.train_count[items], 0).astype(np.float64)
