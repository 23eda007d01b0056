"""Baselines that learn from item numbers: windows, encoder, lists, the training loop, and what they may not see.

tests/golden/lists.json holds the first ten lists of every baseline for a fixed small log. It changes only in a commit
that says why. To renew it, from the repository's root:

    python -m tests.test_sequential
"""

import json
import os
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from stages.baselines import loop, popularity, ranking, rearec, sasrec, sasrec_bce, self_attention, transitions
from stages.baselines.asked import Asked
from stages.baselines.attention import ItemEncoder, Size, causal, up_to
from stages.baselines.rearec import Reasoner
from stages.baselines.self_attention import LOSSES, Sasrec
from stages.baselines.task_asked import SPLITS
from stages.baselines.windows import Windows, padded, rows
from stages.core.cells import axis_of
from stages.core.errors import InputError
from stages.core.params import modules
from tests.small_histories import OWN, SCHEDULE, SIZE, N, given, histories, listed, log

GOLDEN = Path(__file__).parent / "golden" / "lists.json"
COUNTED = {
    "popularity": (popularity, popularity.Params(list_length=5)),
    "transitions": (transitions, transitions.Params(window=3, last_items=5, decay=0.8, list_length=5)),
}
LEARNT = [name for name in modules("baselines") if axis_of(name) == "sequential_baselines"]
every_learnt = pytest.mark.parametrize("name", LEARNT)


@pytest.fixture(autouse=True)
def _checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))


def recommend(name, corpus, folder, own=None, **changes):
    """What a learnt baseline comes to on a corpus; own: keys of its section, changes: of what it is handed."""
    module, told = import_module(f"stages.baselines.{name}"), given(corpus, folder, **changes)
    shared = {key: value for key, value in (SCHEDULE | SIZE).items() if key in module.Params.model_fields}
    try:
        return module.recommend(told, module.Params(**shared | OWN.get(name, {}) | (own or {})))
    finally:
        told.checkpoint.drop()


def weights(outcome):
    return save({name: weight.detach().contiguous() for name, weight in outcome.weights.items()})


# ---------------------------------------------------------------------------------------------------------- lists


def first_lists(folder):
    """Of every baseline: the test lists of the log's first ten users with a target."""
    corpus, found = log(), {}
    for name, (module, own) in COUNTED.items():
        found[name] = listed(module, corpus, own, "test", True)[0][:10].tolist()
    for name in LEARNT:
        found[name] = recommend(name, corpus, folder).lists["test"][0][:10].tolist()
    progressive = recommend("rearec", corpus, folder, {"variant": "prl"})
    return found | {"rearec, prl": progressive.lists["test"][0][:10].tolist()}


def test_first_lists_are_golden(tmp_path):
    assert first_lists(tmp_path) == json.loads(GOLDEN.read_text())


@every_learnt
def test_lists_hold_unseen_items_once(name, tmp_path):
    """The last item of the catalogue is in nobody's training part, two users have a single item: neither is in the
    way, and nothing outside the catalogue is listed.
    """
    corpus = log()
    assert corpus.train_count[N - 1] == 0
    assert (corpus.test == N - 1).any()
    assert (corpus.train_length == 1).sum() > 2
    outcome = recommend(name, corpus, tmp_path)
    for split in SPLITS:
        items, scores = outcome.lists[split]
        users = np.flatnonzero(corpus.target(split) >= 0)
        assert items.shape == scores.shape == (len(users), SCHEDULE["list_length"])
        assert (np.diff(scores, axis=1) <= 0).all()
        for user, own in zip(users, items.tolist(), strict=True):
            real = [item for item in own if item >= 0]
            assert len(set(real)) == len(real) == min(len(own), N - len(np.unique(corpus.context(user, split))))
            assert not set(real) & set(corpus.context(user, split).tolist())
            assert all(0 <= item < N for item in real)


