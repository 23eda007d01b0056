"""RecIF's measures against answers worked out by hand."""

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from stages.measures import diversity, task_summary, tasks
from stages.measures.slates import Lists
from stages.measures.tasks import Answers
from stages.reporting.task_tables import MEASURES, task_tables

# Sample 0: the first answer, 5, comes third, and 7 stands there twice. 1: nothing was predicted. 2: one of one.
# 3: of the answers one is an item that nobody can name
PREDICTED = np.array([[7, 7, 5, 9], [-1, -1, -1, -1], [8, -1, 1, 2], [-1, 6, 4, 6]])
ANSWERS = Answers.of(pa.array([[5, 7, 3], [5], [8], [-1, 6]]))


def test_pass_at_k():
    """k = 1: 7 is in {5, 7, 3}; nothing; 8 is the answer; an empty place is none, although the answer has -1 too."""
    assert tasks.pass_at(PREDICTED, ANSWERS, 1).tolist() == [1, 0, 1, 0]
    assert tasks.pass_at(PREDICTED, ANSWERS, 2).tolist() == [1, 0, 1, 1]


def test_position1_pass_at_k():
    """The first answers are 5, 5, 8 and one that nobody can name: 5 is third."""
    assert tasks.position1_pass_at(PREDICTED, ANSWERS, 2).tolist() == [0, 0, 1, 0]
    assert tasks.position1_pass_at(PREDICTED, ANSWERS, 3).tolist() == [1, 0, 1, 0]


def test_recall_at_k():
    """Duplicates take a place and are one hit: the first 2 hold 7 alone, 1 of 3; the first 3 hold 7 and 5, 2 of 3. What
    nobody can name stays in the denominator: 6 is 1 of 2.
    """
    assert tasks.recall_at(PREDICTED, ANSWERS, 2) == pytest.approx([1 / 3, 0, 1, 1 / 2])
    assert tasks.recall_at(PREDICTED, ANSWERS, 3) == pytest.approx([2 / 3, 0, 1, 1 / 2])
    assert tasks.recall_at(PREDICTED, ANSWERS, 32) == pytest.approx([2 / 3, 0, 1, 1 / 2])


def test_predictions_are_not_made_distinct_before_the_cut():
    """7, 7, 5 cut at 2 is 7, 7: 5 is out, which it would not be of the distinct ones."""
    distinct = np.array([[7, 5, 9, -1]])
    own = Answers.of(pa.array([[5]]))
    assert tasks.pass_at(PREDICTED[:1], own, 2).tolist() == [0]
    assert tasks.pass_at(distinct, own, 2).tolist() == [1]


def test_answers_of_another_sample_are_no_hits():
    predicted, answers = np.array([[3], [4]]), Answers.of(pa.array([[4], [3]]))
    assert tasks.pass_at(predicted, answers, 1).tolist() == [0, 0]


def test_large_numbers_are_told_apart():
    """Semantic IDs go up to 8192^3 - 1; samples are many."""
    last = 8192**3 - 1
    predicted = np.full((300_000, 1), last)
    answers = Answers.of(pa.array([[last - 1]] * 299_999 + [[last]]))
    assert tasks.pass_at(predicted, answers, 1).sum() == 1


def test_a_sample_without_an_answer_is_a_miss_of_every_measure():
    """All of them are over the same samples: half of these two are right."""
    answers = Answers.of(pa.array([[], [1]], pa.list_(pa.int64())))
    found = tasks.per_sample(np.array([[1], [1]]), answers, "pid")
    assert {name: own.tolist() for name, own in found.items()} == {
        f"pid.{name}@1": [0, 1] for name in ("pass", "position1_pass", "recall")
    }
    assert answers.first.tolist() == [-1, 1]


def test_cold_recall():
    """Cold are the answers 7 and 3 of sample 0, one of which is found, and none of sample 2; 6 of sample 3 is found."""
    cold = np.array([False, True, True, True, False, False, True])
    found = tasks.cold_recall_at(PREDICTED, ANSWERS, cold, 10)
    assert found[[0, 1, 3]] == pytest.approx([1 / 2, 0, 1])
    assert math.isnan(found[2])


def test_share_of_the_domain():
    """Of the domain are 7 and 6: two of four, none of none, none of three, and two of three, one place being empty."""
    found = tasks.share_among(PREDICTED, np.array([6, 7]))
    assert found[[0, 2, 3]] == pytest.approx([1 / 2, 0, 2 / 3])
    assert math.isnan(found[1])


def test_items_that_semantic_ids_stand_for():
    """Unknown ids, -1 and ids beyond the last are no item."""
    sid, stands = np.array([10, 20, 40]), np.array([3, 1, 2])
    assert tasks.items_of(np.array([[40, 10, 30, -1, 99]]), sid, stands).tolist() == [[2, 3, -1, -1, -1]]
    assert tasks.items_of(np.array([[40]]), sid[:0], stands[:0]).tolist() == [[-1]]


