"""Examples, batches and loss of SFT."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.core.errors import InputError
from stages.policy import training
from stages.policy.supervised import SlateLabels, collate, history_examples, loss_sum, slate_examples
from tests.small_policy import enumerate_items, logged, one


def test_collate(space):
    """Padded on the right. A target's weight, and the position before its first token: START and slate token count."""
    examples = [one([3, 1], [4, 5], 1.0, 0.25), one([], [2], 1.0)]
    batch = collate(examples, space, "slate")
    spelled = space.tokens.tolist()
    assert batch.tokens.tolist() == [
        [1, *spelled[3], *spelled[1], 2, *spelled[4], *spelled[5]],
        [1, 2, *spelled[2], 0, 0, 0, 0, 0, 0],
    ]
    assert batch.target.tolist() == [[4, 5], [2, -1]]
    assert batch.weight.tolist() == [[1, 0.25], [1, 0]]
    assert batch.at.tolist() == [[5, 7], [1, 0]]
    assert (batch.banned == -1).all()
    assert (batch.own == -1).all()
    plain = collate(examples, space, "history")
    assert plain.tokens[0].tolist() == [1, *spelled[3], *spelled[1], *spelled[4], *spelled[5]]
    assert plain.at.tolist() == [[4, 6], [0, 0]]


def test_what_a_prediction_may_not_name(space):
    """Items known and shown, each target's predecessors; the second 4, and 9 that is known, have no probability."""
    examples = [
        replace(one([3, 1], [4, 5, 4, 9], 1, 1, 1, 1), known=np.array([0, 9])),
        replace(one([], [2], 1), known=np.array([], dtype=np.int64)),
    ]
    batch = collate(examples, space, "history")
    assert batch.banned.tolist() == [[0, 9], [-1, -1]]
    assert [sorted(row) for row in batch.own[0].tolist()] == [
        [-1, -1, -1, -1, 1, 3],
        [-1, -1, -1, 1, 3, 4],
        [-1, -1, 1, 3, 4, 5],
        [-1, -1, 1, 3, 4, 5],
    ]
    assert (batch.own[1] == -1).all()
    assert batch.weight.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]


def test_the_loss_leaves_seen_items_out(space, model):
    """-log p(4 | 3 1) - .5 log p(5 | 3 1 4), each among the items not yet seen; padding beside it makes no NaN."""
    first = replace(one([3, 1], [4, 5, 3], 1.0, 0.5, 1.0), known=np.array([0, 7]))
    everything = replace(one([], [2], 1.0), known=np.delete(np.arange(14), 2))
    exact = [
        -float(enumerate_items(space, model, np.array(shown), {0, 7, *shown}, label="history")[item])
        for shown, item in (([3, 1], 4), ([3, 1, 4], 5))
    ]
    own = copy.deepcopy(model)
    loss = loss_sum(own, collate([first, everything], space, "history"), space)
    # the only item left costs nothing
    assert float(loss.detach()) == pytest.approx(exact[0] + 0.5 * exact[1], abs=1e-5)
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in own.parameters() if weight.grad is not None)


@pytest.mark.parametrize("label", ["slate", "history"])
def test_loss_is_the_constrained_negative_log_probability(space, model, label):
    """One item behind a context: its probability by enumeration; in a batch with a longer one, the sum."""
    first, second = one([3, 1], [4], 1.0), one([5, 2, 6, 7], [8], 0.5)
    exact = [
        -float(enumerate_items(space, model, np.array(context), set(), label=label)[item])
        for context, item in (([3, 1], 4), ([5, 2, 6, 7], 8))
    ]
    with torch.no_grad():
        alone = float(loss_sum(model, collate([first], space, label), space))
        together = float(loss_sum(model, collate([first, second], space, label), space))
    assert alone == pytest.approx(exact[0], abs=1e-5)
    assert together == pytest.approx(exact[0] + 0.5 * exact[1], abs=1e-5)


def test_two_targets_are_predicted_one_by_one(space, model):
    """-log p(4 | 3) - .5 log p(5 | 3 4): the label `history` reads on."""
    exact = [
        -float(enumerate_items(space, model, np.array(context), set(), label="history")[item])
        for context, item in (([3], 4), ([3, 4], 5))
    ]
    with torch.no_grad():
        found = float(loss_sum(model, collate([one([3], [4, 5], 1.0, 0.5)], space, "history"), space))
    assert found == pytest.approx(exact[0] + 0.5 * exact[1], abs=1e-5)