@every_learnt
def test_lists_longer_than_the_catalogue(name, tmp_path):
    items, scores = recommend(name, log(), tmp_path, {"list_length": N + 3}, exclude_seen=False).lists["test"]
    assert [sorted(own) for own in items.tolist()] == [[-1, -1, -1, *range(N)]] * len(items)
    assert (items[:, N:] == -1).all()
    assert (scores[:, N:] == 0).all()


@every_learnt
def test_an_item_outside_the_catalogue_is_refused(name, tmp_path):
    corpus = log()
    with pytest.raises(InputError, match=rf"outside the catalogue, 0..{N - 1}; rerun prepare"):
        recommend(name, replace(corpus, item=np.where(corpus.item == 2, N, corpus.item)), tmp_path)


@every_learnt
def test_nothing_to_learn_from_and_nothing_to_judge_by(name, tmp_path):
    with pytest.raises(InputError, match=f"{name}: nothing to learn from: no user has two training items"):
        recommend(name, histories([[0, 1, 2], [1, 2, 0], [1]], 3), tmp_path)
    with pytest.raises(InputError, match=f"{name}: no validation item to judge an epoch by"):
        recommend(name, histories([[0, 1], [1, 2]], 3), tmp_path)


def test_lists_of_some_items_are_the_ranking_of_these(tmp_path):
    """As asked of a task, by both encoders; behind no context there is neither a list nor a score."""
    for learner in (sasrec_learner(tmp_path), rearec_learner(tmp_path)):
        learner.model.eval()
        torch.nn.init.normal_(learner.model.items.weight)
        items, contexts = np.array([0, 5, 6, 13]), [np.array([3, 1, 4]), np.array([], dtype=np.int64), np.arange(12)]
        asked = Asked("test_video", contexts, 5, among=items)
        found, scores = learner.ranked(asked)
        everything, values = learner.ranked(replace(asked, among=None, length=N))
        for row in (0, 2):
            order = [place for place, item in enumerate(everything[row]) if item in items]
            assert found[row].tolist() == [*everything[row, order], -1]
            assert scores[row, :4] == pytest.approx(values[row, order], rel=1e-5)
            judged = learner.judged(replace(asked, contexts=[contexts[row]] * N, candidates=everything[row]))
            assert judged == pytest.approx(values[row], rel=1e-5)
        assert (found[1].tolist(), scores[1].tolist()) == ([-1] * 5, [0] * 5)
        assert np.isnan(learner.judged(replace(asked, candidates=np.array([1, 1, 1])))).tolist() == [False, True, False]


def test_a_large_catalogue_is_ranked_for_few_at_once(tmp_path, monkeypatch):
    """No pass scores more than is held at once, unless one context alone does; the lists are the same."""
    learner, passes = sasrec_learner(tmp_path), []
    learner.model.eval()
    torch.nn.init.normal_(learner.model.items.weight)
    asked = Asked("test", [np.arange(length) for length in range(1, 8)], 5, exclude_seen=True)
    whole, scores = learner.ranked(asked)
    best = learner._best
    monkeypatch.setattr(learner, "_best", lambda part, items: (passes.append(len(part.contexts)), best(part, items))[1])
    for most, told in ((3 * N + 1, [3, 3, 1]), (N - 1, [1] * 7)):
        monkeypatch.setattr(self_attention, "SCORES", most)
        passes.clear()
        found, values = learner.ranked(asked)
        assert passes == told
        assert np.array_equal(found, whole)
        assert values == pytest.approx(scores, rel=1e-5)


def test_an_unknown_candidate_has_no_score(tmp_path):
    learner = sasrec_learner(tmp_path)
    asked = Asked("test_label_pred", [np.array([3]), np.array([4])], 1, candidates=np.array([-1, 2]))
    items, scores = asked.answered(learner)
    assert items.tolist() == [[-1], [2]]
    assert np.isnan(scores[:, 0]).tolist() == [True, False]


def test_equal_scores_lower_item_first():
    """Scores of a few values, so that ties stand at every place, against a stable sort."""
    scores = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (50, 11)).astype(np.float32))
    items, values = ranking.best_items(scores, 6)
    expected = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :6]
    assert np.array_equal(items.numpy(), expected)
    assert np.array_equal(values.numpy(), np.take_along_axis(scores.numpy(), expected, 1))


