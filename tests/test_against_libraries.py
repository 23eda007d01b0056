"""Measures against scikit-learn and scipy on 1,000 random cases each."""

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, recall_score, roc_auc_score

from stages.measures import accuracy, diversity

CASES, ITEMS, FILLERS = 1000, 20, 22


def cases(seed):
    """Lists of 1 to 10 of 20 items, some slots empty, and relevant items, of which some users have none; k to 12.

    For the libraries fillers, which are irrelevant, stand in empty slots and behind a list, so that all the items it
    lacks are beyond k.
    """
    draw = np.random.default_rng(seed)
    for _ in range(CASES):
        length, k = int(draw.integers(1, 11)), int(draw.integers(1, 13))
        items = draw.permutation(ITEMS)[:length]
        items[draw.random(length) < 0.1] = -1
        relevant = np.zeros(ITEMS + FILLERS, dtype=bool)
        relevant[:ITEMS] = draw.random(ITEMS) < draw.choice([0, 0.1, 0.5])
        fillers = np.arange(ITEMS, ITEMS + FILLERS)
        shown = np.concatenate([np.where(items < 0, fillers[:length], items), fillers[length:]])
        order = np.concatenate([shown, np.setdiff1d(np.arange(ITEMS + FILLERS), shown)])
        yield relevant[np.maximum(items, 0)] & (items >= 0), relevant, order, k


def scores_of(order):
    """The scores that rank items in this order."""
    scores = np.empty(len(order))
    scores[order] = -np.arange(len(order))
    return scores


def test_ndcg():
    """scikit-learn gives 0 to users without relevant items, we give them no value."""
    for hits, relevant, order, k in cases(1):
        ours = accuracy.ndcg(hits[None], np.array([relevant.sum()]), k)[0]
        theirs = ndcg_score(relevant[None].astype(int), scores_of(order)[None], k=k)
        assert ours == pytest.approx(theirs if relevant.any() else np.nan, nan_ok=True)


def test_recall():
    for hits, relevant, order, k in cases(2):
        ours = accuracy.recall(hits[None], np.array([relevant.sum()]), k)[0]
        first = np.isin(np.arange(len(order)), order[:k])
        theirs = recall_score(relevant[None].astype(int), first[None], average="samples", zero_division=np.nan)
        assert ours == pytest.approx(theirs, nan_ok=True)


def test_reciprocal_rank():
    """With one relevant item the average precision of a whole ranking is 1 / its place."""
    draw = np.random.default_rng(3)
    for _ in range(CASES):
        order = draw.permutation(int(draw.integers(2, ITEMS)))
        target = draw.integers(len(order))
        ours = accuracy.reciprocal_rank(accuracy.rank_of(order[None], np.array([target])), len(order))[0]
        relevant = np.arange(len(order)) == target
        assert ours == pytest.approx(label_ranking_average_precision_score(relevant[None], scores_of(order)[None]))


def test_auc():
    """Scores of one decimal place tie often."""
    draw = np.random.default_rng(4)
    for _ in range(CASES):
        size = int(draw.integers(2, 40))
        scores, labels = draw.random(size).round(1), draw.random(size) < 0.3
        labels[:2] = [True, False]
        assert accuracy.auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_slate_entropy():
    """Categories counted slot by slot; scipy knows no entropy of nothing, ours is 0."""
    draw = np.random.default_rng(5)
    for _ in range(CASES):
        inside = draw.random((ITEMS, 6)) < 0.2  # a quarter of the items are in no category
        shares = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1)
        slate = draw.integers(-1, ITEMS, size=int(draw.integers(1, 11)))
        mass = sum((shares[item] for item in slate if item >= 0), np.zeros(6))
        theirs = entropy(mass, base=2) if mass.any() else 0
        assert diversity.slate_entropy(slate, shares) == pytest.approx(theirs, abs=1e-12)
