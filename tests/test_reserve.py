"""Who learns from what: the division of the users, contexts among the held-back items, the log behind them."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corpus.histories import Histories
from stages.corpus.reserve import divide, held_back_contexts, logged_after


def corpus(train_lengths: list[int]) -> Histories:
    """Every interaction has an item number of its own, so that an item tells user, place and split."""
    train = np.array(train_lengths, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(train + 2)])
    item = np.arange(offsets[-1])
    return Histories(
        item=item,
        offsets=offsets,
        train_length=train,
        valid=item[offsets[1:] - 2],
        test=item[offsets[1:] - 1],
        feedback={"click": np.ones(len(item), dtype=np.int8), "even": (item % 2 == 0).astype(np.int8)},
        items=SimpleNamespace(num_rows=len(item)),
        users=None,
    )


def test_divide_by_hand():
    """min_items = 5, holdback = 3: lengths 5 and 8 are eligible, 4 and 2 are not; a half of four users is drawn."""
    reserve = divide(corpus([4, 5, 8, 2, 5, 5]), holdback=3, share=0.5, min_items=5, seed=0)
    assert reserve.sft_length.tolist() == [4, 2, 5, 2, 2, 2]
    assert len(reserve.learners) == 2
    assert len(reserve.selection) == len(reserve.report) == 1
    together = np.concatenate([reserve.learners, reserve.selection, reserve.report])
    assert sorted(together.tolist()) == [1, 2, 4, 5]


def test_a_holdback_above_min_items_leaves_sft_an_item():
    """min_items = 2, holdback = 3: a user of 3 items would keep none for SFT, one of 4 keeps one."""
    reserve = divide(corpus([3, 4]), holdback=3, share=0.5, min_items=2, seed=0)
    assert reserve.sft_length.tolist() == [3, 1]


def test_the_seed_draws_the_reserve():
    """Of 40 users 20 are drawn: two seeds that agree on all would be chance of 1 in 1e11."""
    histories = corpus([9] * 40)
    first, again, other = (divide(histories, 3, 0.5, 5, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.learners, again.learners)
    assert np.array_equal(first.report, again.report)
    assert not np.array_equal(first.learners, other.learners)


def test_contexts_by_hand():
    """A user of 8 items, the last 3 held back: positions 5, 6, 7 for horizon 1, 5 and 6 for horizon 2, none for 4."""
    histories = corpus([4, 8])
    reserve = divide(histories, holdback=3, share=0.5, min_items=5, seed=0)
    users = np.array([0, 1])
    assert held_back_contexts(histories, reserve, users, 1).tolist() == [[1, 5], [1, 6], [1, 7]]
    assert held_back_contexts(histories, reserve, users, 2).tolist() == [[1, 5], [1, 6]]
    none = held_back_contexts(histories, reserve, users, 4)
    assert none.shape == (0, 2)
    assert none.dtype == np.int64


def test_logged_after_gives_the_next_items():
    """Users of 4 + 2 and 8 + 2 interactions: item numbers start at 0 and 6; `even` is on even numbers."""
    items, feedback = logged_after(corpus([4, 8]), np.array([[0, 1], [1, 5]]), 3)
    assert items.tolist() == [[1, 2, 3], [11, 12, 13]]
    assert feedback["even"].tolist() == [[0, 1, 0], [0, 1, 0]]
    assert feedback["click"].tolist() == [[1, 1, 1], [1, 1, 1]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 14), min_size=1, max_size=12),
    st.integers(2, 6),
    st.floats(0.05, 0.95),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(0, 1000),
)
def test_no_leak(lengths, holdback, share, min_items, horizon, seed):
    """No user in two parts; contexts among the held-back items; never the validation or test item."""
    histories = corpus(lengths)
    reserve = divide(histories, holdback, share, min_items, seed)
    parts = [reserve.learners, reserve.selection, reserve.report]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    eligible = {u for u, length in enumerate(lengths) if length >= min_items and length > holdback}
    assert set(together.tolist()) == eligible
    assert len(reserve.selection) + len(reserve.report) == round(share * len(eligible))
    assert 0 <= len(reserve.report) - len(reserve.selection) <= 1
    kept = histories.train_length - reserve.sft_length
    assert all(kept[user] == (holdback if user in eligible else 0) for user in range(len(lengths)))

    contexts = held_back_contexts(histories, reserve, np.arange(len(lengths)), horizon)
    assert len(contexts) == len(eligible) * max(0, holdback - horizon + 1)
    held_out = set(histories.valid.tolist()) | set(histories.test.tolist())
    items, _ = logged_after(histories, contexts, horizon)
    for (user, position), logged in zip(contexts, items, strict=True):
        assert reserve.sft_length[user] <= position <= histories.train_length[user] - horizon
        known = histories.train(user)[:position].tolist()
        assert known + logged.tolist() == list(
            range(histories.offsets[user], histories.offsets[user] + position + horizon)
        )
        assert not held_out & set(known + logged.tolist())


@pytest.mark.parametrize("split", ["valid", "test"])
def test_what_is_known_before_a_split(split):
    """valid: the training part; test: the validation item as well; never the target."""
    histories = corpus([3, 2])
    known = histories.context(1, split).tolist()
    assert known == {"valid": [5, 6], "test": [5, 6, 7]}[split]
    assert histories.target(split)[1] not in known