def test_barred_items_and_places_behind_the_end_hold_none():
    """Items 0 and 2 of 3 are barred: item 1, then nothing."""
    items, values = ranking.best_items(torch.tensor([[-torch.inf, -2.0, -torch.inf]]), 5)
    assert items.tolist() == [[1, -1, -1, -1, -1]]
    assert values.tolist() == [[-2, 0, 0, 0, 0]]


# -------------------------------------------------------------------------------------------- windows and encoder


def test_every_item_but_the_first_is_a_target_once_an_epoch():
    corpus = histories([range(30), range(40, 44), [50], [51, 52]], 60)
    found, cuts = Windows(corpus, 5, False, 1), set()
    for epoch in range(6):
        windows = [window for batch in found.batches(epoch, 7) for window in batch]
        targets = sorted(item for window in windows for item in window.items[1:].tolist())
        assert targets == [*range(1, 28), 41, 52]
        assert all(np.array_equal(np.diff(window.items), [1] * (len(window.items) - 1)) for window in windows)
        assert max(len(window.items) for window in windows) == 6
        cuts.add(min(int(window.items[0]) for window in windows if 0 < window.items[0] < 30))
    assert len(cuts) > 1  # an item does not always stand first
    assert [[w.items.tolist() for w in batch] for batch in found.batches(2, 7)] == [
        [w.items.tolist() for w in batch] for batch in Windows(corpus, 5, False, 1).batches(2, 7)
    ]


def test_a_batch_has_about_so_many_targets():
    sizes = [sum(len(w.items) - 1 for w in batch) for batch in Windows(log(), 8, False, 1).batches(0, 50)]
    assert all(50 - 8 < size < 50 + 8 for size in sizes[:-1])
    assert len(sizes) > 3


def test_ties_are_drawn_anew_in_each_epoch():
    """0 1 2 | 3 | 4 5: each group keeps its place; without shuffling so does each item."""
    corpus = histories([[0, 1, 2, 3, 4, 5, 6, 7]], 8, [0, 0, 0, 1, 2, 2, 3, 4])
    orders = [Windows(corpus, 9, True, 1).batches(epoch, 99)[0][0].items.tolist() for epoch in range(20)]
    assert all([sorted(order[:3]), order[3], sorted(order[4:])] == [[0, 1, 2], 3, [4, 5]] for order in orders)
    assert len({tuple(order) for order in orders}) > 6
    kept = [Windows(corpus, 9, False, 1).batches(epoch, 99)[0][0].items.tolist() for epoch in range(5)]
    assert kept == [[0, 1, 2, 3, 4, 5]] * 5


def small_encoder(kind=ItemEncoder, *more):
    torch.manual_seed(1)
    model = kind(N, Size(**SIZE), *more).eval()
    for weight in model.parameters():  # initial weights are so small that all states are alike
        torch.nn.init.normal_(weight, std=0.5)
    return model


def test_states_depend_on_no_later_item_and_on_no_padding():
    model, items = small_encoder(), torch.tensor([[3, 1, 4, 1, 5]])
    states = model(items)
    for length in range(1, 6):
        torch.testing.assert_close(model(items[:, :length]), states[:, :length])
    together, real = padded([np.array([3, 1]), items[0].numpy()], torch.device("cpu"))
    torch.testing.assert_close(model(together)[0, real[0]], states[0, :2])
    changed = model(torch.tensor([[3, 2, 4, 1, 5]]))
    assert torch.equal(changed[:, 0], states[:, 0])
    assert not torch.isclose(changed[:, 1:], states[:, 1:]).all(2).any()


