"""What RL keeps for a second round of SFT, what that learns from it, and which users RL then leaves alone."""

import numpy as np
import pytest
import torch

from stages.action_spaces.base import Asking
from stages.core.errors import InputError
from stages.core.schema import HARVEST, conform
from stages.policy.harvest import Harvest, best_of, of_others
from stages.policy.harvest_lessons import HarvestLessons, with_logged
from tests.small_policy import enumerate_items, logged
from tests.test_slate_label import lessons

LOG = logged([1, 2, 3, 9, 8, 4, 7, 5, 6, 0], [0] * 10, [6, 4], [6, 4])
CONTEXTS = np.array([[0, 3], [1, 1]])  # behind them 9 8 4, and 5 6 0
SLATES = np.array([[[5, 6, 7], [8, 5, 9]], [[1, 2, -1], [3, 9, 7]]])


def earning(log, horizon: int, *totals) -> Harvest:
    """A harvest of rollouts whose slates earn what is given."""
    left = [np.array(total, dtype=float) for total in totals]
    return Harvest(log, horizon, lambda contexts, items: left.pop(0))


def harvest(*rollouts) -> Harvest:
    own = earning(LOG, 3, *(total for _, _, total in rollouts))
    for users, slates, _ in rollouts:
        own.take(CONTEXTS[users], np.array(slates))
    return own


def test_the_best_slates_hits_are_kept_in_its_order():
    """User 0: the second slate earns most; of 8 5 9 the log has 8 and 9. User 1 earned something for no logged item."""
    assert harvest(([0, 1], SLATES, [[0.1, 0.7], [0.2, 0.0]])).rows() == [(0, 3, 0.7, [8, 9])]


def test_a_better_slate_of_a_later_rollout_takes_the_place():
    first = ([0], SLATES[:1], [[0.0, 0.5]])
    assert harvest(first, ([0], [[[4, 1, 2]]], [[0.4]])).rows() == [(0, 3, 0.5, [8, 9])]
    assert harvest(first, ([0], [[[4, 1, 2]]], [[0.6]])).rows() == [(0, 3, 0.6, [4])]


@pytest.mark.parametrize("reward", [0.0, -0.3])
def test_what_earned_nothing_is_not_kept(reward):
    own = harvest(([0], SLATES[:1], np.full((1, 2), reward)))
    assert own.rows() == []
    conform(own.table(), HARVEST, "harvest")
    with pytest.raises(InputError, match=r"no slate of the first round earned 0.3 .* 0 contexts"):
        best_of(own.table(), 0.3)


def test_an_interrupted_run_goes_on_from_its_rows():
    own, again = harvest(([0, 1], [SLATES[0], [[5, 1, 0], [2, 3, 4]]], [[0.1, 0.7], [0.9, 0.2]])), earning(LOG, 3)
    again.restore([list(row) for row in own.rows()])  # as JSON gives them back
    assert again.rows() == own.rows()
    assert again.table().equals(own.table())
    assert own.table().to_pylist()[1] == {"user": 1, "position": 1, "reward": pytest.approx(0.9), "items": [5, 0]}


def test_a_second_round_takes_the_best_and_leaves_their_users_to_it():
    table = harvest(([0, 1], [SLATES[0], [[5, 1, 0], [2, 3, 4]]], [[0.1, 0.7], [0.2, 0.0]])).table()
    best = best_of(table, 0.5)
    assert best["user"].to_pylist() == [0]
    assert best_of(table, 0.2).num_rows == 2
    with pytest.raises(InputError, match=r"earned 0.8 .* the best of 2 contexts 0.7;"):
        best_of(table, 0.8)
    contexts = np.array([[0, 2], [0, 3], [1, 1], [1, 2]])
    assert of_others(contexts, best, 2).tolist() == [[1, 1], [1, 2]]
    with pytest.raises(InputError, match=r"2 contexts are of users .* RL asks for 3"):
        of_others(contexts, best, 3)


def test_the_control_is_the_log_behind_the_same_contexts(space):
    """Without RL's choice and order; once each; only what is new, where nothing is recommended again."""
    log = logged([1, 2, 3, 8, 8, 2, 4, 5, 6, 0], [0] * 10, [7, 3], [7, 3])
    found = earning(log, 4, [[0.5]])
    found.take(np.array([[0, 3]]), np.array([[[4, 1, 8]]]))
    whole = lessons(log, space)
    for seen, expected in ((True, [8, 4]), (False, [8, 2, 4])):
        table = with_logged(found.table(), log, 4, whole.space, Asking("slate", 2, seen, 4))
        assert table["items"].to_pylist() == [expected]
        conform(table, HARVEST, "harvest")


def test_the_second_round_learns_the_slate_behind_its_context(space, model):
    """Item 4 behind 3 1, at half weight: its log-probability by enumeration. Slates behind one prompt add up."""
    histories = logged([3, 1, 4, 5, 2, 6, 7, 8], [0] * 8, [3, 5], [3, 5])
    own = earning(histories, 2, [[0.5]])
    own.take(np.array([[0, 2]]), np.array([[[9, 4]]]))
    whole = lessons(histories, space, seen=True)
    found = HarvestLessons.of(whole.space, Asking("slate", 2, True, 4), own.table(), 0.5)
    (example,) = found.epoch(0)
    assert (example.context.tolist(), example.items.tolist(), found.counts) == ([0, 2], [4], {"harvested": 1})
    with torch.no_grad():
        total, weight = found.loss(model, found.epoch(3))
    exact = -float(enumerate_items(space, model, np.array([3, 1]), {3, 1}, label="slate")[4])
    assert float(total) == pytest.approx(0.5 * exact, abs=1e-5)
    assert float(weight) == 0.5 * 2
