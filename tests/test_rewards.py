"""Rewards from the log against numbers worked out by hand. Slates are [B, K, L], logs [B, H].

Discounts 1 / log2(rank + 1): 1, .630930, .5, .430677.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from stages.baselines import transitions
from stages.corpus.histories import Histories
from stages.measures.diversity import slate_entropy
from stages.rewards.click_model import ClickModel
from stages.rewards.environment import LoggedFeedback
from stages.rewards.feedback import discounts, logged_rewards
from stages.rewards.modelled import ModelledFeedback, inclinations, modelled_rewards
from stages.rewards.running_mean import RunningMean

SHARES = np.array([[1, 0], [1, 0], [0, 1], [0.5, 0.5], [0, 0], [0, 1]], dtype=float)


def reward(slate: list[int], logged: list[int], carries: list[int]) -> float:
    found = logged_rewards(np.array([[slate]]), np.array([logged]), {"click": np.array([carries])})
    assert found.shape == (1, 1, 1)
    return float(found[0, 0, 0])


def test_discounts():
    assert discounts(4) == pytest.approx([1, 0.630930, 0.5, 0.430677], abs=1e-6)


def test_one_hit_at_rank_3_of_horizon_2():
    """DCG .5, ideal of two 1.630930: .306574."""
    assert reward([4, 5, 7, 9], [7, 8], [1, 1]) == pytest.approx(0.306574, abs=1e-6)


def test_both_hits():
    """Ranks 1 and 2 in either order: 1. Ranks 2 and 4: (.630930 + .430677) / 1.630930 = .650921."""
    assert reward([7, 8, 1, 2], [7, 8], [1, 1]) == pytest.approx(1)
    assert reward([8, 7, 1, 2], [7, 8], [1, 1]) == pytest.approx(1)
    assert reward([1, 7, 2, 8], [7, 8], [1, 1]) == pytest.approx(0.650921, abs=1e-6)


def test_no_hit_and_no_feedback_give_zero():
    assert reward([1, 2, 3, 4], [7, 8], [1, 1]) == 0
    assert reward([7, 8, 3, 4], [7, 8], [0, 0]) == 0


def test_only_items_with_the_feedback_count():
    """7 without, 8 with: a hit on 8 at rank 2 of an ideal of one: .630930; on 7 alone: 0."""
    assert reward([7, 8, 3, 4], [7, 8], [0, 1]) == pytest.approx(0.630930, abs=1e-6)
    assert reward([7, 1, 3, 4], [7, 8], [0, 1]) == 0


def test_an_item_that_the_log_holds_twice_counts_once():
    """Ideal of one item: rank 1 gives 1, not 1 / 1.630930; the feedback of the second occurrence counts."""
    assert reward([7, 1, 2, 3], [7, 7], [1, 1]) == pytest.approx(1)
    assert reward([7, 1, 2, 3], [7, 7], [0, 1]) == pytest.approx(1)
    assert reward([1, 7, 2, 3], [7, 7, 8], [0, 1, 1]) == pytest.approx(0.630930 / 1.630930, abs=1e-6)


def test_a_horizon_beyond_the_slate():
    """L = 2, three logged items, all would do: the ideal is that of two places."""
    assert reward([9, 7], [9, 8, 7], [1, 1, 1]) == pytest.approx(1)


def test_a_slot_without_item_earns_nothing():
    assert reward([-1, 7], [7, 8], [1, 0]) == pytest.approx(0.630930, abs=1e-6)


def test_several_objectives_contexts_and_slates():
    """Two contexts, two slates of 2, objectives in the order of the mapping.

    Context 0, log 7 (click, like), 8 (click): slate (7, 8) 1, 1; slate (1, 8): .630930 / 1.630930 = .386853, 0
    Context 1, log 5, 6 (clicks, no like): slate (6, 1) 1 / 1.630930 = .613147, 0; slate (7, 8) 0, 0
    """
    items = np.array([[[7, 8], [1, 8]], [[6, 1], [7, 8]]])
    feedback = {"like": np.array([[1, 0], [0, 0]]), "click": np.ones((2, 2), dtype=np.int64)}
    found = logged_rewards(items, np.array([[7, 8], [5, 6]]), feedback)
    assert found == pytest.approx(np.array([[[1, 1], [0, 0.386853]], [[0, 0.613147], [0, 0]]]), abs=1e-6)


def environment(weights: dict[str, float], horizon: int = 2) -> LoggedFeedback:
    """User 0 took 0 1 2 3, user 1 took 4 5 0 1; item 3 and item 0 in user 1's log were disliked."""
    histories = Histories(
        item=np.array([0, 1, 2, 3, 4, 5, 0, 1]),
        tie=np.arange(8),
        offsets=np.array([0, 4, 8]),
        train_length=np.array([4, 4]),
        valid=np.array([-1, -1]),
        test=np.array([-1, -1]),
        feedback={
            "click": np.ones(8, dtype=np.int8),
            "dislike": np.array([0, 0, 0, 1, 0, 0, 1, 0], dtype=np.int8),
        },
        items=SimpleNamespace(num_rows=6),
        users=None,
    )
    return LoggedFeedback(histories, weights, horizon, SHARES)


