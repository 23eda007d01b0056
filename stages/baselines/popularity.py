"""Most popular items: the same list for everyone, less what the user has seen.

Of a corpus with tasks, those of the task's domain; of label_pred, how often the candidate was watched for long.
"""

import numpy as np
import numpy.typing as npt

from stages.core.section import Count, Section
from stages.corpus.histories import Histories, Ints
from stages.corpus.recif_parts import PARTS
from stages.corpus.tasks import DOMAIN, Tasks

ROWS = 1024  # users ranked at once
TASK_LENGTH = 32  # of a task's list: the largest cut of its measures
Floats = npt.NDArray[np.float64]


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


def recommend_task(histories: Histories, tasks: Tasks, task: str, samples: int) -> tuple[Ints, Floats]:
    """One list for all samples of a task: items [S, 32] of its domain, by interactions of training parts."""
    counted = _learnt_from(histories, tasks, DOMAIN[task])
    count = np.bincount(histories.item[counted], minlength=histories.item_count)
    order = np.lexsort((np.arange(len(count)), -count))[:TASK_LENGTH]
    best = np.full(TASK_LENGTH, -1, dtype=np.int64)
    best[: len(order)] = np.where(count[order] > 0, order, -1)
    scores = np.where(best >= 0, count[best], 0).astype(np.float64)
    return np.tile(best, (samples, 1)), np.tile(scores, (samples, 1))


def judge_task(histories: Histories, tasks: Tasks, candidates: Ints) -> Floats:
    """How likely a longview of each candidate [S] is: the share of its views, with one more of the mean share [S]."""
    counted = _learnt_from(histories, tasks, "video")
    items, watched = histories.item[counted], histories.feedback["longview"][counted]
    views = np.bincount(items, minlength=histories.item_count)
    share = (np.bincount(items, watched, minlength=len(views)) + watched.mean()) / (views + 1)
    return np.where(candidates >= 0, share[candidates], watched.mean())


def _learnt_from(histories: Histories, tasks: Tasks, domain: str) -> npt.NDArray[np.bool_]:
    """[interactions] those of a domain in training parts."""
    place = np.arange(len(histories.item)) - np.repeat(histories.offsets[:-1], np.diff(histories.offsets))
    training = place < np.repeat(histories.train_length, np.diff(histories.offsets))
    own = [index for index, part in enumerate(PARTS) if part.endswith(domain)]
    return training & np.isin(tasks.parts(), own)
