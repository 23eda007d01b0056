"""Popularity of lists, and recall and exposure by thirds of the training interactions, against numbers worked out."""

import numpy as np
import pytest

from stages.measures import popularity
from stages.measures.popularity import HEAD, MIDDLE, TAIL

COUNT = np.array([0, 1, 3, 7])  # 1 + count is 1, 2, 4, 8: its logarithms are 0, 1, 2, 3 times ln 2


def test_mean_log_popularity_is_over_the_slots_that_hold_an_item():
    """[3, 2]: (3 + 2) / 2 ln 2; [3, -1]: 3 ln 2; item 0: 0; no item: NaN, though -1 would index item 3."""
    found = popularity.mean_log_popularity(np.array([[3, 2], [3, -1], [0, 0], [-1, -1]]), COUNT)
    assert found / np.log(2) == pytest.approx([2.5, 3, 0, np.nan], nan_ok=True)


def test_popularity_lift():
    """The catalogue has a mean of 1.5 ln 2: items 3 and 2 are 2 times as popular, 0 is 2 ** -1.5 = .35355, all 1."""
    logs = popularity.mean_log_popularity(np.array([[3, 2], [0, -1], [-1, -1]]), COUNT)
    assert popularity.popularity_lift(logs, COUNT) == pytest.approx([2, 0.35355, np.nan], abs=1e-5, nan_ok=True)
    assert popularity.popularity_lift(popularity.mean_log_popularity(np.arange(4), COUNT), COUNT) == pytest.approx(1)


def test_lists_drawn_evenly_have_a_lift_of_1():
    draw = np.random.default_rng(0)
    count = draw.zipf(1.5, size=500).clip(max=500)
    lists = draw.integers(500, size=(4000, 10))
    lift = popularity.popularity_lift(popularity.mean_log_popularity(lists, count).mean(), count)
    assert lift == pytest.approx(1, abs=0.02)


def test_thirds_of_equal_items():
    """Six items of one interaction: two in each third, in the order of their numbers."""
    assert popularity.thirds(np.ones(6, dtype=int)).tolist() == [HEAD, HEAD, MIDDLE, MIDDLE, TAIL, TAIL]


def test_thirds_of_unequal_items():
    """Of 9 interactions, items 3, 0, 1, 4, 5 begin at 0, 3, 5, 7, 8; item 2 was never seen."""
    assert popularity.thirds(np.array([2, 2, 0, 3, 1, 1])).tolist() == [MIDDLE, MIDDLE, TAIL, HEAD, TAIL, TAIL]


def test_a_tie_goes_to_the_lower_number():
    """Of 6 interactions, items 1, 2, 0, 3 begin at 0, 2, 4, 5: of the two most frequent only item 1 is head."""
    assert popularity.thirds(np.array([1, 2, 2, 1])).tolist() == [TAIL, HEAD, MIDDLE, TAIL]


def test_one_item_with_everything_is_head_and_unseen_items_are_tail():
    assert popularity.thirds(np.array([0, 9, 0])).tolist() == [TAIL, HEAD, TAIL]
    assert popularity.thirds(np.zeros(2, dtype=int)).tolist() == [TAIL, TAIL]


def test_each_third_has_a_third_of_the_interactions_give_or_take_an_item():
    draw = np.random.default_rng(0)
    for _ in range(100):
        count = draw.zipf(1.7, size=300).clip(max=200) - 1
        sums = np.bincount(popularity.thirds(count), weights=count, minlength=3)
        assert np.abs(sums - count.sum() / 3).max() <= count.max()


def test_recall_by_third():
    """Targets head, tail, tail at ranks 1, 2, 0, k = 2: recall 1 of head, 1 and 0 of tail, no value elsewhere."""
    found = popularity.recall_by_third(np.array([1, 2, 0]), np.array([HEAD, TAIL, TAIL]), 2)
    nan = np.nan
    assert np.array_equal(found, [[1, nan, nan], [nan, nan, 1], [nan, nan, 0]], equal_nan=True)


def test_exposure_by_third():
    """First 2 slots; item 0 is head, 1 middle, 2 tail; an empty slot is in no third, though -1 would index the tail."""
    lists = np.array([[0, 1, 2], [2, 2, 0], [-1, 0, 0]])
    found = popularity.exposure_by_third(lists, np.array([HEAD, MIDDLE, TAIL]), 2)
    assert found.tolist() == [[0.5, 0.5, 0], [0, 0, 1], [0.5, 0, 0]]
