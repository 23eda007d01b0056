"""TIGER against transformers' own passes of the same T5, item by item."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.baselines.asked import Asked, of_users
from stages.baselines.prefixes import Prefixes
from stages.baselines.t5_steps import Steps
from stages.baselines.tiger_learner import Tiger
from tests import small_histories
from tests.small_generative import CODES, given, section, sharpen
from tests.small_histories import N


@pytest.fixture(autouse=True)
def _checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))


@pytest.fixture
def make(tmp_path):
    """An untrained model with sharp weights, without dropout."""

    def build(corpus=None, exclude_seen=True, **changes) -> Tiger:
        own = given(corpus or small_histories.log(), tmp_path, exclude_seen=exclude_seen)
        tiger = Tiger(own, section("tiger", **{"beam_width": N, "list_length": N} | changes), CODES)
        sharpen(tiger.model)
        return tiger

    return build


def read(tiger: Tiger, user: int | None, items: np.ndarray) -> torch.Tensor:
    """What the encoder reads of a user, by hand; of nobody and nothing, the token that starts the decoder."""
    last = items[-tiger.params.history_items :]
    codes = [1 + 7 + 4 * level + code for item in last for level, code in enumerate(CODES[item])]
    first = [] if user is None else [int(tiger.user_token[user])]
    return torch.tensor([[*first, *codes] or [0]])


def every_score(tiger: Tiger, user: int | None, items: np.ndarray) -> np.ndarray:
    """Score of each item by one pass of transformers per item, without a cache: the softmax over its level's codes."""
    scores = []
    for codes in CODES:
        own = [8 + 4 * level + int(code) for level, code in enumerate(codes)]
        with torch.no_grad():
            logits = tiger.model(
                input_ids=read(tiger, user, items), decoder_input_ids=torch.tensor([[0, *own[:-1]]]), use_cache=False
            ).logits[0]
        parts = [logits[level, 8 + 4 * level : 12 + 4 * level].log_softmax(0)[code] for level, code in enumerate(codes)]
        scores.append(float(sum(parts)))
    return np.array(scores)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_wide_beam_is_a_ranking_of_the_whole_catalogue(make, exclude_seen):
    tiger = make(exclude_seen=exclude_seen)
    log, users = tiger.given.histories, np.array([0, 3, 17, 39])
    for split in ("valid", "test"):
        items, scores = tiger.ranked(of_users(log, split, users, exclude_seen, N))
        for row, user in enumerate(users):
            context = log.context(user, split)
            exact = every_score(tiger, user, context)
            hidden = np.unique(context) if exclude_seen else context[:0]
            order = np.setdiff1d(np.argsort(-exact, kind="stable"), hidden, assume_unique=True)
            assert np.ptp(exact) > 1
            assert items[row, : len(order)].tolist() == order.tolist()
            assert scores[row, : len(order)] == pytest.approx(exact[order], abs=1e-4)
            assert (items[row, len(order) :] == -1).all()


def test_lists_of_some_items_are_the_ranking_of_these(make):
    """As asked of a task: nobody's history, some items, nothing left out; and each of them by itself."""
    tiger, items = make(), np.array([1, 2, 7, 11, 12, 20])
    contexts = [np.array([3, 1, 4]), np.array([2]), np.array([], dtype=np.int64)]
    asked = Asked("test_video", contexts, 8, among=items)
    found, scores = tiger.ranked(asked)
    for row, context in enumerate(contexts):
        exact = every_score(tiger, None, context)
        order = items[np.argsort(-exact[items], kind="stable")]
        assert found[row].tolist() == [*order, -1, -1]
        assert scores[row, :6] == pytest.approx(exact[order], abs=1e-4)
        judged = tiger.judged(replace(asked, contexts=[context] * len(CODES), candidates=np.arange(len(CODES))))
        assert judged == pytest.approx(exact, abs=1e-4)


def test_lists_do_not_hang_on_who_is_searched_with_whom(make):
    tiger = make()
    users = np.arange(40)
    asked = of_users(tiger.given.histories, "test", users, True, 5)
    items, scores = tiger.ranked(asked)
    for part in (users[:1], users[7:12], users[::-1]):
        again = tiger.ranked(asked.part(part))
        assert np.array_equal(again[0], items[part])
        assert again[1] == pytest.approx(scores[part], abs=1e-5)


def test_an_empty_history_is_its_user_alone(make):
    tiger = make()
    found = tiger.ranked(Asked("test", [np.array([], dtype=np.int64)], N, np.array([3])))
    exact = every_score(tiger, 3, np.array([], dtype=np.int64))
    assert found[0][0].tolist() == np.argsort(-exact, kind="stable").tolist()


def test_steps_of_several_beams_are_passes_of_each(make):
    """Two users of unlike lengths, three beams that are swapped and doubled between steps, two layers."""
    tiger = make()
    tokens, mask = tiger._read(np.array([0, 5]), [np.array([1]), np.array([2, 3, 4])])
    with torch.no_grad():
        states = tiger.model.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
    steps = Steps(tiger.model, states, mask)
    written = torch.zeros(2, 3, 1, dtype=torch.int64)
    beams = torch.tensor([[2, 0, 0], [1, 1, 2]])
    for step in range(4):
        found = steps.read(written[:, :, -1])
        for user in range(2):
            for beam in range(3):
                with torch.no_grad():
                    exact = tiger.model.decoder(
                        input_ids=written[user, beam][None],
                        encoder_hidden_states=states[user][None],
                        encoder_attention_mask=mask[user][None],
                        use_cache=False,
                    ).last_hidden_state[0, -1]
                assert torch.allclose(found[user, beam], exact, atol=1e-5)
        steps.select(beams)
        written = torch.stack([written[user][beams[user]] for user in range(2)])
        drawn = torch.randint(1, 20, (2, 3, 1), generator=torch.Generator().manual_seed(step))
        written = torch.cat([written, drawn], 2)


