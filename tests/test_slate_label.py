"""Examples and loss of SFT's label `slate`."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.action_spaces.base import Asking
from stages.core.errors import InputError
from stages.policy.slate_label import Example, SlateLessons
from tests.small_policy import enumerate_items, logged


def lessons(
    histories, space=None, lengths=None, slate_length=4, horizon=3, fill_weight=0.0, seen=False, objectives=None, seed=0
):
    catalogue = {"offered": lambda self, contexts: None, "put_target": False, "unaided": False}
    own = copy.copy(space) if space else type("Catalogue", (), catalogue)()
    own.histories = histories
    return SlateLessons(
        own,
        Asking("slate", 2, seen, slate_length),
        histories,
        lengths=histories.train_length if lengths is None else lengths,
        horizon=horizon,
        fill_weight=fill_weight,
        fill=lambda contexts, logged_: [np.array([13, -1, 12, 11, 10])] * len(contexts),
        objectives=objectives or dict.fromkeys(histories.feedback, 1.0),
        seed=seed,
    )


def test_slate_labels_by_hand():
    """One user of 4 items, horizon 3: the only context is item 0. Log 1 2 3 with likes on 2 and 3: 2, 3, then 1."""
    histories = logged([0, 1, 2, 3, 9], [0, 0, 1, 1, 1], [5], [5])
    (found,) = lessons(histories, lengths=np.array([4])).epoch(0)
    assert (found.context.tolist(), found.items.tolist(), found.weights.tolist()) == ([0, 1], [2, 3, 1], [1, 1, 1])
    filled = lessons(histories, lengths=np.array([4]), fill_weight=0.25)
    (found,) = filled.epoch(0)
    assert found.items.tolist() == [2, 3, 1, 13]
    assert found.weights.tolist() == [1, 1, 1, 0.25]
    assert filled.counts == {"logged": 3, "filled": 1, "put_in": 0, "left_out": 0, "disliked": 0}
    cut = lessons(histories, lengths=np.array([4]), slate_length=2).epoch(0)
    assert [found.items.tolist() for found in cut] == [[2, 3], [2, 3]]  # one context per 2 of the 4 items


def test_seen_items_are_no_label_where_they_cannot_be_recommended():
    """Log after 0 1: 0 2 3, where 0 was seen. With it seen, the label is 2 and 3; a context without any is left out."""
    histories = logged([0, 1, 0, 2, 3], [0] * 5, [5], [5])
    labels = {
        example.context[1]: example.items.tolist()
        for seed in range(9)
        for example in lessons(histories, seen=True, seed=seed).epoch(0)
    }
    assert labels[2] == [2, 3]
    assert labels[1] == [1, 2]  # 0 stands before it
    again = logged([0, 0, 0, 0], [0] * 4, [4], [4])
    assert lessons(again, seen=True).epoch(0) == []


def test_more_kinds_of_feedback_come_first_and_twins_count_once():
    """Log 1 2 3 with clicks on all, a like on 2 and 3, a share on 3: 1, 2, 3 kinds. Log 1 2 2, a like on the second 2:
    1, 1, 2 kinds, and 2 stands where its better twin does."""
    histories = logged([0, 1, 2, 3], [0, 0, 1, 1], [4], [4])
    histories.feedback["share"] = np.array([0, 0, 0, 1], dtype=np.int8)
    (found,) = lessons(histories).epoch(0)
    assert found.items.tolist() == [3, 2, 1]
    twins = logged([0, 1, 2, 2], [0, 0, 0, 1], [4], [4])
    (found,) = lessons(twins, fill_weight=0.5).epoch(0)
    assert found.items.tolist() == [2, 1, 13, 12]
    assert found.weights.tolist() == [1, 1, 0.5, 0.5]


def test_feedback_counts_by_its_weight_and_a_disliked_item_is_no_label():
    """Log 1 2 3: clicks on all, a like (here of weight -3) on 2 and 3, a share (5) on 3: 1, -2 and 3. A pool that holds
    2 does not bring it back."""
    histories = logged([0, 1, 2, 3], [0, 0, 1, 1], [4], [4])
    histories.feedback["share"] = np.array([0, 0, 0, 1], dtype=np.int8)
    own = lessons(histories, objectives={"click": 1.0, "like": -3.0, "share": 5.0})
    (found,) = own.epoch(0)
    assert found.items.tolist() == [3, 1]
    assert own.counts["disliked"] == 1
    space = copy.copy(own.space)
    space.offered = lambda contexts: np.array([[2, 3, 9, 1]] * len(contexts))
    pooled = replace(own, space=space, fill_weight=0.5)
    (found,) = pooled.epoch(0)
    assert found.items.tolist() == [3, 1, 9]


def test_histories_too_short_for_a_slate_label():
    """3 items of the log make a label and one has to stand before them; the horizon is sft.label_horizon."""
    histories = logged([0, 1, 2, 3], [0] * 4, [4], [4])
    with pytest.raises(InputError, match=r"no user has more than 3 items \(sft\.label_horizon\)"):
        lessons(histories, lengths=np.array([3])).epoch(0)


def test_slate_labels_stay_within_the_lengths():
    """Items tell their place: labels are the next 3 of the context, within the first `lengths` items of the user."""
    lengths = np.array([9, 3, 12, 4])
    histories = logged(list(range(60)), [item % 3 == 0 for item in range(60)], [15] * 4, [15] * 4)
    users, cuts = [], set()
    for seed in range(20):
        for example in lessons(histories, lengths=lengths, seed=seed).epoch(0):
            user, position = example.context.tolist()
            start = user * 15 + position
            assert sorted(example.items.tolist()) == list(range(start, start + 3))
            assert 1 <= position <= lengths[user] - 3
            liked = [item % 3 == 0 for item in example.items.tolist()]
            assert liked == sorted(liked, reverse=True)
            users.append(user)
            cuts.add((user, position))
    assert np.bincount(users, minlength=4).tolist() == [40, 0, 60, 20]  # lengths 9, 12, 4 over 4 items a slate
    assert {(0, 1), (0, 6), (2, 1), (2, 9), (3, 1)} <= cuts  # both ends occur


def test_the_loss_is_that_of_the_constrained_policy(space, model):
    """Slates of one item behind 3 1 and behind 6 7, the latter at half its weight: log-probabilities by enumeration."""
    histories = logged([3, 1, 4, 5, 2, 6, 7, 8], [0] * 8, [3, 5], [3, 5])
    examples = [
        Example(np.array([0, 2]), np.array([4]), np.ones(1, np.float32)),
        Example(np.array([1, 4]), np.array([8]), np.full(1, 0.5, np.float32)),
    ]
    exact = [
        -float(enumerate_items(space, model, np.array(shown), banned, label="slate")[item])
        for shown, banned, item in (([3, 1], {3, 1}, 4), ([6, 7], {5, 2, 6, 7}, 8))
    ]
    total, weight = lessons(histories, space, seen=True).loss(model, examples)
    assert float(total.detach()) == pytest.approx(exact[0] + 0.5 * exact[1], abs=1e-5)
    assert float(weight) == 2 + 0.5 * 2


def test_slates_of_different_lengths(space, model):
    """A slate of two items beside one of one: the sum of both alone."""
    histories = logged([3, 1, 4, 5, 2, 6, 7, 8], [0] * 8, [3, 5], [3, 5])
    examples = [
        Example(np.array([0, 2]), np.array([4, 9]), np.ones(2, np.float32)),
        Example(np.array([1, 4]), np.array([8]), np.ones(1, np.float32)),
    ]
    own = lessons(histories, space, seen=True)
    with torch.no_grad():
        alone = [float(own.loss(model, [example])[0]) for example in examples]
        together, weight = own.loss(model, examples)
    assert float(together) == pytest.approx(sum(alone), abs=1e-5)
    assert float(weight) == 6