def test_evaluate_is_a_mean_over_examples(space, model):
    examples = training.next_item_examples([np.array([3, 1]), np.array([5, 2, 6, 7])], np.array([4, 8]), 2, False)
    assert [example.context.tolist() for example in examples] == [[3, 1], [6, 7]]
    exact = [
        -float(enumerate_items(space, model, np.array(context), set(), label="history")[item])
        for context, item in (([3, 1], 4), ([6, 7], 8))
    ]
    assert training.evaluate(model, space, examples, "history") == pytest.approx(sum(exact) / 2, abs=1e-5)


def test_validation_items_seen_before_are_left_out():
    """They cannot be recommended where seen items are excluded; where none is left, that is said."""
    contexts, targets = [np.array([3, 1]), np.array([5, 2])], np.array([1, 4])
    found = training.next_item_examples(contexts, targets, 1, True)
    assert [(example.context.tolist(), example.known.tolist()) for example in found] == [([2], [5])]
    assert len(training.next_item_examples(contexts, targets, 1, False)) == 2
    with pytest.raises(InputError, match="no validation item to judge SFT by"):
        training.next_item_examples(contexts[:1], targets[:1], 1, True)


@pytest.mark.parametrize("window", [1, 3, 50])
def test_history_windows_hold_every_item_once_and_in_order(window):
    sequences = [np.arange(10, 17), np.arange(20, 21), np.arange(30, 42)]
    offsets = set()
    for seed in range(8):
        examples = list(history_examples(sequences, None, window, 0.0, False, np.random.default_rng(seed)))
        assert np.concatenate([example.targets for example in examples]).tolist() == np.concatenate(sequences).tolist()
        assert all(1 <= len(example.targets) <= window and not len(example.context) for example in examples)
        assert all(
            (example.weights == 1).all() and len(example.weights) == len(example.targets) for example in examples
        )
        assert all(len({target // 10 for target in example.targets} & {1, 2}) < 2 for example in examples)
        offsets.add(len(examples[0].targets))
    assert len(offsets) == min(window, 3) or window == 50


def test_item_dropout_leaves_a_part_of_the_history_in_order():
    """2,000 items, a quarter left out: 1,500 +- 4 standard deviations of 19.4."""
    examples = list(history_examples([np.arange(2000)], None, 50, 0.25, False, np.random.default_rng(0)))
    kept = np.concatenate([example.targets for example in examples])
    assert (np.diff(kept) > 0).all()
    assert abs(len(kept) - 1500) < 78


def test_windows_know_what_came_before_and_what_was_left_out():
    """Every item before the window's last one is either known, if it is not shown there, or a target; never both."""
    sequence = np.random.default_rng(1).permutation(300)
    for example in history_examples([sequence], None, 20, 0.3, True, np.random.default_rng(0)):
        end = int(np.flatnonzero(sequence == example.targets[-1])[0])
        assert sorted([*example.known, *example.targets]) == sorted(sequence[: end + 1].tolist())


def test_a_slate_knows_the_history_that_it_does_not_show():
    histories = logged([5, 0, 7, 1, 2, 3], [0] * 6, [6], [6])
    examples = slate_examples(histories, np.array([6]), plan(length=1, exclude_seen=True), np.random.default_rng(0))
    for example in examples:
        count = len(example.context) + len(example.known)
        assert sorted([*example.known, *example.context]) == sorted([5, 0, 7, 1, 2, 3][:count])
        assert len(example.context) == min(2, count)


def test_tied_items_change_places():
    """Ties of 1, 3 and 2 items: every order within them comes up, 1 * 6 * 2 = 12 of them, and no other."""
    sequence, tie = np.array([7, 3, 9, 4, 1, 8]), np.array([0, 1, 1, 1, 2, 2])
    found = set()
    for seed in range(200):
        examples = history_examples([sequence], [tie], 50, 0.0, False, np.random.default_rng(seed))
        found.add(tuple(np.concatenate([example.targets for example in examples]).tolist()))
    assert len(found) == 12
    assert {(order[0], *sorted(order[1:4]), *sorted(order[4:])) for order in found} == {(7, 3, 4, 9, 1, 8)}


def plan(**changes) -> SlateLabels:
    fill = changes.pop("fill", lambda contexts, logged_: [np.array([13, -1, 12, 11, 10])] * len(contexts))
    values = {"length": 4, "horizon": 3, "history_items": 2, "fill_weight": 0.0, "exclude_seen": False}
    return SlateLabels(**{**values, **changes}, fill=fill)


def test_slate_labels_by_hand():
    """One user of 4 items, horizon 3: the only context is item 0. Log 1 2 3 with likes on 2 and 3: 2, 3, then 1."""
    histories = logged([0, 1, 2, 3, 9], [0, 0, 1, 1, 1], [5], [5])
    (found,) = slate_examples(histories, np.array([4]), plan(), np.random.default_rng(0))
    assert (found.context.tolist(), found.targets.tolist(), found.weights.tolist()) == ([0], [2, 3, 1], [1, 1, 1])
    (found,) = slate_examples(histories, np.array([4]), plan(fill_weight=0.25), np.random.default_rng(0))
    assert found.targets.tolist() == [2, 3, 1, 13]
    assert found.weights.tolist() == [1, 1, 1, 0.25]
    cut = list(slate_examples(histories, np.array([4]), plan(length=2), np.random.default_rng(0)))
    assert [found.targets.tolist() for found in cut] == [[2, 3], [2, 3]]  # one context per 2 of the 4 items


def test_more_kinds_of_feedback_come_first_and_twins_count_once():
    """Log 1 2 3 with clicks on all, a like on 2 and 3, a share on 3: 1, 2, 3 kinds. Log 1 2 2, a like on the second 2:
    1, 1, 2 kinds, and 2 stands where its better twin does."""
    histories = logged([0, 1, 2, 3], [0, 0, 1, 1], [4], [4])
    histories.feedback["share"] = np.array([0, 0, 0, 1], dtype=np.int8)
    (found,) = slate_examples(histories, np.array([4]), plan(), np.random.default_rng(0))
    assert found.targets.tolist() == [3, 2, 1]
    twins = logged([0, 1, 2, 2], [0, 0, 0, 1], [4], [4])
    (found,) = slate_examples(twins, np.array([4]), plan(fill_weight=0.5), np.random.default_rng(0))
    assert found.targets.tolist() == [2, 1, 13, 12]
    assert found.weights.tolist() == [1, 1, 0.5, 0.5]


def test_histories_too_short_for_a_slate_label():
    """3 items of the log make a label and one has to stand before them; the horizon is sft.label_horizon."""
    histories = logged([0, 1, 2, 3], [0] * 4, [4], [4])
    with pytest.raises(InputError, match=r"no user has more than 3 items \(sft\.label_horizon\)"):
        list(slate_examples(histories, np.array([3]), plan(), np.random.default_rng(0)))


def test_slate_labels_stay_within_the_lengths():
    """Items tell their place: targets are the next 3 of the context, within the first `lengths` items of the user."""
    lengths = np.array([9, 3, 12, 4])
    histories = logged(list(range(60)), [item % 3 == 0 for item in range(60)], [15] * 4, [15] * 4)
    users, cuts = [], set()
    for seed in range(20):
        for example in slate_examples(histories, lengths, plan(history_items=50), np.random.default_rng(seed)):
            user = int(example.targets[0]) // 15
            start, cut = user * 15, len(example.context)
            assert example.context.tolist() == list(range(start, start + cut))
            assert sorted(example.targets.tolist()) == list(range(start + cut, start + cut + 3))
            assert 1 <= cut <= lengths[user] - 3
            liked = [item % 3 == 0 for item in example.targets.tolist()]
            assert liked == sorted(liked, reverse=True)
            users.append(user)
            cuts.add((user, cut))
    assert np.bincount(users, minlength=4).tolist() == [40, 0, 60, 20]  # lengths 9, 12, 4 over 4 items a slate
    assert {(0, 1), (0, 6), (2, 1), (2, 9), (3, 1)} <= cuts  # both ends occur
