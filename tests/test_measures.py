"""Measures against numbers worked out by hand. Lists are [U, L]; -1 is a slot without an item."""

import math

import numpy as np
import pytest

from stages.measures import accuracy, bootstrap, cold_start, diversity, validity
from stages.measures.summary import Catalogue, summarise

LISTS = np.array([[7, 3, 5], [3, 7, -1], [1, 1, 7], [-1, -1, -1]])
# Items 0, 1 in category a; 2 in b; 3 in a and b; 4 in none
SHARES = np.array([[1, 0], [1, 0], [0, 1], [0.5, 0.5], [0, 0]], dtype=float)


def test_rank_is_the_first_place_of_the_target():
    """Targets 5, 7, 1, 7: places 3, 2, 1 (of two) and absent."""
    assert accuracy.rank_of(LISTS, np.array([5, 7, 1, 7])).tolist() == [3, 2, 1, 0]


def test_a_user_without_target_is_no_hit_on_empty_slots():
    assert accuracy.rank_of(LISTS, np.array([-1, -1, -1, -1])).tolist() == [0, 0, 0, 0]


def test_one_target():
    """Ranks 1, 2, 3, 0 at k = 2: recall 1, 1, 0, 0; ndcg 1 / log2(2) = 1, 1 / log2(3) = 0.63093, 0, 0."""
    rank = np.array([1, 2, 3, 0])
    assert accuracy.recall_at_rank(rank, 2).tolist() == [1, 1, 0, 0]
    assert accuracy.ndcg_at_rank(rank, 2) == pytest.approx([1, 0.63093, 0, 0], abs=1e-5)
    assert accuracy.ndcg_at_rank(np.array([3]), 3) == pytest.approx([0.5])  # 1 / log2(4)


def test_several_targets():
    """Hits at places 1 and 3 of 4 targets, k = 3: recall 2/4; DCG 1 + 1/2, ideal 1 + 0.63093 + 1/2 = 2.13093."""
    hits, targets = np.array([[True, False, True]]), np.array([4])
    assert accuracy.recall(hits, targets, 3) == pytest.approx([0.5])
    assert accuracy.ndcg(hits, targets, 3) == pytest.approx([1.5 / 2.13093], abs=1e-5)
    assert accuracy.hitrate(hits, targets, 3).tolist() == [1]
    assert accuracy.hitrate(hits[:, 1:], targets, 1).tolist() == [0]


def test_reciprocal_rank():
    """Ranks 1, 2, 3, 0 at k = 2: 1, 1/2, 0 (beyond k), 0 (absent). Of several targets the first hit counts: place 2."""
    assert accuracy.reciprocal_rank(np.array([1, 2, 3, 0]), 2).tolist() == [1, 0.5, 0, 0]
    hits = np.array([[False, True, True], [False, False, False]])
    assert accuracy.first_hit(hits).tolist() == [2, 0]
    assert accuracy.reciprocal_rank(accuracy.first_hit(hits), 3).tolist() == [0.5, 0]


def test_auc():
    """Positives .8, .5 and negatives .5, .2: of 4 pairs 3 are in order and one is a tie: 3.5 / 4."""
    scores, labels = np.array([0.2, 0.5, 0.5, 0.8]), np.array([False, True, False, True])
    assert accuracy.auc(scores, labels) == 3.5 / 4
    assert accuracy.auc(-scores, labels) == 0.5 / 4
    assert accuracy.auc(np.zeros(4), labels) == 0.5
    assert math.isnan(accuracy.auc(scores, np.ones(4, dtype=bool)))
    assert math.isnan(accuracy.auc(scores, np.zeros(4, dtype=bool)))


def test_fewer_slots_than_k():
    """One slot, two targets, k = 10: recall 1/2; DCG 1 of 1 + 0.63093."""
    assert accuracy.recall(np.array([[True]]), np.array([2]), 10).tolist() == [0.5]
    assert accuracy.ndcg(np.array([[True]]), np.array([2]), 10) == pytest.approx([1 / 1.63093], abs=1e-5)


def test_without_targets_there_is_no_value():
    hits, none = np.array([[False, False]]), np.array([0])
    for measure in (accuracy.recall, accuracy.ndcg, accuracy.hitrate):
        assert np.isnan(measure(hits, none, 2)).all()


