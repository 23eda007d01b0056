"""The SFT policy's own next items as a reward: against enumeration, and where params.yaml names it."""

import copy
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import drift
from stages import rl
from stages.action_spaces.base import Asking
from stages.core import params
from stages.policy import belief
from stages.policy.belief import Belief
from stages.rewards.modelled import modelled_rewards
from tests.small_policy import ITEMS, enumerate_items, logged
from tests.small_text import world
from tests.test_step import Plain

ASKING = Asking("slate", 4, True, 3)
CONTEXTS = np.array([[0, 2], [1, 4], [0, 5]])
WRITTEN = np.array([[0, 3], [1, 4], [2, 2]])  # of native text


@pytest.fixture
def known(space):
    """The catalogue with two users' histories."""
    own = copy.copy(space)
    own.histories = logged([*range(12), 13, *range(11)], [0, 1] * 12, [10, 10], [12, 12])
    return own


def test_next_items_by_enumeration(known, model, monkeypatch):
    """With a beam as wide as the catalogue: every item's probability, 0 for seen ones, whatever is searched at once."""
    monkeypatch.setattr(belief, "CONTEXTS", 2)
    found = Belief(lambda: nullcontext(model), known, ASKING, ITEMS, Plain())(CONTEXTS)
    before = known.histories.items_before(CONTEXTS)
    want = torch.stack([enumerate_items(known, model, own[-4:], set(own.tolist())) for own in before]).exp()
    assert found == pytest.approx(want.numpy(), abs=1e-6)
    assert found.sum(1) == pytest.approx(1, abs=1e-5)
    assert all((found[row, own] == 0).all() for row, own in enumerate(before))


def test_a_narrow_beam_earns_its_own_list_everything(known, model):
    """Items outside the beam have no probability; the beam's list is the best slate, reversed it earns less."""
    found = Belief(lambda: nullcontext(model), known, ASKING, 3, Plain())(CONTEXTS)
    assert ((found > 0).sum(1) == 3).all()
    best = np.argsort(-found, axis=1)[:, :3]
    slates = np.stack([best, best[:, ::-1], np.full_like(best, -1)], 1)
    earned = modelled_rewards(slates, found[:, None])[..., 0]
    assert earned[:, 0] == pytest.approx(1)
    assert (earned[:, 1] < 1).all()
    assert (earned[:, 2] == 0).all()


def test_of_a_pool_every_candidate_has_its_probability(tmp_path):
    """Native text: over the pool's items, 1 together, and not alike."""
    text = world(tmp_path)
    found = Belief(lambda: nullcontext(text.model), text.space, ASKING, 6, Plain())(WRITTEN)
    offered = text.space.offered(WRITTEN)
    for row, pool in zip(found, offered, strict=True):
        assert set(np.flatnonzero(row)) == set(pool[pool >= 0].tolist())
        assert len(np.unique(row[row > 0])) > 1
    assert found.sum(1) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["logged", "model", "both", "belief"])
def test_every_source_rewards_a_rollout(source: str, first_run: Path, monkeypatch):
    """Two objectives, four with both; rewards between 0 and 1, and with a model never all 0."""
    monkeypatch.chdir(first_run)
    settings = params.load()
    changed = settings.rewards.model_copy(update={"source": source})
    settings = settings.model_copy(update={"rewards": changed}).on("semantic_id")
    learner, log, _ = rl.start(settings, "ml-100k", "semantic_id", "sage", 1)
    contexts = np.array([[user, 5] for user in range(4)])
    found = learner.task.rollout(learner.model, contexts, contexts[:0], 0, 1, "slates", 0)
    assert found.rewards.shape == (4, settings.rl.group_size, 4 if source == "both" else 2)
    assert found.rewards.min() >= 0
    assert found.rewards.max() <= 1 + 1e-9
    names = list(log.weights) if source in ("logged", "both") else []
    names += [f"{name}_model" for name in log.weights] if source != "logged" else []
    assert list(learner.task.environment.weights) == names
    if source != "logged":
        assert found.total.max() > 0


def test_drift_by_hand():
    """Two contexts of four items: the beam's list 0 1, and slates that hold one and none of it."""
    chance = np.array([[0.5, 0.3, 0.2, 0.0], [0.5, 0.3, 0.2, 0.0]])
    slates, beam = np.array([[1, 3], [2, 3]]), np.array([[0, 1], [0, 1]])
    found = drift.described(slates, np.array([0.25, 0.75]), beam, chance, np.ones((1, 4)))
    best = 0.5 + 0.3 * 0.630930
    assert found == {
        "held-out reward": 0.5,
        "belief": pytest.approx((0.3 + 0.2) / 2 / best, abs=1e-6),
        "of the beam's": 0.5,
        "inside, first": 1.0,
        "inside, last": 0.0,
    }
