"""Accuracy of ranked lists: recall, NDCG, hit rate (Sec. 4.1.3), reciprocal rank. All in [0, 1], one value per user.

The data sets here hold out one item per user. For that case the functions take the target's rank; the general ones
take a hit matrix and the number of targets, and agree with them where that number is 1. `auc` is of scores, not lists.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def rank_of(lists: Ints, target: Ints) -> Ints:
    """[U] the place, from 1, where the target [U] first stands in each list [U, L]; 0 where it does not."""
    return first_hit((lists == target[:, None]) & (target[:, None] >= 0))


def first_hit(hit: Bools) -> Ints:
    """[U] the place, from 1, of the first hit [U, L]; 0 where there is none."""
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0).astype(np.int64)


def recall_at_rank(rank: Ints, k: int) -> Floats:
    """[U] recall@k with one target: 1 where 1 <= rank <= k. It equals the hit rate."""
    return ((rank >= 1) & (rank <= k)).astype(np.float64)


def ndcg_at_rank(rank: Ints, k: int) -> Floats:
    """[U] NDCG@k with one target: 1 / log2(1 + rank) where 1 <= rank <= k, else 0 (the ideal DCG is 1)."""
    return np.asarray(recall_at_rank(rank, k) / np.log2(1 + np.maximum(rank, 1)))


def reciprocal_rank(rank: Ints, k: int) -> Floats:
    """[U] 1 / rank where 1 <= rank <= k, else 0; its mean over users is MRR@k (Voorhees 1999, TREC-8).

    rank [U] is of the target, or with several targets that of the first hit (`first_hit`).
    """
    return np.asarray(recall_at_rank(rank, k) / np.maximum(rank, 1))


def recall(hits: Bools, targets: Ints, k: int) -> Floats:
    """[U] share of a user's targets among the first k: hits [U, L] in the first k slots / targets [U].

    NaN for users without targets. A target that a list repeats is a hit at its first place only; the caller sees to it.
    """
    return _over(hits[:, :k].sum(axis=1).astype(np.float64), targets.astype(np.float64))


def ndcg(hits: Bools, targets: Ints, k: int) -> Floats:
    """[U] DCG@k = sum over hits at place p <= k of 1 / log2(1 + p), over the DCG of min(targets, k) hits at the top.

    hits [U, L], targets [U]; NaN for users without targets. Binary gains, as in the compared papers.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    gain = hits[:, :k] @ discount[: hits.shape[1]]
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(targets, k)]
    return _over(gain, ideal)


def hitrate(hits: Bools, targets: Ints, k: int) -> Floats:
    """[U] 1 where at least one target is among the first k; NaN for users without targets."""
    return np.where(targets > 0, hits[:, :k].any(axis=1), np.nan)


def auc(scores: Floats, labels: Bools) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, a tie counting half; 0.5 is chance.

    scores [n] without NaN, labels [n]. Mann-Whitney's U / (positives x negatives), where U is the sum of the positives'
    ranks, equal scores having their mean rank, less the least such sum. NaN where one class is missing.
    """
    _, value, count = np.unique(scores, return_inverse=True, return_counts=True)
    midrank = (np.cumsum(count) - (count - 1) / 2)[value]
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    return float((midrank[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def weighted_auc(scores: Floats, labels: Bools, weights: Floats) -> Floats:
    """[R] the same of samples that each count `weights` [R, n] times: ties half, NaN where a class has no weight."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])  # of the runs of equal scores
    ordered = weights[:, order]
    positive, negative = (np.add.reduceat(ordered * own[order], starts, axis=1) for own in (labels, ~labels))
    below = negative.cumsum(axis=1) - negative / 2
    return _over((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def _over(value: Floats, base: Floats) -> Floats:
    return np.asarray(np.divide(value, base, out=np.full(len(base), np.nan), where=base > 0))