def test_positions_think_at_once_as_they_would_alone():
    """The thoughts behind a prefix are those at its last place in the whole window."""
    model, items = small_encoder(Reasoner, 3), torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    states, memories = model.read(items)
    together = model.think(states, causal(items), memories)  # [2, 5, 4, h]
    assert together.shape == (2, 5, 4, SIZE["hidden"])
    for length in range(1, 6):
        states, memories = model.read(items[:, :length])
        alone = model.think(states[:, -1:], torch.ones(1, length, dtype=torch.bool), memories)
        torch.testing.assert_close(alone[:, 0], together[:, length - 1])
    last = torch.tensor([2, 4])
    states, memories = model.read(items)
    chosen = model.think(states[torch.arange(2), last][:, None], up_to(items, last), memories)[:, 0]
    torch.testing.assert_close(chosen, together[torch.arange(2), last])
    assert not torch.isclose(together[:, :, 1:], together[:, :, :-1]).all(3).any()  # no step stands still


def test_undisturbed_steps_are_the_steps():
    """Noise of 0 gives r_1..r_K back, other noise does not."""
    model, items = small_encoder(Reasoner, 2), torch.tensor([[3, 1, 4]])
    states, memories = model.read(items)
    thought = model.think(states, causal(items), memories)
    torch.testing.assert_close(model.disturbed(thought, causal(items), memories, 0.0), thought[:, :, 1:])
    assert not torch.isclose(model.disturbed(thought, causal(items), memories, 0.1), thought[:, :, 1:]).all(3).any()


def sasrec_learner(folder):
    params, told = sasrec.Params(**SCHEDULE | SIZE | OWN["sasrec"]), given(log(), folder)
    told.checkpoint.drop()
    return Sasrec(told, params, LOSSES["ce"], "sasrec")


def rearec_learner(folder, **own):
    return rearec.Rearec(given(log(), folder), rearec.Params(**SCHEDULE | SIZE | OWN["rearec"] | own))


def test_temperatures_fall_towards_the_last_step(tmp_path):
    """tau alpha^(K - k) with tau 1/2, alpha 2, K 2: 2, 1, 1/2; shares 1/K each, and 1 for the last."""
    found = rearec_learner(tmp_path, variant="prl")
    assert found.temperature.tolist() == [2, 1, 0.5]
    assert found.share.tolist() == [0.5, 0.5, 1]
    found.given.checkpoint.drop()
    found = rearec_learner(tmp_path)
    assert found.temperature.tolist() == [0.5] * 3
    assert found.share.tolist() == pytest.approx([1 / 3] * 3)


def test_the_contrast_by_hand(tmp_path):
    """Two rows, one step, tau 1/2. Dot products 1 and 0 become 2 and 0: -log e^2 / (e^2 + 1) for both rows."""
    found = rearec_learner(tmp_path, variant="prl")
    states = torch.eye(2)[:, None]
    assert found._contrast(states, states).item() == pytest.approx(np.log(1 + np.exp(-2)))
    assert found._contrast(states, states.flip(0)).item() == pytest.approx(np.log(1 + np.exp(2)))


def rearec_loss(found, batch, at):
    """The loss of windows one at a time, from the probabilities of each step; at: the contrast's place in a row."""
    model, own = found.model, found.params
    total, pairs = 0.0, []
    for window in batch:
        read, target = torch.tensor(window.items[None, :-1]), torch.tensor(window.items[1:])
        first, memories = model.read(read)
        thought = model.think(first, causal(read), memories)[0]  # [L, K + 1, h]
        left = torch.arange(own.steps, -1, -1) if own.variant == "prl" else torch.zeros(own.steps + 1)
        log_p = torch.stack(
            [(thought[:, k] @ model.items.weight.T / (0.5 * 2.0 ** left[k])).log_softmax(-1) for k in range(3)]
        )  # [3, L, N]
        missed = -log_p[:, torch.arange(len(target)), target]  # [3, L]
        if own.variant == "prl":
            total = total + missed[2].sum() + own.early * missed[:2].mean(0).sum()
            pairs.append(thought[at(len(target)), 1:])
        else:
            total = total + missed.mean(0).sum()
            for i, j in ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)):
                total = total - own.kl / 6 * (log_p[i].exp() * (log_p[i] - log_p[j])).sum()
    if pairs:
        states = torch.stack(pairs)  # [n, K, h]; without noise the noised ones as well
        apart = [-(states[:, k] @ states[:, k].T / 0.5).log_softmax(1).diagonal() for k in range(2)]
        total = total + own.contrast * torch.stack(apart).mean() * sum(len(window.items) - 1 for window in batch)
    return total