def test_auc_leaves_out_and_counts_missing_scores():
    """Positives .8, .5, negatives .5, .2: 3.5 of 4 pairs; two samples have no score."""
    scores = np.array([0.8, np.nan, 0.5, 0.5, 0.2, np.nan])
    labels = np.array([True, True, True, False, False, False])
    assert tasks.label_auc(scores, labels) == (3.5 / 4, 2)


def test_interval_of_auc_is_that_of_drawn_samples():
    """Against scikit-learn on each draw: scores of few values, so that there are ties; some have none."""
    made = np.random.default_rng(1)
    labels = made.random(60) < 0.4
    scores = made.integers(0, 6, 60) + 2.0 * labels
    scores[[3, 17, 40]] = np.nan
    generator, drawn = np.random.default_rng(7), []
    for _ in range(300):
        chosen = generator.integers(60, size=60, dtype=np.int32)
        chosen = chosen[~np.isnan(scores[chosen])]
        drawn.append(roc_auc_score(labels[chosen], scores[chosen]))
    found = task_summary.auc_interval(scores, labels, 300, 0.9, np.random.default_rng(7))
    assert found == pytest.approx(np.quantile(drawn, [0.05, 0.95]), abs=1e-12)
    table = pa.table({"label": labels})
    lists = Lists(np.flatnonzero(~np.isnan(scores)), np.zeros((57, 1), dtype=np.int64))
    told = task_summary.labels(table, lists, scores[lists.user], 300, 0.9, np.random.default_rng(7))
    assert told["auc"] == pytest.approx([tasks.label_auc(scores, labels)[0], *found], abs=1e-12)
    assert (told["samples"], told["without_score"]) == ([60], [3])


def test_interval_of_auc_without_both_labels():
    """Of one positive and one negative, half of the draws have both; of one label alone, none has."""
    generator = np.random.default_rng(1)
    scores, labels = np.array([0.0, 1.0]), np.array([False, True])
    assert task_summary.auc_interval(scores, labels, 50, 0.9, generator).tolist() == [1, 1]
    assert np.isnan(task_summary.auc_interval(scores, np.array([True, True]), 50, 0.9, generator)).all()
    assert np.isnan(task_summary.auc_interval(scores * np.nan, labels, 50, 0.9, generator)).all()


def test_entropy_of_labels():
    """Two and two of four: 1 bit. One label: 0. 2, 1, 1 of four: 1.5 bits. Three with one empty place: of two and one,
    .9183 bits. None: 0.
    """
    labels = np.array([[1, 2, 1, 2], [3, 3, 3, 3], [1, 1, 2, 3], [4, -1, 4, 5], [-1, -1, -1, -1]])
    assert tasks.label_entropy(labels) == pytest.approx([1, 0, 1.5, 0.918296, 0], abs=1e-6)
    shares = np.eye(6)
    assert tasks.label_entropy(labels) == pytest.approx(diversity.slate_entropy(labels, shares))


def test_every_measure_stands_in_the_tables():
    """All that a list of 32 is measured by has a column."""
    whole = np.pad(PREDICTED, ((0, 0), (0, 32 - PREDICTED.shape[1])), constant_values=-1)
    judged = task_summary.Judged(ANSWERS, ANSWERS, np.zeros(len(ANSWERS.flat), dtype=bool), np.array([7]))
    measured = task_summary.per_sample(whole, whole, judged)
    assert task_summary.over_samples(measured, 10, 0.95, np.random.default_rng(0)).keys() == MEASURES.keys()
    cells = {"popularity": {1: {"tasks": {"video": {"list": {"domain_share": [0.25, 0.2, 0.5]}}}}}}
    (table,) = task_tables(cells, [], [])
    line = dict(zip(table.head, table.lines[0], strict=True))
    assert line["Of the domain"].text == "0.2500 [0.2000, 0.5000]"


def test_both_modes_are_named():
    """Sample 0 has its first answer third. A list has a cut's measures where it has so many places."""
    whole = np.pad(PREDICTED, ((0, 0), (0, 32 - PREDICTED.shape[1])), constant_values=-1)
    found = tasks.per_sample(whole, ANSWERS, "sid") | tasks.per_sample(whole, ANSWERS, "pid")
    assert sorted(found) == sorted(
        f"{mode}{name}@{k}" for mode in ("", "pid.") for name in ("pass", "position1_pass", "recall") for k in (1, 32)
    )
    assert found["position1_pass@1"].tolist() == [0, 0, 1, 0]
    assert found["pid.position1_pass@32"].tolist() == [1, 0, 1, 0]
