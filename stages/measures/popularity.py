"""Popularity bias: how far lists prefer what training saw often, and what they recall of the long tail.

A long-tail catalogue is cut into head, middle and tail, each with a third of the training interactions. Popularity
bias, and its measures by mean popularity and by the share of long-tail items in a list: Abdollahpouri et al. 2019
(arXiv 1901.07555). Here counts are averaged as logarithms, or the head would drown the rest. Popularity and exposure
say what is shown; only recall by third says whether it was right.
"""

import numpy as np
import numpy.typing as npt

from stages.measures.accuracy import recall_at_rank

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HEAD, MIDDLE, TAIL = range(3)


def mean_log_popularity(items: Ints, train_count: Ints) -> Floats:
    """Mean of ln(1 + training interactions) over the slots that hold an item; NaN for a slate with none.

    items [..., L], train_count [N] -> [...], at least 0, in nats.
    """
    held = items >= 0
    logs = np.where(held, np.log1p(train_count)[np.where(held, items, 0)], 0.0).sum(axis=-1)
    slots = held.sum(axis=-1)
    return np.asarray(np.divide(logs, slots, out=np.full(slots.shape, np.nan), where=slots > 0))


def popularity_lift(mean_log: Floats, train_count: Ints) -> Floats:
    """How many times more popular items are than the catalogue's: the ratio of the geometric means of 1 + interactions.

    mean_log [...], the mean over users of `mean_log_popularity`; train_count [N] -> [...]. Items drawn evenly from the
    catalogue have 1. Means are taken of logarithms first: of the users' own ratios they would be above 1 by chance.
    """
    return np.asarray(np.exp(mean_log - np.log1p(train_count).mean()))


def thirds(train_count: Ints) -> Ints:
    """[N] HEAD, MIDDLE or TAIL of each item, by its training interactions [N]; each third holds about as many of them.

    Items stand from the most frequent down, of equal ones the lower number first; an item belongs to the third in which
    its interactions begin. Items that training never saw are tail.
    """
    order = np.lexsort((np.arange(len(train_count)), -train_count))
    count = train_count[order]
    begin = np.cumsum(count) - count
    found = np.empty(len(train_count), dtype=np.int64)
    found[order] = np.where(count > 0, 3 * begin // max(1, int(count.sum())), TAIL)
    return found


def recall_by_third(rank: Ints, target_third: Ints, k: int) -> Floats:
    """[U, 3] recall@k in the column of the third that the target is in, NaN in the others.

    rank [U] from 1 (0 absent), target_third [U].
    """
    inside = target_third[:, None] == np.arange(3)
    return np.where(inside, recall_at_rank(rank, k)[:, None], np.nan)


def exposure_by_third(items: Ints, third: Ints, k: int) -> Floats:
    """[U, 3] share of a user's first k slots in each third: items [U, L], third [N]; a slot with -1 is in none."""
    top = items[:, :k]
    shown = np.where(top >= 0, third[np.where(top >= 0, top, 0)], -1)
    return np.stack([(shown == own).mean(axis=1) for own in range(3)], axis=1)