@pytest.mark.parametrize(("drawn", "at"), [(0.0, lambda length: 0), (0.999, lambda length: length - 1)])
@pytest.mark.parametrize("own", [{"variant": "erl", "kl": 0.7}, {"variant": "prl", "early": 0.6, "contrast": 0.3}])
def test_the_loss_of_rearec_by_autograd(tmp_path, monkeypatch, own, drawn, at):
    """Value, number of targets, and of prl, whose gradient nothing is detached from, the gradient as well."""
    found = rearec_learner(tmp_path, noise=0.0, **own)
    found.model.eval()  # no dropout
    batch = found.windows.batches(0, 40)[0]
    assert len({len(window.items) for window in batch}) > 1
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, drawn))
    total, count = found.loss(batch)
    expected = rearec_loss(found, batch, at)
    assert count.item() == sum(len(window.items) - 1 for window in batch)
    torch.testing.assert_close(total, expected)
    if own["variant"] == "prl":
        weights = list(found.model.parameters())
        slopes = [torch.autograd.grad(loss, weights) for loss in (total, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "pick"), [("erl", lambda own: own.mean(0)), ("prl", lambda own: own[-1])])
def test_lists_are_by_the_mean_step_or_the_last(tmp_path, variant, pick):
    found = rearec_learner(tmp_path, variant=variant)
    found.model.eval()
    items = torch.tensor([[3, 1, 4], [2, 6, 0]])
    states, memories = found.model.read(items)
    thought = found.model.think(states, causal(items), memories)
    expected = torch.stack([pick(thought[0, 2]), pick(thought[1, 1])])
    torch.testing.assert_close(found.represent(items, torch.tensor([2, 1])), expected)


def test_rows_are_padded_to_their_own_longest(monkeypatch):
    monkeypatch.setattr("stages.baselines.windows.GROUP", 2)
    corpus = histories([[*range(length), 8, 9] for length in (2, 5, 3, 4)], 10)
    (batch,) = Windows(corpus, 8, False, 1).batches(0, 99)
    found = list(rows(batch, torch.device("cpu")))
    assert [group.read.shape for group in found] == [(2, 4), (2, 2)]
    assert [group.user.tolist() for group in found] == [[1, 3], [2, 0]]
    assert found[1].read.tolist() == [[0, 1], [0, 1]]
    assert found[1].target[found[1].real].tolist() == [1, 2, 1]


# ----------------------------------------------------------------------------------------------------------- loop


class Steady:
    """Weights that each step moves by the learning rate, and lists that hit as often as they are told to."""

    def __init__(self, corpus, hits):
        self.model, self.hits, self.corpus, self.looks = torch.nn.Linear(1, 1, bias=False), list(hits), corpus, 0
        torch.nn.init.zeros_(self.model.weight)

    def batches(self, epoch):
        return [1, 2]

    def loss(self, batch):
        return -batch * self.model.weight.sum(), torch.tensor(batch)

    def ranked(self, asked):
        """The targets of as many users as are told, and nothing for the others."""
        items = np.full((len(asked.users), 10), -1)
        items[: self.hits[self.looks], 0] = self.corpus.target(asked.split)[asked.users][: self.hits[self.looks]]
        self.looks += 1
        return items, np.zeros(items.shape)


def schedule(**changes):
    return loop.Schedule(**SCHEDULE | {"lr": 1.0, "epochs": 6, "beta_2": 0.9} | changes)


