"""One step of Algorithm 1 by the engine."""

import copy
import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.action_spaces.base import Asking
from stages.core import params
from stages.core.checkpoints import model_state
from stages.core.curves import Curve
from stages.objectives import gbpo, sage
from stages.policy import algorithm, backbone, history_label
from stages.policy.logprobs import token_log_probs
from stages.policy.run_state import RunState
from stages.policy.task import Task
from stages.rewards.environment import LoggedFeedback
from stages.rewards.running_mean import RunningMean
from tests.small_policy import DEPTH, ITEMS, SAGE, TEMPERATURE, items_as_slates, logged, sharp_model


class Plain:
    """What the algorithm asks of accelerate, in one process."""

    device = torch.device("cpu")
    num_processes, process_index, is_main_process = 1, 0, True

    def __init__(self, precision: str = "fp32") -> None:
        self.precision = precision

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16")

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()


RECIPE = algorithm.Recipe(updates=1, minibatches=1, users_per_pass=None, divide_by_std=True, kl=0.1, max_grad_norm=1.0)
CONTEXT_PAIRS = np.array([[0, 2], [1, 4]])


def learner(space, precision: str = "fp32", lr: float = 0.05, machine=None, **recipe) -> algorithm.Learner:
    model, machine = sharp_model(space), machine or Plain(precision)
    histories = logged([*range(12), 13, *range(11)], [0, 1] * 12, [10, 10], [12, 12])
    space = copy.copy(space)
    space.histories = histories
    shares = np.eye(4)[np.arange(ITEMS) % 4]
    return algorithm.Learner(
        model=model,
        reference=backbone.reference_of(model),
        optimizer=torch.optim.SGD(model.parameters(), lr),
        objective=sage,
        objective_params=SAGE,
        task=Task(
            space=space,
            environment=LoggedFeedback(histories, {"click": 1.0, "like": 0.5}, 5, shares),
            asking=Asking("slate", 4, True, 3),
            group_size=8,
            temperature=TEMPERATURE,
            accelerator=machine,
        ),
        recipe=replace(RECIPE, **recipe),
        entropy_mean=RunningMean(0.1),
        accelerator=machine,
    )


def one_step(own: algorithm.Learner, seed: int = 0, compare: bool = False) -> dict[str, float]:
    return own.step(CONTEXT_PAIRS, CONTEXT_PAIRS[:0], compare, seed)


