"""RecIF's tasks measured on a row's lists: values by sample, and means with bootstrap intervals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.corpus.recif_parts import CODES
from stages.measures import accuracy, bootstrap, tasks
from stages.measures.slates import Lists
from stages.measures.summary import mean
from stages.measures.tasks import Answers

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FIRST_CODE = CODES**2  # what a Semantic ID is divided by


@dataclass(frozen=True)
class Judged:
    """A task's answers, and what tells them apart."""

    sids: Answers
    items: Answers | None  # None where the task names no pids
    cold: Bools  # [A] of sids: whether every item of the Semantic ID is cold
    domain: Ints  # Semantic IDs of the task's domain


def per_sample(sid: Ints, items: Ints, answers: Judged) -> dict[str, Floats]:
    """Values by sample [S] of predictions [S, n], best first: as Semantic IDs and as items, -1 for none.

    Only cuts that the lists reach: a list of 10 has no Pass@32. Entropy is that of the first codes of Semantic IDs, in
    bits, for want of categories. `domain_share` is of the whole list, less its empty places.
    """
    found = tasks.per_sample(sid, answers.sids, "sid")
    if answers.items is not None:
        found |= tasks.per_sample(items, answers.items, "pid")
    found["domain_share"] = tasks.share_among(sid, answers.domain)
    if sid.shape[1] >= 10:
        found["sid_entropy@10"] = tasks.label_entropy(np.where(sid < 0, -1, sid // FIRST_CODE)[:, :10])
        found["cold_recall@10"] = tasks.cold_recall_at(sid, answers.sids, answers.cold, 10)
    return found


def over_samples(
    columns: dict[str, Floats], resamples: int, confidence: float, generator: np.random.Generator
) -> dict[str, list[float]]:
    """Mean, lower and upper bound of each measure [S], and over how many samples each is."""
    bounds = bootstrap.interval(np.stack(list(columns.values()), axis=1), resamples, confidence, generator)
    found = {name: [mean(own), *bounds[:, place].tolist()] for place, (name, own) in enumerate(columns.items())}
    return found | {"samples": [len(next(iter(columns.values())))]}


def labels(
    table: pa.Table,
    lists: Lists,
    scores: Floats,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> dict[str, list[float]]:
    """AUC of label_pred with its bounds, and how many samples have a label and no score.

    scores: of lists.user, rows of the table.
    """
    label = table["label"].to_numpy(zero_copy_only=False).astype(bool)
    every = np.full(len(label), np.nan)
    every[lists.user] = scores
    auc, missing = tasks.label_auc(every, label)
    bounds = auc_interval(every, label, resamples, confidence, generator)
    return {"auc": [auc, *bounds.tolist()], "samples": [len(label)], "without_score": [missing]}


def auc_interval(
    scores: Floats, labels: Bools, resamples: int, confidence: float, generator: np.random.Generator
) -> Floats:
    """[2] bounds of the AUC over samples drawn anew; one without a score is drawn, too, and does not count. A draw
    without both labels counts for nothing; NaN where no draw has both.
    """
    known = np.flatnonzero(~np.isnan(scores))
    if not len(known):
        return np.full(2, np.nan)
    drawn = [
        accuracy.weighted_auc(scores[known], labels[known], weights[:, known])
        for weights in bootstrap.resampled_weights(len(scores), resamples, generator)
    ]
    return bootstrap.percentiles(np.concatenate(drawn)[:, None], confidence)[:, 0]
