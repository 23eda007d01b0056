"""Candidate retrievers and pools, against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.spelling_sections import Fill
from stages.retrievers import base, knn, pools, popularity, transitions
from stages.retrievers.quotas import quotas
from tests.small_policy import logged

COUNTS = Fill(window=2, last_items=3, decay=0.5)


def naive(histories, visible, user: int, position: int, counts: Fill) -> dict[int, float]:
    """Scores of a context by loops: pairs of all other users' visible items, votes of the last items."""
    pairs: dict[tuple[int, int], float] = {}
    for other in range(len(visible)):
        if other != user:
            own = histories.item[histories.offsets[other] :][: visible[other]].tolist()
            for first in range(len(own)):
                for distance in range(1, counts.window + 1):
                    if first + distance < len(own):
                        pair = (own[first], own[first + distance])
                        pairs[pair] = pairs.get(pair, 0.0) + 1 / distance
    context = histories.item[histories.offsets[user] :][:position].tolist()
    found: dict[int, float] = {}
    for age, voter in enumerate(context[::-1][: counts.last_items]):
        for (first, second), weight in pairs.items():
            if first == voter:
                found[second] = found.get(second, 0.0) + counts.decay**age * weight
    return found


def naive_knn(histories, visible, user: int, position: int, counts: Fill) -> dict[int, float]:
    """Cosines by loops over the sets of all other users' visible items."""
    others = [
        set(histories.item[histories.offsets[other] :][: visible[other]].tolist())
        for other in range(len(visible))
        if other != user
    ]
    users = {item: sum(item in own for own in others) for item in range(histories.item_count)}
    context = histories.item[histories.offsets[user] :][:position].tolist()
    found: dict[int, float] = {}
    for age, voter in enumerate(context[::-1][: counts.last_items]):
        for item in set(users) - {voter}:
            both = sum({voter, item} <= own for own in others)
            if both:
                cosine = both / (users[voter] * users[item]) ** 0.5
                found[item] = found.get(item, 0.0) + counts.decay**age * cosine
    return found


def small_log(seed: int, again: bool = False):
    """Histories of 5 users, the first items that may be counted, and every context. again: items come back."""
    generator = np.random.default_rng(seed)
    length = generator.integers(4, 8, size=5)
    items = np.concatenate([generator.choice(9, count, replace=again) for count in length])
    histories = logged(items.tolist(), [0] * len(items), (length - 2).tolist(), length.tolist())
    contexts = np.array([(user, position) for user in range(5) for position in range(length[user])])
    return histories, np.maximum(1, length - 3), contexts


@pytest.mark.parametrize(("module", "naive"), [(transitions, naive), (knn, naive_knn)])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_users_own_history_is_left_out(module, naive, seed):
    histories, visible, contexts = small_log(seed)
    found = module.Retriever(histories, visible, COUNTS).candidates(contexts, 14, True)
    for (user, position), row in zip(contexts, found, strict=True):
        seen = set(histories.item[histories.offsets[user] :][:position].tolist())
        want = {
            item: value for item, value in naive(histories, visible, user, position, COUNTS).items() if item not in seen
        }
        row = row[row >= 0].tolist()
        assert sorted(row) == sorted(set(range(histories.item_count)) - seen)
        scored = [item for item in row if want.get(item, 0.0) > 1e-8]
        assert row[: len(scored)] == scored  # before all that only popularity ranks
        assert len(scored) == sum(value > 1e-8 for value in want.values())
        values = [want[item] for item in scored]
        assert values == pytest.approx(sorted(values, reverse=True))


@pytest.mark.parametrize(("module", "naive"), [(transitions, naive), (knn, naive_knn)])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_where_items_come_back_and_none_is_hidden(module, naive, seed):
    """What the user's own history holds anywhere is taken off; for neighbours, what a user has twice counts once."""
    histories, visible, contexts = small_log(seed, again=True)
    found = module.Retriever(histories, visible, COUNTS).candidates(contexts, 4, False)
    for (user, position), row in zip(contexts, found, strict=True):
        want = naive(histories, visible, user, position, COUNTS)
        best = (sorted(want.values(), reverse=True) + [0.0] * 4)[:4]
        assert [want.get(item, 0.0) for item in row.tolist()] == pytest.approx(best)
        assert (row >= 0).all()


@pytest.mark.parametrize("module", [transitions, knn])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_scores_of_lists_are_as_if_the_user_had_no_log(module, seed):
    """Behind any items, whether the user has them or not; and for somebody in no log nothing is taken off."""
    histories, visible, _ = small_log(seed, again=True)
    lists = [np.random.default_rng(seed + user).integers(9, size=user) for user in range(5)]  # one shows nothing
    found = module.Retriever(histories, visible, COUNTS).scores(np.arange(5), lists).toarray()
    for user in range(5):
        without = np.where(np.arange(5) == user, 0, visible)
        want = module.Retriever(histories, without, COUNTS).scores(np.array([-1]), lists[user : user + 1]).toarray()
        assert found[user] == pytest.approx(want[0], abs=1e-8)


