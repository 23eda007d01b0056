"""Candidate retrievers and pools, against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.sections import Fill
from stages.retrievers import pools, popularity, transitions
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
            if first == voter and second not in context:
                found[second] = found.get(second, 0.0) + counts.decay**age * weight
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_transitions_leave_the_users_own_history_out(seed):
    generator = np.random.default_rng(seed)
    length = generator.integers(4, 8, size=5)
    items = np.concatenate([generator.permutation(9)[:count] for count in length])
    histories = logged(items.tolist(), [0] * len(items), (length - 2).tolist(), length.tolist())
    visible = np.maximum(1, length - 3)
    contexts = np.array([(user, position) for user in range(5) for position in range(length[user])])
    found = transitions.candidates(histories, visible, contexts, 14, True, COUNTS)
    for (user, position), row in zip(contexts, found, strict=True):
        want = naive(histories, visible, user, position, COUNTS)
        row = row[row >= 0].tolist()
        seen = set(histories.item[histories.offsets[user] :][:position].tolist())
        assert sorted(row) == sorted(set(range(histories.item_count)) - seen)
        scored = [item for item in row if want.get(item, 0.0) > 1e-8]
        assert row[: len(scored)] == scored  # before all that only popularity ranks
        assert len(scored) == sum(value > 1e-8 for value in want.values())
        values = [want[item] for item in scored]
        assert values == pytest.approx(sorted(values, reverse=True))


def test_popularity_by_hand():
    """Visible: 0 1, 0 2, 0 1 3; counts 3, 2, 1, 1 for items 0 to 3. User 1 after 0 has 1 2 3 left."""
    histories = logged([0, 1, 2, 0, 2, 3, 0, 1, 3, 2], [0] * 10, [3, 3, 4], [3, 3, 4])
    found = popularity.candidates(histories, np.array([2, 2, 3]), np.array([[1, 1], [2, 0]]), 4, True)
    assert found[:, : histories.item_count].tolist()[0][:3] == [1, 2, 3]
    assert found[1].tolist()[:4] == [0, 1, 2, 3]


def test_mix_by_hand():
    """Two of the first list, two of the second that are new; what the second lacks, the first gives."""
    first, second = np.array([[1, 2, 3, 4], [1, 2, 3, 4]]), np.array([[2, 5, 6, 7], [2, 1, -1, -1]])
    assert pools.mix([first, second], [2, 2]).tolist() == [[1, 2, 5, 6], [1, 2, 3, 4]]
    assert pools.mix([second[1:], first[1:, :1]], [3, 1]).tolist() == [[2, 1, -1, -1]]


def test_recall():
    assert pools.recall(np.array([[1, 2], [3, -1]]), np.array([2, 1])) == 0.5
    assert pools.recall(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64)) is None
