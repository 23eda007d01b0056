"""Steps of the paper against a plain loop; which losses may be split; what a look at the reserve measures."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.core import params
from stages.objectives import bapo, dapo, sage
from stages.policy import heldout
from stages.policy.logprobs import token_log_probs
from tests.small_policy import SAGE, TEMPERATURE, sharp_model
from tests.test_step import CONTEXT_PAIRS, learner, one_step

CONTEXTS = np.array([[0, 2], [1, 4], [0, 3]])
KL = 0.3


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def plain_steps(own, steps: int, updates: int) -> list[float]:
    """Algorithm 1 written out: all users at once, a sum over slates, no minibatch; returns the gradients' norms."""
    task, mean, norms = own.task, None, []
    for step in range(steps):
        found = task.rollout(own.model, CONTEXTS, CONTEXTS[:0], 0, step)
        mean = float(found.entropy.mean()) if mean is None else mean
        weights = torch.tensor([1.0, 0.5])
        advantage = sage.advantages(torch.tensor(found.rewards, dtype=torch.float32), weights, SAGE, True)
        entropy = torch.tensor(found.entropy, dtype=torch.float32)
        low = advantage < 0

        def score(model, found=found):
            return token_log_probs(model, found.prompts, task.space, found.slates, TEMPERATURE)[0]

        with torch.no_grad():
            old = score(own.model)
            with own.reference() as frozen:
                reference = score(frozen)
        for _ in range(updates):
            current = score(own.model)
            ratio = ((current - old).sum(-1) / task.asking.slate_length).exp()
            penalty = 1 + 0.5 * torch.tanh((mean - entropy).clamp(min=0))
            floor = torch.where(low, 2 - penalty, 0.8)
            ceiling = torch.where(low, 1.2, 1.3)
            stopped = (low & (ratio < floor)) | (~low & (ratio > ceiling))
            surrogate = torch.where(stopped, ratio.detach(), ratio) * advantage  # a bound stops the gradient
            difference = reference - current
            divergence = (difference.exp() - difference - 1).mean(-1).mean()
            own.optimizer.zero_grad()
            (-surrogate.mean() + KL * divergence).backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(own.model.parameters(), 0.5)))
            own.optimizer.step()
        mean += 0.1 * (float(found.entropy.mean()) - mean)
    return norms


@pytest.mark.parametrize("users_per_pass", [None, 2])
def test_steps_are_algorithm_1(space, users_per_pass):
    """Two steps of two updates of three users: Hbar has moved, the divergence weighs, the gradient's norm is cut."""
    recipe = {"updates": 2, "kl": KL, "max_grad_norm": 0.5}
    own, plain = learner(space, users_per_pass=users_per_pass, **recipe), learner(space, **recipe)
    for step in range(2):
        own.step(CONTEXTS, CONTEXTS[:0], False, step)
    norms = plain_steps(plain, 2, 2)
    assert max(norms) > 0.5
    start = flat(sharp_model(space))
    assert (flat(plain.model) - start).abs().max() > 1e-2
    assert torch.allclose(flat(own.model), flat(plain.model), atol=1e-5)


@pytest.mark.parametrize("objective", [dapo, bapo])
def test_a_loss_that_is_no_mean_over_slates_is_not_split(space, objective, monkeypatch):
    """One user earns nothing: DAPO leaves it out of the mean, BAPO's bounds depend on who is there."""
    name = objective.__name__.split(".")[-1]
    own_params = params.load().own[name].model_copy(update={"rho_0": 0.52} if name == "bapo" else {})

    def after(separable: bool, **recipe) -> torch.Tensor:
        own = learner(space, lr=0.5, updates=3, kl=0.0, **recipe)
        own.objective, own.objective_params = importlib.import_module(objective.__name__), own_params
        environment = own.task.environment
        rewards = type(environment).rewards

        class Uneven(type(environment)):
            def rewards(self, contexts, items):
                found = rewards(self, contexts, items)
                found[0] = 0  # the first user's groups have no signal
                found[2, : found.shape[1] - 1] += 1  # most slates of the third are rewarded
                return found

        own.task = replace(own.task, environment=Uneven(**vars(environment)))
        monkeypatch.setattr(objective, "SEPARABLE", separable)
        own.step(CONTEXTS, CONTEXTS[:0], False, 1)
        return flat(own.model)

    whole = after(False)
    assert torch.allclose(after(False, users_per_pass=1), whole, atol=1e-5)
    if objective is dapo:
        assert not torch.allclose(after(True, users_per_pass=1), whole, atol=1e-4)


def test_looks_at_the_reserve(space):
    """Greedy slates choose the checkpoint on one half; the other half gives sampled and greedy reward and NDCG."""
    own = learner(space)
    selection, report = (np.array([[user, position] for position in (3, 4, 5)]) for user in (0, 1))
    watch = heldout.Watch(
        own.task, selection, report, own.task.prompts(CONTEXT_PAIRS), np.array([], dtype=np.int64), seed=3
    )
    found = watch.look(own, 1)
    greedy = {name: own.task.sample(own.model, part, [0.0]) for name, part in (("s", selection), ("r", report))}
    assert found["selection_reward"] == pytest.approx(greedy["s"].total.mean())
    assert found["heldout_greedy_reward"] == pytest.approx(greedy["r"].total.mean())
    items = greedy["r"].slates.items[:, 0].tolist()
    following = [int(own.task.environment.histories.train(1)[position]) for position in (3, 4, 5)]
    ranks = [mine.index(item) if item in mine else None for mine, item in zip(items, following, strict=True)]
    gains = [0 if rank is None else 1 / np.log2(rank + 2) for rank in ranks]
    assert found["heldout_greedy_ndcg"] == pytest.approx(np.mean(gains))
    sampled = [own.task.sample(own.model, report, [TEMPERATURE], seed).total.mean() for seed in range(200)]
    assert abs(found["heldout_reward"] - np.mean(sampled)) < 5 * np.std(sampled)
    shown = {item for each in greedy.values() for item in each.slates.items.flatten().tolist()}
    assert found["greedy_coverage"] == len(shown) / 14


def test_no_signal_is_the_optimizers_own(space):
    """All slates of a user earn alike, users do not: nothing for GRPO's group, something for PPO's batch."""
    from stages.objectives import grpo, ppo

    for objective, share in ((grpo, 1.0), (ppo, 0.0)):
        own = learner(space, kl=0.0)
        own.objective, own.objective_params = objective, params.load().own[objective.__name__.split(".")[-1]]
        environment = own.task.environment

        class Alike(type(environment)):
            def rewards(self, contexts, items):
                return np.broadcast_to(contexts[:, :1, None] + 0.0, (*items.shape[:2], 2)).copy()

        own.task = replace(own.task, environment=Alike(**vars(environment)))
        found = one_step(own, compare=True)
        assert found["no_signal_share"] == share
        assert np.isnan(found["gbpo_cosine"])  # GBPO has no gradient there
