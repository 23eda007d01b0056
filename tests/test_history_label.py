"""Windows, batches and loss of SFT's label `history`, and the validation loss."""

import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from stages.action_spaces.base import Asking
from stages.core.errors import InputError
from stages.policy.history_label import HistoryLessons, Window, collate, loss_sum
from stages.policy.lessons import NextItems
from tests.small_policy import enumerate_items, logged


def window(items: list[int], known: list[int] | None = None) -> Window:
    return Window(np.array(items), None if known is None else np.array(known, dtype=np.int64))


def cut(sequences, length: int, dropout: float, exclude_seen: bool, seed: int, ties=None) -> list[Window]:
    return HistoryLessons(None, sequences, ties, length, dropout, exclude_seen, seed).epoch(0)


def test_collate(space):
    """START and the codes, padded on the right; padding has no weight."""
    batch = collate([window([4, 5]), window([2])], space)
    spelled = space.tokens.tolist()
    assert batch.tokens.tolist() == [[1, *spelled[4], *spelled[5]], [1, *spelled[2], 0, 0]]
    assert batch.target.tolist() == [[4, 5], [2, -1]]
    assert batch.weight.tolist() == [[1, 1], [1, 0]]
    assert (batch.banned == -1).all()
    assert (batch.own == -1).all()


def test_what_a_prediction_may_not_name(space):
    """Items known, and each target's predecessors; the second 4, and 9 that is known, have no probability."""
    batch = collate([window([4, 5, 4, 9], [0, 9]), window([2], [])], space)
    assert batch.banned.tolist() == [[0, 9], [-1, -1]]
    assert [sorted(row) for row in batch.own[0].tolist()] == [
        [-1, -1, -1, -1],
        [-1, -1, -1, 4],
        [-1, -1, 4, 5],
        [-1, -1, 4, 5],
    ]
    assert (batch.own[1] == -1).all()
    assert batch.weight.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]


def test_the_loss_leaves_seen_items_out(space, model):
    """Each of 3 1 4 5 among the items not yet seen nor known; padding beside it makes no NaN."""
    first, everything = window([3, 1, 4, 5, 3], [0, 7]), window([2], np.delete(np.arange(14), 2).tolist())
    exact = [
        -float(enumerate_items(space, model, np.array(shown), {0, 7, *shown}, label="history")[item])
        for shown, item in (
            (np.empty(0, dtype=np.int64), 3),
            (np.array([3]), 1),
            (np.array([3, 1]), 4),
            (np.array([3, 1, 4]), 5),
        )
    ]
    own = copy.deepcopy(model)
    loss = loss_sum(own, collate([first, everything], space), space)
    assert float(loss.detach()) == pytest.approx(sum(exact), abs=1e-5)  # the only item left costs nothing
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in own.parameters() if weight.grad is not None)


def test_a_batch_is_the_sum_of_its_windows(space, model):
    windows = [window([3, 1, 4]), window([5, 2, 6, 7, 8])]
    with torch.no_grad():
        alone = [float(loss_sum(model, collate([one], space), space)) for one in windows]
        together = float(loss_sum(model, collate(windows, space), space))
    assert together == pytest.approx(sum(alone), abs=1e-4)


def test_the_lessons_count_tokens(space, model):
    """Six items of two codes each, one of them seen before: 10 tokens."""
    lessons = HistoryLessons(space, [], None, 4, 0.0, True, 0)
    total, weight = lessons.loss(model, [window([3, 1, 4], []), window([5, 2, 5], [])])
    assert float(weight) == 10
    assert float(total.detach()) > 0


@pytest.mark.parametrize("label", ["history", "slate"])
def test_validation_is_a_mean_over_users(space, model, label):
    """Two users of 2 and 4 items: the last two are shown. The third's item was seen and cannot be recommended."""
    histories = logged([3, 1, 5, 2, 6, 7, 9, 0, 9], [0] * 9, [2, 4, 2], [2, 4, 3])
    object.__setattr__(histories, "valid", np.array([4, 8, 9]))
    own = copy.copy(space)
    own.histories = histories
    found = NextItems(own, Asking(label, 2, True, 3), histories).loss(model, Accelerator(cpu=True))
    exact = [
        -float(enumerate_items(space, model, np.array(shown), banned, label=label)[item])
        for shown, banned, item in (([3, 1], {3, 1}, 4), ([6, 7], {5, 2, 6, 7}, 8))
    ]
    assert found == pytest.approx(sum(exact) / 2, abs=1e-5)
    object.__setattr__(histories, "valid", np.array([3, 2, 9]))
    with pytest.raises(InputError, match="no validation item to judge SFT by"):
        NextItems(own, Asking(label, 2, True, 3), histories)


@pytest.mark.parametrize("length", [1, 3, 50])
def test_windows_hold_every_item_once_and_in_order(length):
    sequences = [np.arange(10, 17), np.arange(20, 21), np.arange(30, 42)]
    offsets = set()
    for seed in range(8):
        windows = cut(sequences, length, 0.0, False, seed)
        assert np.concatenate([one.items for one in windows]).tolist() == np.concatenate(sequences).tolist()
        assert all(1 <= len(one.items) <= length and one.known is None for one in windows)
        assert all(len({item // 10 for item in one.items} & {1, 2}) < 2 for one in windows)
        offsets.add(len(windows[0].items))
    assert len(offsets) == min(length, 3) or length == 50


def test_item_dropout_leaves_a_part_of_the_history_in_order():
    """2,000 items, a quarter left out: 1,500 +- 4 standard deviations of 19.4."""
    kept = np.concatenate([one.items for one in cut([np.arange(2000)], 50, 0.25, False, 0)])
    assert (np.diff(kept) > 0).all()
    assert abs(len(kept) - 1500) < 78


def test_windows_know_what_came_before_and_what_was_left_out():
    """Every item before the window's last one is either known, if it is not shown there, or a target; never both."""
    sequence = np.random.default_rng(1).permutation(300)
    for one in cut([sequence], 20, 0.3, True, 0):
        end = int(np.flatnonzero(sequence == one.items[-1])[0])
        assert sorted([*one.known, *one.items]) == sorted(sequence[: end + 1].tolist())


def test_tied_items_change_places():
    """Ties of 1, 3 and 2 items: every order within them comes up, 1 * 6 * 2 = 12 of them, and no other."""
    sequence, tie = np.array([7, 3, 9, 4, 1, 8]), np.array([0, 1, 1, 1, 2, 2])
    found = set()
    for seed in range(200):
        windows = cut([sequence], 50, 0.0, False, seed, ties=[tie])
        found.add(tuple(np.concatenate([one.items for one in windows]).tolist()))
    assert len(found) == 12
    assert {(order[0], *sorted(order[1:4]), *sorted(order[4:])) for order in found} == {(7, 3, 4, 9, 1, 8)}
