"""Most popular items: the same list for everyone, less what the user has seen.

Of a corpus with tasks, those of the task's domain; of label_pred, how often the candidate was watched for long.
"""

import numpy as np

from stages.baselines.asked import Asked, Floats, Lists
from stages.core.section import Count, Section
from stages.corpus.histories import Histories, Ints

ROWS = 1024  # contexts ranked at once


class Params(Section):
    """Section `popularity` of params.yaml."""

    list_length: Count
    """n, items per list."""


def ranker(histories: Histories, params: Params) -> "Popularity":
    """Ready to recommend from the counts of the training parts. Nothing is random."""
    return Popularity(histories)


class Popularity:
    """The items by train_count."""

    def __init__(self, histories: Histories) -> None:
        self.histories = histories

    def ranked(self, asked: Asked) -> Lists:
        """Lists and their scores, train_count. Slots beyond the last item that is not left out hold -1 and score 0."""
        count = self.histories.train_count if asked.among is None else self.histories.train_count[asked.among]
        order = np.lexsort((np.arange(len(count)), -count))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        found = np.concatenate([_best(part, order, place) for part in asked.parts(ROWS)])
        return asked.named(found), np.where(found >= 0, count[found], 0).astype(np.float64)

    def judged(self, asked: Asked) -> Floats:
        """How likely a longview is: the share of the item's views, with one more of the domain's mean share. Views of
        which nobody knows whether they were long are not counted.
        """
        log, learnt_from = self.histories, self.histories.in_training()
        if log.feedback_known is not None:
            learnt_from &= log.feedback_known
        views, watched = (
            np.bincount(log.item[learnt_from], weights, minlength=log.item_count)
            for weights in (None, log.feedback["longview"][learnt_from])
        )
        about = slice(None) if asked.among is None else asked.among
        mean = watched[about].sum() / max(1, views[about].sum())
        return np.asarray(((watched + mean) / (views + 1))[asked.candidates])


def _best(asked: Asked, order: Ints, place: Ints) -> Ints:
    """Places [B, n] of the best items that are not left out; order: places from the best, place: the inverse."""
    lengths = [len(own) for own in asked.hidden]
    depth = min(len(order), asked.length + max(lengths))  # so many items hold n unseen ones
    row = np.repeat(np.arange(len(lengths)), lengths)
    column = place[np.concatenate(asked.hidden)]
    hidden = np.zeros((len(lengths), depth), dtype=bool)
    hidden[row[column < depth], column[column < depth]] = True
    chosen = np.argsort(hidden, axis=1, kind="stable")[:, : asked.length]
    found = np.full((len(lengths), asked.length), -1, dtype=np.int64)
    found[:, : chosen.shape[1]] = np.where(np.take_along_axis(hidden, chosen, axis=1), -1, order[chosen])
    return found