@pytest.mark.parametrize(
    ("changes", "hits", "best", "epochs"),
    [
        ({"patience": 2}, [1, 3, 2, 3, 4, 5], 2, 4),  # level is no better
        ({"patience": 3}, [1, 3, 2, 3, 4, 1], 5, 6),
        ({"patience": 1, "evaluate_every": 4}, [0, 2], 6, 6),  # after epochs 4 and 6; no hit is better than no look
        ({"epochs": 1}, [0], 1, 1),
    ],
)
def test_the_best_epoch_stays(tmp_path, changes, hits, best, epochs):
    """Adam moves the weight by the learning rate: 2 a epoch; N@10 is the share of hits, all at the first place."""
    corpus = log()
    learner, told = Steady(corpus, hits), given(corpus, tmp_path)
    assert loop.train(learner, schedule(**changes), told, "steady") == best
    assert learner.model.weight.item() == pytest.approx(2 * best, rel=1e-5)
    assert len(told.curve.rows) == epochs
    looks = [row["valid_ndcg@10"] for row in told.curve.rows if "valid_ndcg@10" in row]
    assert looks == pytest.approx([hit / 40 for hit in hits[: len(looks)]])


def test_learning_rates():
    """Warm-up over the first half, then half a cosine: at 1/4 half the rate, at 1/2 all, at 3/4 half, 0 at the end."""
    told = schedule(lr=0.4, lr_warmup=0.5, lr_decay="cosine")
    assert [loop.learning_rate(told, done) for done in (0.25, 0.5, 0.75, 1)] == pytest.approx([0.2, 0.4, 0.2, 0])
    told = schedule(lr=0.4)
    assert [loop.learning_rate(told, done) for done in (0.01, 1)] == [0.4, 0.4]


def test_gradients_are_clipped_where_asked(tmp_path):
    corpus, steps = log(), []
    for most in (None, 1e-12):
        learner, told = Steady(corpus, [1]), given(corpus, tmp_path)
        loop.train(learner, schedule(epochs=1, max_grad_norm=most), told, "steady")
        told.checkpoint.drop()
        steps.append(learner.model.weight.item())
    assert steps[1] < 1e-3 < steps[0]  # below Adam's epsilon nothing moves


def test_a_loss_that_is_no_number_is_said(tmp_path):
    learner = Steady(log(), [1] * 6)
    learner.loss = lambda batch: (learner.model.weight.sum() * torch.nan, torch.tensor(1))
    with pytest.raises(InputError, match=r"steady diverged: the loss of epoch 1 is nan; lower steady\.lr"):
        loop.train(learner, schedule(), given(log(), tmp_path), "steady")


class KilledError(Exception):
    """Stands for a machine that is taken away."""


@pytest.mark.parametrize("steps", [1, 4, 5, 9])  # of 5 an epoch
@pytest.mark.parametrize(("name", "own"), [("sasrec", {}), ("sasrec_bce", {}), ("rearec", {"variant": "prl"})])
def test_a_run_that_was_killed_ends_with_the_same_bytes(name, own, steps, tmp_path, monkeypatch):
    """Killed in the midst of an epoch, or right behind one; with a checkpoint after every second step."""
    corpus, whole = log(), recommend(name, log(), tmp_path / "whole", own)
    monkeypatch.setenv("SAGE_CHECKPOINT_STEPS", "2")
    module, taken = import_module(f"stages.baselines.{name}"), []
    params, one_step = module.Params(**SCHEDULE | SIZE | OWN[name] | own), loop._one_step

    def killed(*arguments):
        taken.append(1)
        if len(taken) > steps:
            raise KilledError
        return one_step(*arguments)

    told = given(corpus, tmp_path / "parts")
    monkeypatch.setattr(loop, "_one_step", killed)
    with pytest.raises(KilledError):
        module.recommend(told, params)
    told.checkpoint._lock.release()
    resumed, counted = given(corpus, tmp_path / "parts"), []
    monkeypatch.setattr(loop, "_one_step", lambda *arguments: counted.append(1) or one_step(*arguments))
    outcome = module.recommend(resumed, params)
    assert weights(outcome) == weights(whole)
    assert (tmp_path / "parts/curve.csv").read_bytes() == (tmp_path / "whole/curve.csv").read_bytes()
    per_epoch = len(Windows(corpus, SIZE["length"], True, 1).batches(0, SCHEDULE["batch_size"]))
    assert per_epoch == 5
    if steps > 1:
        assert len(counted) < 3 * per_epoch  # it did not start anew


