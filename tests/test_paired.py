"""Paired comparisons against differences worked out, every sign enumerated, and Holm's procedure by hand."""

import itertools

import numpy as np
import pytest
from scipy.stats import permutation_test

from stages.measures import bootstrap, paired


def compare(values, rounds=2000, seed=0):
    return paired.compare(np.asarray(values, dtype=float), 500, rounds, 0.9, np.random.default_rng(seed))


def exact(difference):
    """Share of all 2^U signs whose sum is as far from 0 as the one found, in whole numbers."""
    sums = [np.dot(signs, difference) for signs in itertools.product((-1, 1), repeat=len(difference))]
    return np.mean(np.abs(sums) >= abs(np.sum(difference)))


def test_differences_of_all_pairs():
    """Means 2, 1, 0: pairs (0, 1), (0, 2), (1, 2) differ by 1, 2, 1, for every user, so the bounds have no width.

    Of 8 sign patterns of three users 2 are as far from 0: p = 1/4.
    """
    found = compare([[2, 1, 0]] * 3)
    assert found.difference.tolist() == [1, 2, 1]
    assert found.low == pytest.approx(found.difference)
    assert found.high == pytest.approx(found.difference)
    assert found.p == pytest.approx([0.25] * 3, abs=0.04)  # 4 standard deviations


@pytest.mark.parametrize("users", [1, 4, 9])
def test_p_is_the_share_of_signs_as_far_from_0(users):
    """40,000 rounds: 4 standard deviations are .01. Small whole differences tie often."""
    values = np.random.default_rng(users).integers(-2, 3, size=(users, 4))
    whole = [exact(values[:, first] - values[:, second]) for first, second in itertools.combinations(range(4), 2)]
    assert compare(values, 40_000).p == pytest.approx(whole, abs=0.01)
    assert compare(values * 0.1, 40_000).p == pytest.approx(whole, abs=0.01)  # ties that rounding would break


def test_p_is_that_of_scipy():
    """scipy goes through all 2^10 exchanges of a user's two values."""
    values = np.random.default_rng(4).random((10, 3))
    values[:, 2] += 0.2
    pairs = itertools.combinations(values.T, 2)
    theirs = [
        permutation_test(
            pair, lambda one, other, axis: np.mean(one - other, axis), permutation_type="samples", n_resamples=2000
        ).pvalue
        for pair in pairs
    ]
    assert compare(values, 40_000).p == pytest.approx(theirs, abs=0.01)


def test_the_least_p_is_not_0():
    """100 users who all gain: no round is as far, p = 1 / (1 + rounds). Methods that agree: p = 1."""
    values = np.random.default_rng(0).random((100, 1))
    found = compare(np.concatenate([values + 1, values, values], axis=1), 999)
    assert found.p.tolist() == [0.001, 0.001, 1]
    assert found.difference[2] == 0


def test_p_is_uniform_where_methods_do_not_differ():
    """Of 400 comparisons of equal methods 10% fall to .1 or below: 40, give or take 4 x 6."""
    draw = np.random.default_rng(1)
    below = sum(compare(draw.random((30, 2)), 199, seed).p[0] <= 0.1 for seed in range(400))
    assert 16 <= below <= 64


def test_a_user_without_a_value_is_out_of_the_pairs_of_that_method():
    """User 0 has none by method 2: differences (9 + 1 + 2) / 3, (2 + 4) / 2, (1 + 2) / 2; of 4 sign patterns of two
    users 2 are as far from 0: p = .5.
    """
    found = compare([[9, 0, np.nan], [2, 1, 0], [4, 2, 0]])
    assert found.difference.tolist() == [4, 3, 1.5]
    assert found.p[1:] == pytest.approx([0.5, 0.5], abs=0.05)
    assert [found.low[1], found.high[1]] == pytest.approx([2, 4])


def test_columns_of_methods_and_of_pairs_agree():
    """A last user without values changes only the draws; with a single value he makes the columns those of pairs."""
    values = np.random.default_rng(3).random((50, 4))
    none = np.concatenate([values, np.full((1, 4), np.nan)])
    single = none.copy()
    single[-1, 0] = 0.5
    by_method, by_pair = compare(none), compare(single)
    for name in ("difference", "low", "high", "p"):
        assert getattr(by_pair, name) == pytest.approx(getattr(by_method, name))
    assert by_method.difference == pytest.approx(compare(values).difference)


def test_a_pair_without_users_has_no_value():
    for values in ([[1, np.nan], [np.nan, 2]], [[np.nan, np.nan]]):
        found = compare(values)
        assert np.isnan([found.difference, found.low, found.high, found.p]).all()


def test_bounds_are_the_bootstrap_of_the_difference():
    values = np.random.default_rng(5).random((60, 2))
    found = compare(values)
    bounds = bootstrap.interval(values[:, 0] - values[:, 1], 500, 0.9, np.random.default_rng(0))
    assert [found.low[0], found.high[0]] == pytest.approx(bounds.tolist())


def test_chunks_change_nothing(monkeypatch):
    values = np.random.default_rng(6).random((40, 3))
    whole = compare(values)
    monkeypatch.setattr(paired, "CELLS", 300)  # 7 rounds at a time
    monkeypatch.setattr(bootstrap, "CELLS", 300)
    parts = compare(values)
    assert np.array_equal(whole.p, parts.p)
    assert parts.low == pytest.approx(whole.low)


def test_holm_by_hand():
    """Sorted .005 x 4, .01 x 3, .03 x 2 and .04 x 1, which may not be below .06."""
    assert paired.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm(np.array([0.5, 0.9])).tolist() == [1, 1]
    assert paired.holm(np.array([])).tolist() == []


def test_holm_leaves_nan_out():
    """Two p-values count: .01 x 2, .02 x 1."""
    found = paired.holm(np.array([np.nan, 0.02, np.nan, 0.01]))
    assert found == pytest.approx([np.nan, 0.02, np.nan, 0.02], nan_ok=True)


def test_holm_is_that_of_multtest():
    """Ten p-values and what R's multtest makes of them, from the tests of statsmodels' `multipletests`, shortened."""
    p = [0.838541, 0.642194, 0.680846, 0.967834, 0.716269, 0.177097, 5.23657e-05, 0.0202733, 0.000281405, 0.0149877]
    adjusted = [1, 1, 1, 1, 1, 1, 5.23657e-04, 0.141913, 0.00253265, 0.119902]
    assert paired.holm(np.array(p)) == pytest.approx(adjusted, rel=1e-5)