@pytest.mark.parametrize("recipe", [{}, {"users_per_pass": 1}, {"minibatches": 2, "users_per_pass": 1}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_first_update_of_a_step(space, precision, recipe):
    """r is exactly 1, nothing has moved away from the SFT policy, Hbar starts at the batch's mean; then it moves."""
    own = learner(space, precision, **recipe)
    before = copy.deepcopy(own.model.state_dict())
    firsts = []
    descend = own._descend

    def watched(batch, part, compare):
        found, log_probs = descend(batch, part, compare)
        firsts.append(found)
        return found, log_probs

    own._descend = watched
    found = one_step(own, compare=True)
    first = firsts[0]
    assert float(first["ratio_min"]) == float(first["ratio_mean"]) == float(first["ratio_max"]) == 1.0
    assert float(first["kl"]) == 0.0
    assert float(first["at_upper_bound"]) == float(first["at_lower_bound"]) == 0.0
    assert found["entropy_mean"] == pytest.approx(found["entropy"])
    assert found["sampler_mismatch"] < (1e-5 if precision == "fp32" else 0.5)
    assert found["invalid_share"] == 0
    assert found["reward_click"] > 0
    assert found["reward"] == pytest.approx((found["reward_click"] + 0.5 * found["reward_like"]) / 1.5)
    assert found["gradient_norm"] > 0
    assert -1 <= found["gbpo_cosine"] <= 1
    after = own.model.state_dict()
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_later_updates_move_the_ratio(space):
    found = one_step(learner(space, updates=3))
    assert found["ratio_min"] < 1 < found["ratio_max"]
    assert found["kl"] > 0


def weights_after(own: algorithm.Learner, steps: int = 2) -> torch.Tensor:
    for step in range(steps):
        one_step(own, step)
    return torch.cat([weight.detach().flatten() for weight in own.model.parameters()])


@pytest.mark.parametrize("objective", ["sage", "grpo", "dapo", "bapo"])
def test_passes_change_nothing(space, objective):
    """Users one by one or together: the same weights, also where the loss is no mean over slates."""
    whole, split = learner(space, updates=2), learner(space, updates=2, users_per_pass=1)
    for own in (whole, split):
        own.objective = importlib.import_module(f"stages.objectives.{objective}")
        own.objective_params = params.load().own[objective]
    start = weights_after(learner(space), 0)
    moved = weights_after(whole)
    assert (moved - start).abs().max() > 1e-3
    assert torch.allclose(weights_after(split), moved, atol=1e-5)


def test_looking_on_changes_nothing(space):
    """The cosine is taken between the gradient and its step, and leaves both alone."""
    plain, watched = learner(space, updates=2), learner(space, updates=2)
    one_step(plain)
    found = one_step(watched, compare=True)
    assert 0 < abs(found["gbpo_cosine"]) < 1
    pairs = zip(plain.model.parameters(), watched.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_gbpo_lies_along_itself(space):
    own = learner(space, updates=2)
    own.objective, own.objective_params = gbpo, gbpo.Params(level="token", lr=None, kl=None)
    assert one_step(own, compare=True)["gbpo_cosine"] == pytest.approx(1, abs=1e-5)


def test_each_minibatch_is_a_step(space):
    """Two minibatches of one user each are two steps; pi_old is the policy's before the first of them."""
    own, steps = learner(space, minibatches=2), []
    own.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    found = one_step(own)
    assert len(steps) == 2
    assert found["ratio_mean"] != 1.0  # the second minibatch comes after a step


def test_groups_without_signal_make_way(space):
    """User 0 at position 9 has one logged item left of 5, user 1 ..; spare contexts stand in as often as asked."""
    own = learner(space)
    task = replace(own.task, group_size=2)
    contexts, spare = np.array([[0, 2], [1, 1], [0, 3]]), np.array([[1, 2], [1, 3], [1, 4], [0, 4]])
    plain = task.rollout(own.model, contexts, spare, 0, 2)
    assert plain.silent.size
    assert np.array_equal(plain.contexts, contexts)
    filled = task.rollout(own.model, contexts, spare, 4, 2)
    kept = np.setdiff1d(np.arange(3), plain.silent)
    assert np.array_equal(filled.contexts[kept], contexts[kept])
    assert torch.equal(filled.slates.items[kept], plain.slates.items[kept])
    assert filled.silent.size < plain.silent.size
    changed = (filled.contexts != contexts).any(1)
    assert changed.any()
    assert all(context.tolist() in spare.tolist() for context in filled.contexts[changed])
    items = filled.slates.items.numpy()
    assert np.array_equal(filled.rewards, task.environment.rewards(filled.contexts, items))
    again, _ = token_log_probs(own.model, filled.prompts, space, filled.slates, TEMPERATURE)
    assert torch.allclose(again, filled.slates.log_probs, atol=1e-5)  # every group stands by its own prompt


def test_a_loss_is_told_whose_token_each_is(space):
    """Slates of 3 items of 2 codes: 0 0 1 1 2 2; and advantages whether to divide by the group's std."""
    own, seen = learner(space), {}

    class Watched:
        @staticmethod
        def advantages(*arguments):
            seen["divide"] = arguments[-1]
            return sage.advantages(*arguments)

        @staticmethod
        def loss(slates, *arguments):
            seen["item"] = slates.item
            return sage.loss(slates, *arguments)

    own.objective = Watched
    one_step(own)
    assert seen["divide"] is True
    assert seen["item"].shape == (2, 8, 3 * DEPTH)
    assert (seen["item"] == torch.tensor([0, 0, 1, 1, 2, 2])).all()


def test_the_reference_gets_no_gradient(space):
    own = learner(space, updates=2)
    one_step(own, compare=True)
    with own.reference() as frozen:
        assert all(parameter.grad is None for parameter in frozen.parameters())
        untouched = sharp_model(space).state_dict()
        assert all(torch.equal(weight, untouched[name]) for name, weight in frozen.state_dict().items())


def test_a_repeated_step_is_the_same(space):
    first, again = (learner(space, updates=2) for _ in range(2))
    assert one_step(first, 4) == one_step(again, 4)
    before, after = (model_state("x", each.model) for each in (first, again))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_rate_is_a_share_of_the_optimizers_own(space):
    own = learner(space, lr=0.5)
    own.set_rate(0.25)
    assert own.optimizer.param_groups[0]["lr"] == 0.125
    own.set_rate(1.0)
    assert own.optimizer.param_groups[0]["lr"] == 0.5


class Looks:
    """A watch whose rewards are given: step 0, 1, 2, ..."""

    def __init__(self, *rewards: float) -> None:
        self.rewards = rewards

    def look(self, learner: algorithm.Learner, step: int) -> dict[str, float]:
        return {"selection_reward": self.rewards[step]}


def test_a_run_resumed_after_its_last_look_writes_its_curves_again(space, checkpoint, tmp_path):
    """Rewards 9, 1, 2, 1.5: the best look after the first step is the second, whatever the start was. Taken up again
    without its curves, the run has all of it and ends with the same policy."""

    def start(folder: str) -> RunState:
        own = learner(space)
        own.optimizer = torch.optim.AdamW(own.model.parameters(), 1e-3)
        curves = (Curve(tmp_path / folder / name) for name in ("steps.csv", "heldout.csv"))
        return RunState(own, checkpoint, *curves)

    state, watch, weights = start("first"), Looks(9.0, 1.0, 2.0, 1.5), []
    state.resume()
    assert (state.step, state.heldout.rows) == (0, [])
    state.look(watch, 0)
    for step in (1, 2, 3):
        state.curve.add(step=step, **one_step(state.learner, step))
        state.look(watch, step)
        state.after_step(step, looked=True)
        weights.append({name: weight.clone() for name, weight in model_state("x", state.learner.model).items()})
    again = start("second")
    again.resume()
    assert (again.step, again.best_reward) == (3, 2.0)
    assert again.learner.entropy_mean.value == state.learner.entropy_mean.value
    for name in ("steps.csv", "heldout.csv"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    after = model_state("x", again.learner.model)
    assert all(torch.equal(after[name], weights[2][name]) for name in after)
    moments = again.learner.optimizer.state_dict()["state"], state.learner.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[0][i][key], value) for i, own in moments[1].items() for key, value in own.items())
    for each in (state, again):
        each.restore_best()
        best = model_state("x", each.learner.model)
        assert all(torch.equal(best[name], weights[1][name]) for name in best)
    assert not all(torch.equal(weights[1][name], weights[2][name]) for name in best)


def test_a_run_without_a_step_keeps_its_policy(space, checkpoint, tmp_path):
    """The optimizer `sft`: one look before the first step, which is never the best."""
    for _ in range(2):
        state = RunState(learner(space), checkpoint, Curve(tmp_path / "steps.csv"), Curve(tmp_path / "heldout.csv"))
        state.resume()
        if not state.heldout.rows:
            state.look(Looks(9.0), 0)
        state.restore_best()
        assert (state.step, state.best) == (0, {})
        before, after = (model_state("x", each) for each in (sharp_model(space), state.learner.model))
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_steps_raise_the_reward_that_can_be_raised(space):
    """Ten steps at lr .05 on one context with 8 slates: the sampled click reward of 400 fresh slates goes up."""
    trained = learner(space, updates=2)

    def expected() -> float:
        return float(trained.task.sample(trained.model, CONTEXT_PAIRS, [TEMPERATURE] * 400, 99).total.mean())

    start = expected()
    for step in range(10):
        one_step(trained, step)
    assert expected() > start + 0.02


def test_supervised_and_rl_share_the_policy(space, model):
    """-loss_sum of a history's last item is token_log_probs of it as a slate of one behind the rest."""
    asked = space.prompts_of([np.array([3, 1])], 4, "history", False)
    scored, _ = token_log_probs(model, asked, space, items_as_slates(asked, space, [7])[0], 1.0)
    windows = [history_label.Window(np.array(items), None) for items in ([3, 1, 7], [3, 1])]
    with torch.no_grad():
        longer, shorter = (
            history_label.loss_sum(model, history_label.collate([window], space), space) for window in windows
        )
    assert float(scored.detach().sum()) == pytest.approx(float(shorter - longer), abs=1e-5)