def test_the_log_behind_a_context():
    """Context (0, 2): log 2 and 3. Slate (3, 2): click 1, dislike 1; (2, 5): click .613147, dislike 0.

    Context (1, 1): log 5 and 0. Slate (0, 3): click .613147, dislike 1; (3, 5): click .386853, dislike 0.
    """
    found = environment({"dislike": -1.0, "click": 1.0}).rewards(
        np.array([[0, 2], [1, 1]]), np.array([[[3, 2], [2, 5]], [[0, 3], [3, 5]]])
    )
    want = np.array([[[1, 1], [0, 0.613147]], [[1, 0.613147], [0, 0.386853]]])
    assert found == pytest.approx(want, abs=1e-6)


def test_weighted_with_a_negative_weight():
    """w = (1, -.5): (1 * .8 - .5 * .4) / 1.5 = .4; a slate that is only disliked earns -.5 / 1.5."""
    found = environment({"click": 1.0, "dislike": -0.5}).weighted(np.array([[[0.8, 0.4], [0.0, 1.0]]]))
    assert found == pytest.approx(np.array([[0.4, -1 / 3]]))


def test_only_weighted_objectives_are_given():
    assert environment({"click": 1.0}).rewards(np.array([[0, 1]]), np.array([[[1, 2]]])).tolist() == [[[1.0]]]


def test_items_before_a_context():
    found = environment({"click": 1.0}).histories.items_before(np.array([[0, 2], [1, 1], [1, 4]]))
    assert [row.tolist() for row in found] == [[0, 1], [4], [4, 5, 0, 1]]


def test_entropy_is_the_measure():
    """Bits: items 0, 2 are one half each, 1; items 0, 1 one category, 0; 0 and 3: .75 / .25, .811278."""
    items = np.array([[[0, 2], [0, 1]], [[0, 3], [4, 4]]])
    found = environment({"click": 1.0}).entropy(items)
    assert np.array_equal(found, slate_entropy(items, SHARES))
    assert found == pytest.approx(np.array([[1, 0], [0.811278, 0]]), abs=1e-6)


def test_running_mean():
    """Starts at the first value; rate .25: 2 -> 2 + .25 (4 - 2) = 2.5 -> 2.5 + .25 (0 - 2.5) = 1.875."""
    mean = RunningMean(0.25)
    assert mean.value is None
    assert mean.start(2.0) == 2.0
    assert mean.start(9.0) == 2.0
    mean.update(4.0)
    assert mean.value == 2.5
    mean.update(0.0)
    assert mean.value == 1.875


def test_running_mean_updated_before_any_start():
    mean = RunningMean(0.25)
    mean.update(3.0)
    assert mean.value == 3.0


# ------------------------------------------------------------------------------------------------ click model


NOBODY = np.array([-1])


def visible() -> Histories:
    """User 0 took 0 1 2, user 1 took 0 1 and then, held back, 3. Item 1 was liked by user 0 only."""
    return Histories(
        item=np.array([0, 1, 2, 0, 1, 3]),
        tie=np.arange(6),
        offsets=np.array([0, 3, 6]),
        train_length=np.array([3, 2]),
        valid=np.array([-1, -1]),
        test=np.array([-1, -1]),
        feedback={"click": np.ones(6, dtype=np.int8), "like": np.array([0, 1, 0, 0, 0, 1], dtype=np.int8)},
        items=SimpleNamespace(num_rows=4),
        users=None,
    )


