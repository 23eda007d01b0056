"""Who learns from what: the division of the users, contexts among the held-back items, the log behind them."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import InputError
from stages.corpus.histories import Histories
from stages.corpus.reserve import divide, held_back_contexts, logged_after, visible_contexts


def corpus(train_lengths: list[int]) -> Histories:
    """Every interaction has an item number of its own, so that an item tells user, place and split."""
    train = np.array(train_lengths, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(train + 2)])
    item = np.arange(offsets[-1])
    return Histories(
        item=item,
        tie=item,
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
    reserve = divide(corpus([3, 4, 4, 4, 4]), holdback=3, share=0.5, min_items=2, seed=0)
    assert reserve.sft_length.tolist() == [3, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("users", "share", "parts"),
    [
        (10, 0.15, (8, 1, 1)),  # round(1.5) = 2
        (10, 0.94, (1, 4, 5)),
        (10, 0.14, None),  # one user has no two halves
        (10, 0.96, None),  # all ten: nobody is left to learn from
        (2, 0.5, None),
        (0, 0.5, None),
    ],
)
def test_a_division_without_learners_or_without_two_halves_is_refused(users, share, parts):
    """Users of 5 training items are eligible, one of 4 is not."""
    histories = corpus([4] + [5] * users)
    if parts is None:
        with pytest.raises(
            InputError, match=rf"^{users} users have 5 training items, too few .* of {share:.0%} in two"
        ):
            divide(histories, holdback=3, share=share, min_items=5, seed=0)
        return
    found = divide(histories, holdback=3, share=share, min_items=5, seed=0)
    assert tuple(len(part) for part in (found.learners, found.selection, found.report)) == parts


def test_the_error_says_which_way_to_turn():
    """Of ten users 14% is too small a reserve, 96% too large a one: either way it has to come nearer to a half."""
    for share in (0.14, 0.96):
        with pytest.raises(InputError, match=r"bring sft\.reserve nearer to a half"):
            divide(corpus([5] * 10), holdback=3, share=share, min_items=5, seed=0)


def test_the_seed_draws_the_reserve():
    """Of 40 users 20 are drawn: two seeds that agree on all would be chance of 1 in 1e11."""
    histories = corpus([9] * 40)
    first, again, other = (divide(histories, 3, 0.5, 5, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.learners, again.learners)
    assert np.array_equal(first.report, again.report)
    assert not np.array_equal(first.learners, other.learners)


def test_contexts_by_hand():
    """A user of 8 items, the last 3 held back: positions 5, 6, 7 for horizon 1, 5 and 6 for horizon 2, none for 4."""
    histories = corpus([4, 8, 8, 8, 8])
    reserve = divide(histories, holdback=3, share=0.5, min_items=5, seed=0)
    users = np.array([0, 1])
    assert held_back_contexts(histories, reserve, users, 1).tolist() == [[1, 5], [1, 6], [1, 7]]
    assert held_back_contexts(histories, reserve, users, 2).tolist() == [[1, 5], [1, 6]]
    none = held_back_contexts(histories, reserve, users, 4)
    assert none.shape == (0, 2)
    assert none.dtype == np.int64


def test_visible_contexts_by_hand():
    """Of 4 items and of 8 less 3, with two behind each context: positions 1, 2 and 1, 2, 3; of 2 items none."""
    histories = corpus([4, 8, 2, 8, 8, 8])
    reserve = divide(histories, holdback=3, share=0.5, min_items=5, seed=0)
    pairs = visible_contexts(histories, reserve, 2).tolist()
    assert pairs == [[0, 1], [0, 2], *([user, at] for user in (1, 3, 4, 5) for at in (1, 2, 3))]
    items, _ = logged_after(histories, np.array(pairs), 2)
    first = histories.offsets[np.array(pairs)[:, 0]]
    assert (items - first[:, None] < reserve.sft_length[np.array(pairs)[:, 0], None]).all()  # nothing that is held back


def test_logged_after_gives_the_next_items():
    """Users of 4 + 2 and 8 + 2 interactions: item numbers start at 0 and 6; `even` is on even numbers."""
    items, feedback = logged_after(corpus([4, 8]), np.array([[0, 1], [1, 5]]), 3)
    assert items.tolist() == [[1, 2, 3], [11, 12, 13]]
    assert feedback["even"].tolist() == [[0, 1, 0], [0, 1, 0]]
    assert feedback["click"].tolist() == [[1, 1, 1], [1, 1, 1]]


# 8 or more users that are eligible for every holdback and min_items drawn below, among any others, in any order: of
# 8 a share of .2 gives round(1.6) = 2 to the reserve, one of .8 round(6.4) = 6
LENGTHS = st.tuples(
    st.lists(st.integers(8, 14), min_size=8, max_size=12), st.lists(st.integers(1, 14), max_size=12)
).flatmap(lambda parts: st.permutations(parts[0] + parts[1]))


@settings(max_examples=60, deadline=None)
@given(
    LENGTHS,
    st.integers(2, 6),
    st.floats(0.2, 0.8),
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
    assert all(len(part) for part in parts)
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