def test_one_target_is_a_case_of_many():
    rank = np.array([1, 4, 0])
    hits = np.arange(1, 6) == rank[:, None]
    one = np.ones(3, dtype=int)
    for k in (1, 3, 4, 5, 10):
        assert np.array_equal(accuracy.recall(hits, one, k), accuracy.recall_at_rank(rank, k))
        assert accuracy.ndcg(hits, one, k) == pytest.approx(accuracy.ndcg_at_rank(rank, k))


def test_slate_entropy():
    """Bits: {a, a, b}: -(2/3) log2(2/3) - (1/3) log2(1/3) = 0.91830; {a, ab}: 1.5 of a and .5 of b: 0.81128;
    one item of a: 0; {a, b} with an empty slot and one without category: 1; nothing with mass: 0.
    """
    slates = np.array([[0, 1, 2], [0, 3, -1], [0, -1, -1], [2, 4, 0], [4, -1, 4]])
    assert diversity.slate_entropy(slates, SHARES) == pytest.approx([0.91830, 0.81128, 0, 1, 0], abs=1e-5)


def test_slate_entropy_keeps_any_leading_shape_and_ignores_order(monkeypatch):
    slates = np.random.default_rng(0).integers(-1, 5, size=(4, 3, 6))
    whole = diversity.slate_entropy(slates, SHARES)
    assert whole.shape == (4, 3)
    assert whole[2, 1] == diversity.slate_entropy(slates[2, 1], SHARES)
    assert whole == pytest.approx(diversity.slate_entropy(slates[..., ::-1], SHARES))
    monkeypatch.setattr(diversity, "CELLS", 1)  # one slate at a time
    assert np.array_equal(whole, diversity.slate_entropy(slates, SHARES))


def test_slate_entropy_reaches_its_bound():
    """Ten items of ten categories: log2(10) bits."""
    assert diversity.slate_entropy(np.arange(10), np.eye(10)) == pytest.approx(math.log2(10))


def test_pooled_entropy():
    """Two users, {a} and {b}: 0 bits each, 1 bit together."""
    slates = np.array([[0, -1], [2, -1]])
    assert diversity.slate_entropy(slates, SHARES).tolist() == [0, 0]
    assert diversity.pooled_entropy(slates, SHARES) == 1
    assert diversity.pooled_entropy(np.array([[-1, 4]]), SHARES) == 0


def test_coverage():
    """Items 0, 1 and 2 of five within k = 2; the third slot does not count."""
    assert diversity.coverage(np.array([[0, 1, 4], [1, 2, 3], [-1, -1, 0]]), 5, 2) == 3 / 5


def test_cold_start():
    """Items 3 and 4 are cold. Two users have a cold target, one of them at rank 2."""
    cold = np.array([False, False, False, True, True])
    rank, cold_target = np.array([1, 2, 0]), np.array([False, True, True])
    assert np.array_equal(cold_start.recall_of_cold(rank, cold_target, 1), [np.nan, 0, 0], equal_nan=True)
    assert np.array_equal(cold_start.recall_of_cold(rank, cold_target, 2), [np.nan, 1, 0], equal_nan=True)
    lists = np.array([[0, 3, 4], [3, 1, 4], [-1, -1, 4]])  # first two slots: one of two cold items; 1/2, 1/2, 0
    assert cold_start.cold_coverage(lists, cold, 2) == 0.5
    assert cold_start.cold_exposure(lists, cold, 2).tolist() == [0.5, 0.5, 0]  # item -1 is not the last, cold item


def test_cold_start_without_cold_items():
    none = np.zeros(5, dtype=bool)
    assert np.isnan(cold_start.recall_of_cold(np.array([1]), np.array([False]), 10)).all()
    assert math.isnan(cold_start.cold_coverage(np.array([[0, 1]]), none, 10))
    assert cold_start.cold_exposure(np.array([[0, 1]]), none, 10).tolist() == [0]


def test_validity():
    """[2, 2, 2, -1]: one slot of 4 empty, two repeat, 3 show no new item; empty slots do not repeat each other."""
    slates = np.array([[2, 2, 2, -1], [0, 1, 2, 3], [-1, -1, -1, -1]])
    assert validity.null_share(slates).tolist() == [0.25, 0, 1]
    assert validity.duplicate_share(slates).tolist() == [0.5, 0, 0]
    assert validity.invalid_share(slates).tolist() == [0.75, 0, 1]