def click_model(smoothing: float = 0.5) -> ClickModel:
    """With window 1: 0 -> 1 twice, 1 -> 2 once. Popularity of 0, 1, 2, 3: .4, .4, .2, 0."""
    return ClickModel.fit(visible(), transitions.Params(window=1, last_items=2, decay=0.5, list_length=2), smoothing)


def test_click_probabilities_by_hand():
    """After 0, 1: votes 1 for 2 (from 1), .5 x 2 = 1 for 1 (from 0): half each, and popularity."""
    assert click_model().probabilities(NOBODY, [np.array([0, 1])]) == pytest.approx(np.array([[0.2, 0.45, 0.35, 0.0]]))


def test_inclinations_by_hand():
    """A click is certain. Likes + .2 (one of 5 is a like) over interactions + 1: .2 where nobody was."""
    click, like = inclinations(visible(), ["click", "like"])
    assert click == pytest.approx(np.ones(4))
    assert like == pytest.approx([0.2 / 3, 1.2 / 3, 0.2 / 2, 0.2])


def test_what_a_user_went_on_to_is_not_its_own_reason():
    """Without user 0's own 1 -> 2 and 0 -> 1 the votes are user 1's: .5 for 1. Of user 1, none is left for 1."""
    click = click_model().probabilities(np.array([0]), [np.array([0, 1])])[0]
    assert click == pytest.approx([0.2, 0.7, 0.1, 0.0])
    click = click_model().probabilities(np.array([1]), [np.array([0, 1])])[0]
    assert click == pytest.approx([0.2, 0.2 + 0.25 / 1.5, 0.1 + 0.5 / 1.5, 0.0])


def test_after_an_item_that_nothing_followed_popularity_decides():
    click = click_model(0.1).probabilities(NOBODY, [np.array([2])])[0]
    assert click == pytest.approx([0.4, 0.4, 0.2, 0.0])


def test_modelled_rewards_by_hand():
    """Clicks .45 at rank 1, .35 at rank 2: the best slate: 1. Reversed: (.35 + .45 d) / (.45 + .35 d), d = .630930.

    Likes have another best slate, 2 before 1.
    """
    chance = np.array([[[0.2, 0.45, 0.35, 0.0], [0.0, 0.1, 0.3, 0.0]]])
    found = modelled_rewards(np.array([[[1, 2], [2, 1], [3, -1]]]), chance)
    assert found.shape == (1, 3, 2)
    best = 0.45 + 0.35 * 0.630930
    assert found[0, :, 0] == pytest.approx([1, (0.35 + 0.45 * 0.630930) / best, 0], abs=1e-6)
    assert found[0, :, 1] == pytest.approx([(0.1 + 0.3 * 0.630930) / (0.3 + 0.1 * 0.630930), 1, 0], abs=1e-6)


@pytest.mark.parametrize("both", [True, False])
def test_modelled_objectives_stand_behind_the_logs(both):
    """Weights and rewards in the same order; the log's rewards as they are without a model."""
    log = environment({"click": 1.0, "dislike": -0.5})
    chance, inclination = np.array([[0.1, 0.4, 0.5, 0.0]]), np.array([[1.0, 1.0, 1.0, 1.0], [0.5, 0.5, 0.1, 0.0]])
    asked = []
    own = ModelledFeedback(log, lambda contexts: asked.append(contexts) or chance, inclination, both)
    names = ["click_model", "dislike_model"]
    assert list(own.weights) == (["click", "dislike", *names] if both else names)
    contexts, items = np.array([[0, 1]]), np.array([[[1, 2], [3, 2]]])
    found = own.rewards(contexts, items)
    assert asked == [contexts]
    assert found.shape == (1, 2, len(own.weights))
    assert found[..., -2:] == pytest.approx(modelled_rewards(items, (chance * inclination)[None]))
    if both:
        assert found[..., :2] == pytest.approx(log.rewards(contexts, items))
    weights = np.array(list(own.weights.values()))
    assert own.weighted(found) == pytest.approx(found @ weights / np.abs(weights).sum())


def test_an_objective_that_nothing_carries_earns_nothing():
    """As in the log: 0, where the best slate's chance is 0 as well."""
    found = modelled_rewards(np.array([[[1, 2]]]), np.array([[[0.5, 0.25, 0.25], [0.0, 0.0, 0.0]]]))
    assert found[0, 0, 0] > 0
    assert found[0, 0, 1] == 0
