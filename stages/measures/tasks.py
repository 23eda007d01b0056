"""RecIF-Bench's measures: Pass@k, Position1_Pass@k, Recall@k, AUC (OpenOneRec's evaluation), and the paper's Table 4.

A sample has one list of predictions, best first, and an answer of several items, each once and in order. Both are
Semantic IDs as numbers (`sid`) or item numbers (`pid`), -1 for a prediction that is none. A list is cut at k as it
stands: a prediction that stands there twice takes two places, and is one hit. Every sample counts, also one without
any prediction, and of items one whose answer names none. The official code raises TypeError in recall, where it
intersects a set with a list; here it is meant.

S samples, n predictions, k the cut.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.measures import accuracy

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
CUTS = (1, 32)


@dataclass(frozen=True)
class Answers:
    """What is right for each of S samples."""

    flat: Ints  # [A] of one sample after the other; -1 for an item that nobody can name
    offsets: Ints  # [S + 1]

    @classmethod
    def of(cls, lists: pa.Array | pa.ChunkedArray) -> Self:
        """Lists of a table's column."""
        whole = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
        length = pc.list_value_length(whole).fill_null(0).to_numpy()
        flat = whole.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(flat, np.r_[0, np.cumsum(length)].astype(np.int64))

    @property
    def length(self) -> Ints:
        """How many each sample has [S]."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> Ints:
        """Sample of each answer [A]."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.length)

    @property
    def first(self) -> Ints:
        """[S] the answer that comes first; -1 where there is none."""
        padded = np.r_[self.flat, -1]
        return np.where(self.length > 0, padded[self.offsets[:-1]], -1)

    def hit_by(self, predicted: Ints) -> Bools:
        """[A] which of them stand among predictions [S, n] of their sample."""
        own, pairs = _pairs(predicted, self)
        return np.asarray(np.isin(pairs, own[(predicted >= 0).ravel()]) & (self.flat >= 0))


def _pairs(predicted: Ints, answers: Answers) -> tuple[Ints, Ints]:
    """(sample, value) as one number each: of predictions [S * n] and of answers [A]."""
    values, number = np.unique(np.r_[predicted.ravel(), answers.flat], return_inverse=True)
    sample = np.r_[np.repeat(np.arange(len(predicted)), predicted.shape[1]), answers.owner]
    pairs = sample * len(values) + number.ravel()
    return pairs[: predicted.size], pairs[predicted.size :]


def pass_at(predicted: Ints, answers: Answers, k: int) -> Floats:
    """[S] Pass@k: 1 where any of the first k of predictions [S, n] is in the answer."""
    hit = answers.hit_by(predicted[:, :k])
    return np.asarray(np.bincount(answers.owner[hit], minlength=len(predicted)) > 0, dtype=np.float64)


def position1_pass_at(predicted: Ints, answers: Answers, k: int) -> Floats:
    """[S] Position1_Pass@k: 1 where the first answer is among the first k of predictions [S, n]."""
    first = answers.first[:, None]
    return np.asarray(((predicted[:, :k] == first) & (first >= 0)).any(axis=1), dtype=np.float64)


def recall_at(predicted: Ints, answers: Answers, k: int) -> Floats:
    """[S] Recall@k: share of the answer among the first k of predictions [S, n]; 0 without an answer, as Pass@k."""
    share = _share(answers.hit_by(predicted[:, :k]), np.ones(len(answers.flat), dtype=bool), answers)
    return np.where(answers.length > 0, share, 0.0)


def cold_recall_at(predicted: Ints, answers: Answers, cold: Bools, k: int) -> Floats:
    """[S] the same of the answers that are cold, cold [A]; NaN for samples that have none."""
    return _share(answers.hit_by(predicted[:, :k]), cold, answers)


def _share(hit: Bools, counted: Bools, answers: Answers) -> Floats:
    samples = len(answers.offsets) - 1
    base = np.bincount(answers.owner[counted], minlength=samples)
    found = np.bincount(answers.owner[counted & hit], minlength=samples)
    return np.asarray(np.divide(found, base, out=np.full(samples, np.nan), where=base > 0))


def label_entropy(labels: Ints) -> Floats:
    """[S] entropy in bits of the labels [S, L] of each list, -1 for none; 0 for a list without any.

    What diversity.slate_entropy gives for items of one category each, without a table of items by categories.
    """
    ordered = np.sort(labels, axis=1)
    known = ordered >= 0
    total = known.sum(axis=1)
    starts = known & np.c_[np.ones(len(labels), bool), ordered[:, 1:] != ordered[:, :-1]]
    run = np.cumsum(starts, axis=1) - 1  # of each label
    row = np.repeat(np.arange(len(labels)), labels.shape[1])[known.ravel()]
    count = np.zeros(labels.shape)
    np.add.at(count, (row, run[known]), 1)
    share = count / np.maximum(total, 1)[:, None]
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(np.maximum(-(share * logs).sum(axis=1), 0.0))


def share_among(predicted: Ints, those: Ints) -> Floats:
    """[S] share of the predictions [S, n] of each list that are among those; NaN for a list without any."""
    known = predicted >= 0
    among = (np.isin(predicted, those) & known).sum(axis=1)
    count = known.sum(axis=1)
    return np.asarray(np.divide(among, count, out=np.full(len(predicted), np.nan), where=count > 0))


def items_of(predicted: Ints, sid: Ints, stands: Ints) -> Ints:
    """[S, n] items that predicted Semantic IDs stand for, -1 for none: sid [m] ascending, stands [m] each one's."""
    if not len(sid):
        return np.full(predicted.shape, -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(sid, predicted), len(sid) - 1)
    return np.where((sid[place] == predicted) & (predicted >= 0), stands[place], -1)


def label_auc(scores: Floats, labels: Bools) -> tuple[float, int]:
    """Area under the ROC curve of the samples that have a score, and how many have none (NaN): scores, labels [S]."""
    known = ~np.isnan(scores)
    return accuracy.auc(scores[known], labels[known]), int((~known).sum())


def per_sample(predicted: Ints, answers: Answers, mode: str) -> dict[str, Floats]:
    """The measures that are means over samples, [S] each, at cuts that lists [S, n] reach, named after the mode:
    `pass@1` of Semantic IDs, `pid.pass@1` of items.
    """
    prefix = "" if mode == "sid" else f"{mode}."
    found = {}
    for k in (k for k in CUTS if k <= predicted.shape[1]):
        found[f"{prefix}pass@{k}"] = pass_at(predicted, answers, k)
        found[f"{prefix}position1_pass@{k}"] = position1_pass_at(predicted, answers, k)
        found[f"{prefix}recall@{k}"] = recall_at(predicted, answers, k)
    return found