# ----------------------------------------------------------------------------------------------------- no leak


def permuted(corpus, split):
    """The corpus with the split's targets handed round among the users."""
    users = np.flatnonzero(corpus.target(split) >= 0)
    target, item = corpus.target(split).copy(), corpus.item.copy()
    target[users] = np.roll(target[users], 1)
    item[corpus.offsets[users + 1] - (1 if split == "test" else 2)] = target[users]
    assert (target != corpus.target(split)).sum() > 20
    return replace(corpus, item=item, **{split: target})


@every_learnt
def test_no_test_item_reaches_a_model(name, tmp_path):
    """Permuting the test items of all users leaves weights, curve and validation lists byte for byte as they are."""
    one = recommend(name, log(), tmp_path / "one")
    other = recommend(name, permuted(log(), "test"), tmp_path / "other")
    assert weights(one) == weights(other)
    assert (tmp_path / "one/curve.csv").read_bytes() == (tmp_path / "other/curve.csv").read_bytes()
    for split in SPLITS:  # a test item is the target of its list, and in no context
        assert all(map(np.array_equal, one.lists[split], other.lists[split]))


@every_learnt
def test_validation_items_reach_the_early_stop_alone(name, tmp_path):
    """After one epoch, which is the best whatever the items are, the weights are the same byte for byte."""
    one = recommend(name, log(), tmp_path / "one", {"epochs": 1})
    other = recommend(name, permuted(log(), "valid"), tmp_path / "other", {"epochs": 1})
    assert weights(one) == weights(other)
    assert all(map(np.array_equal, one.lists["valid"], other.lists["valid"]))
    assert not np.array_equal(one.lists["test"][0], other.lists["test"][0])  # there they are the newest of the context


@every_learnt
def test_the_seed_decides(name, tmp_path):
    one, again, other = (
        recommend(name, log(), tmp_path / str(place), {"epochs": 1}, seed=seed) for place, seed in enumerate((1, 1, 2))
    )
    assert weights(one) == weights(again)
    assert weights(one) != weights(other)


@every_learnt
def test_it_learns_what_there_is_to_learn(name, tmp_path):
    """The log steps through the catalogue: nearly always the next item is the last one's successor."""
    corpus = histories([[(user + place) % 20 for place in range(9)] for user in range(60)], 20)
    items = recommend(name, corpus, tmp_path, {"epochs": 40, "batch_size": 64}).lists["test"][0]
    assert (items[:, 0] == corpus.test).mean() > 0.9


def test_each_row_of_sasrec_has_its_own_loss(tmp_path):
    """`sasrec` runs under either; the weak row keeps its loss, or the table would show another by its name."""
    losses = {}
    for module, loss in ((sasrec, "ce"), (sasrec, "bce"), (sasrec_bce, "bce")):
        told = given(log(), tmp_path)
        module.recommend(told, module.Params(**SCHEDULE | SIZE | {"epochs": 1, "loss": loss, "samples": None}))
        told.checkpoint.drop()
        losses[module, loss] = told.curve.rows[0]["train_loss"]
    assert losses[sasrec_bce, "bce"] < 1.5 > losses[sasrec, "bce"]  # near 2 log 2
    assert losses[sasrec, "ce"] > 2.5  # near log N
    with pytest.raises(ValueError, match="Input should be 'bce'"):
        sasrec_bce.Params(**SCHEDULE | SIZE | {"loss": "ce", "samples": None})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SAGE_CHECKPOINTS"] = scratch
        found = first_lists(Path(scratch))
        said = [f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, own)) + "\n ]" for name, own in found.items()]
        GOLDEN.write_text("{\n" + ",\n".join(said) + "\n}\n")