@pytest.mark.parametrize("targets", [1, 3])
def test_the_loss_is_transformers_own_of_each_target_by_itself(make, targets):
    tiger = make(targets=targets, dropout=0.0)
    batch = tiger.batches(0)[0]
    total, count = tiger.loss(batch)
    exact, codes = 0.0, 0
    for user, history, row in zip(batch.user, batch.history, batch.target, strict=True):
        for target in row[row >= 0]:
            labels = torch.tensor([[8 + 4 * level + int(code) for level, code in enumerate(CODES[target])]])
            with torch.no_grad():
                exact += 3 * float(tiger.model(input_ids=read(tiger, user, history), labels=labels).loss)
            codes += 3
    assert int(count) == codes > 3 * len(batch.user) * (targets - 1)
    assert float(total.detach()) == pytest.approx(exact, rel=1e-5)


def test_gradients_reach_every_weight(make):
    tiger = make(targets=2)
    total, _ = tiger.loss(tiger.batches(0)[0])
    total.backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in tiger.model.parameters())


def test_users_are_hashed_by_their_ids(make):
    """A token among 1..7 that hangs on the source's id alone: not on its place, its digits or the seed."""
    log = small_histories.log()
    names = log.users["user_id"].to_pylist()
    tokens = make(log).user_token
    assert set(tokens) == set(range(1, 8))
    turned = replace(log, users=log.users.set_column(1, "user_id", [names[::-1]]))
    assert make(turned).user_token.tolist() == tokens[::-1].tolist()
    assert len(set(make(log, user_tokens=10_000).user_token)) == len(names)
    assert make(log).model.config.vocab_size == 1 + 7 + 3 * 4


# --- Prefixes ------------------------------------------------------------------------------------------------------


def prefixes(sequences, **changes) -> Prefixes:
    options = {"length": 2, "targets": 1, "exclude_seen": True, "shuffle_ties": False, "seed": 1} | changes
    ties = options.pop("ties", None)
    return Prefixes(small_histories.histories(sequences, N, ties), **options)


def pairs(batches) -> list[tuple[int, list[int], list[int]]]:
    return sorted(
        (int(user), history.tolist(), target.tolist())
        for batch in batches
        for user, history, target in zip(batch.user, batch.history, batch.target, strict=True)
    )


SEQUENCES = [[0, 1, 2, 1, 3, 8, 9], [4, 5, 6, 7], [3], [5, 6]]  # train: 0 1 2 1 3 | 4 5 | 3 | 5 6


def test_every_prefix_is_an_example_once():
    """Item 1, which user 0 has had, is no target but stays in the history; held-out items are neither."""
    expected = [(0, [0], [1]), (0, [0, 1], [2]), (0, [2, 1], [3]), (1, [4], [5]), (3, [5], [6])]
    assert pairs(prefixes(SEQUENCES).batches(0, 2, None)) == expected
    again = sorted([*expected, (0, [1, 2], [1])])
    assert pairs(prefixes(SEQUENCES, exclude_seen=False).batches(0, 2, None)) == again


def test_further_targets_are_the_users_own_training_items():
    found = pairs(prefixes(SEQUENCES, targets=3).batches(0, 9, None))
    expected = [(0, [0], [1, 2, -1]), (0, [0, 1], [2, -1, 3]), (0, [2, 1], [3, -1, -1])]
    assert found == [*expected, (1, [4], [5, -1, -1]), (3, [5], [6, -1, -1])]


def test_an_epoch_draws_its_own_examples():
    log = small_histories.log()
    own = Prefixes(log, 2, 1, True, False, 1)
    whole = pairs(own.batches(0, 7, None))
    drawn = [pairs(own.batches(epoch, 7, 20)) for epoch in (0, 1, 0)]
    assert [len(batch.user) for batch in own.batches(0, 7, 20)] == [7, 7, 6]
    assert drawn[0] == drawn[2] != drawn[1]
    assert all(pair in whole for part in drawn for pair in part)
    assert pairs(Prefixes(log, 2, 1, True, False, 2).batches(0, 7, 20)) != drawn[0]


def test_the_order_inside_ties_is_drawn_anew():
    """Train 0 | 1 2 3 | 4, the middle three in one moment: all their orders come up, nothing moves out of its tie."""
    own = prefixes([[0, 1, 2, 3, 4, 8, 9]], length=9, shuffle_ties=True, ties=[0, 1, 1, 1, 2, 3, 3])
    orders = set()
    for epoch in range(60):
        (longest,) = [history for _, history, _ in pairs(own.batches(epoch, 9, None)) if len(history) == 4]
        assert longest[0] == 0
        assert sorted(longest) == [0, 1, 2, 3]
        orders.add(tuple(longest[1:]))
    assert len(orders) == 6
    still = prefixes([[0, 1, 2, 3, 4, 8, 9]], length=9, ties=[0, 1, 1, 1, 2, 3, 3])
    assert all((0, [0, 1, 2], [3]) in pairs(still.batches(epoch, 9, None)) for epoch in range(5))