def test_bootstrap_is_the_same_twice_and_alike_for_columns():
    values = np.random.default_rng(0).random((40, 2))
    both = bootstrap.interval(values, 200, 0.9, np.random.default_rng(5))
    assert both.shape == (2, 2)
    assert np.array_equal(both, bootstrap.interval(values, 200, 0.9, np.random.default_rng(5)))
    assert both[:, 1] == pytest.approx(bootstrap.interval(values[:, 1], 200, 0.9, np.random.default_rng(5)))


def test_bootstrap_of_equal_values_has_no_width():
    assert bootstrap.interval(np.full(7, 0.25), 100, 0.95, np.random.default_rng(0)).tolist() == [0.25, 0.25]


def test_bootstrap_leaves_users_without_a_value_out():
    """The mean of 1, 1, 1 stays 1 in every resample, however many of the 20 others without a value are drawn."""
    values = np.concatenate([np.ones(3), np.full(20, np.nan)])
    assert bootstrap.interval(values, 300, 0.95, np.random.default_rng(0)).tolist() == [1, 1]
    assert np.isnan(bootstrap.interval(np.full(4, np.nan), 100, 0.95, np.random.default_rng(0))).all()


def test_bootstrap_bounds_hold_the_mean_as_often_as_they_say():
    """200 samples of 100 users with hit rate .3: 90% intervals hold .3 in 180 of them, give or take 3 x 4.2."""
    draw = np.random.default_rng(11)
    held = 0
    for _ in range(200):
        low, high = bootstrap.interval((draw.random(100) < 0.3).astype(float), 400, 0.9, draw)
        held += low <= 0.3 <= high
    assert 167 <= held <= 193


def test_bootstrap_width_is_that_of_the_standard_error():
    """95% of a normal mean: 1.96 standard errors each way; 2,000 users with deviation 1: +- 0.0438."""
    values = np.random.default_rng(2).standard_normal(2000)
    low, high = bootstrap.interval(values, 2000, 0.95, np.random.default_rng(0))
    assert (high - low) / 2 == pytest.approx(1.96 / math.sqrt(2000), rel=0.08)


def test_summary_has_bounds_but_for_coverage():
    """Two users of one list {0, 2}, targets 0 (rank 1) and 4 (absent, cold): recall .5, entropy 1 bit, no cold hit.

    Training saw items 0 to 4 3, 2, 1, 0, 0 times: item 0 is head, 1 middle, the others tail. Target 0 is hit, 4 is not,
    and item 2 makes half of the slots tail. Popularity: the geometric mean of 4 and 2 is 8 ** (1/2), that of 4, 3, 2, 1
    and 1 is 24 ** (1/5): 1.49797.
    """
    cold = np.array([False, False, False, False, True])
    lists, target = np.array([[0, 2], [0, 2]]), np.array([0, 4])
    catalogue = Catalogue(SHARES, cold, np.array([3, 2, 1, 0, 0]))
    found = summarise(lists, target, catalogue, 200, 0.95, np.random.default_rng(0)).over_users
    assert found["recall@5"] == (0.5, 0, 1)
    assert found["hitrate@5"] == found["recall@5"]
    assert found["entropy_slate@10"] == (1, 1, 1)
    assert found["entropy_pooled@10"] == (1, 1, 1)
    assert found["cold_recall@10"] == (0, 0, 0)
    assert found["coverage@10"][0] == 2 / 5
    assert np.isnan(found["coverage@10"][1:]).all()
    assert found["cold_coverage@10"][0] == 0
    assert found["mrr@10"] == (0.5, 0, 1)
    assert found["recall_head@10"] == (1, 1, 1)
    assert np.isnan(found["recall_middle@10"]).all()
    assert found["recall_tail@10"] == (0, 0, 0)
    assert found["tail_exposure@10"] == (0.5, 0.5, 0.5)
    assert found["popularity_lift@10"] == pytest.approx([1.49797] * 3, abs=1e-5)
    assert found["invalid_share"] == found["null_share"] == found["duplicate_share"] == (0, 0, 0)