def test_a_users_future_is_not_in_his_counts():
    """0 1 0 2 is all there is of 0: after the first 0 nothing is known, and popularity ranks."""
    histories = logged([0, 1, 0, 2, 3, 3, 3], [0] * 7, [4, 3], [4, 3])
    found = transitions.Retriever(histories, np.array([4, 3]), COUNTS).candidates(np.array([[0, 1]]), 1, False)
    assert found.tolist() == [[3]]


def test_neighbours_by_hand():
    """Users have 0 1, 0 1 2 and 2 3. For the last, whose own are not counted, after 2: 0 and 1 are had with it, by one
    of the one user with 2 and the two users with 0: 1 / sqrt(2). 3 is had with it by nobody else.
    """
    histories = logged([0, 1, 0, 1, 2, 2, 3], [0] * 7, [2, 3, 2], [2, 3, 2])
    found = knn.Retriever(histories, np.array([2, 3, 2]), COUNTS).candidates(np.array([[2, 1]]), 3, True)
    assert found.tolist() == [[0, 1, 3]]
    owned = knn.visible_items(histories, np.array([2, 3, 2]))
    users = np.array([2, 2, 2, 1] + [0] * 10)
    together = owned.T @ owned - knn.sparse.diags_array(users, dtype=np.float64)
    scores = knn.neighbours(together, users, owned[[2]], [np.array([2])], COUNTS).toarray()[0]
    assert scores[:5] == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0, 0])


def test_largest_keeps_ties():
    scores = knn.sparse.csr_array(np.array([[3.0, 1, 2, 2, 0], [0, 0, 5, 0, 0]]))
    assert base.largest(scores, 2).toarray().tolist() == [[3, 0, 2, 2, 0], [0, 0, 5, 0, 0]]


def test_popularity_by_hand():
    """Visible: 0 1, 0 2, 0 1 3; counts 3, 2, 1, 1 for items 0 to 3. User 1 after 0 has 1 2 3 left."""
    histories = logged([0, 1, 2, 0, 2, 3, 0, 1, 3, 2], [0] * 10, [3, 3, 4], [3, 3, 4])
    found = popularity.Retriever(histories, np.array([2, 2, 3]), COUNTS).candidates(np.array([[1, 1], [2, 0]]), 4, True)
    assert found[:, : histories.item_count].tolist()[0][:3] == [1, 2, 3]
    assert found[1].tolist()[:4] == [0, 1, 2, 3]


def test_mix_by_hand():
    """Two of the first list, two of the second that are new; what the second lacks, the first gives."""
    first, second = np.array([[1, 2, 3, 4], [1, 2, 3, 4]]), np.array([[2, 5, 6, 7], [2, 1, -1, -1]])
    assert pools.mix([first, second], [2, 2]).tolist() == [[1, 2, 5, 6], [1, 2, 3, 4]]
    assert pools.mix([second[1:], first[1:, :1]], [3, 1]).tolist() == [[2, 1, -1, -1]]


@pytest.mark.parametrize(
    ("shares", "size", "places"),
    [
        ([1.0], 20, [20]),
        ([0.5, 0.5], 3, [2, 1]),  # the same remainder: the first
        ([0.7, 0.2, 0.1], 10, [7, 2, 1]),
        ([0.29, 0.71], 100, [29, 71]),  # 0.29 * 100 is 28.999999999999996
        ([0.34, 0.33, 0.33], 10, [4, 3, 3]),
        ([0.05, 0.05, 0.9], 10, [1, 0, 9]),
        ([0.0, 1.0], 4, [0, 4]),
    ],
)
def test_quotas_by_hand(shares, size, places):
    found = quotas({str(number): share for number, share in enumerate(shares)}, size)
    assert [found[str(number)] for number in range(len(shares))] == places
    assert [shares[int(name)] for name in found] == sorted(shares, reverse=True)  # whatever the order they are given in


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 200))
def test_quotas_fill_the_pool(weights, size):
    shares = {str(number): weight / sum(weights) for number, weight in enumerate(weights)}
    found = quotas(shares, size)
    assert sum(found.values()) == size
    assert all(abs(found[name] - share * size) < 1 + 1e-6 for name, share in shares.items())


def test_recall():
    assert pools.recall(np.array([[1, 2], [3, -1]]), np.array([2, 1])) == 0.5
    assert pools.recall(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64)) is None
