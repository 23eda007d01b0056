"""The stage rl: whose values it takes, the optimizer's own or the shared ones, and what a run says of itself."""

import numpy as np
import pytest

from stages import rl
from stages.core import params
from stages.policy.diagnostics import of_run
from stages.policy.task import correlations


@pytest.mark.parametrize(("shared", "own", "want"), [(0.02, None, 0.02), (0.02, 0.0, 0.0), (0.0, 0.5, 0.5)])
def test_kl_is_the_optimizers_own_where_it_has_one(shared, own, want):
    """0 is a value of its own, not the absence of one."""
    settings = params.load()
    section = settings.own["gspo"].model_copy(update={"kl": own})
    assert rl.recipe(settings.rl.model_copy(update={"kl": shared}), section).kl == want


@pytest.mark.parametrize("divide", [True, False])
def test_division_by_the_groups_std_reaches_the_recipe(divide):
    shared = params.load().rl.model_copy(update={"divide_by_std": divide})
    assert rl.recipe(shared, None).divide_by_std is divide


@pytest.mark.parametrize("decay", ["none", "cosine"])
def test_the_learning_rate_rises_and_then_stays_or_falls(decay):
    shared = params.load().rl.model_copy(update={"rollouts": 12, "lr_warmup": 4, "lr_decay": decay})
    shares = [rl.rate_share(shared, step) for step in range(12)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    later = [1.0] * 8 if decay == "none" else [0.5 * (1 + np.cos(np.pi * k / 8)) for k in range(8)]
    assert shares[4:] == pytest.approx(later)


def row(**values: float) -> dict[str, float]:
    return {
        "at_upper_bound": 0.0,
        "at_lower_bound": 0.0,
        "bound_share_max": 0.0,
        "no_signal_share": 0.25,
        "kl": 0.5,
        **values,
    }


def test_a_run_says_why_it_compares_nothing():
    """Means over steps; a look's columns over looks. One step with a bound will do; half is not most."""
    still = of_run([row(), row(no_signal_share=0.5)])
    assert still["no_comparison"] == ["no bound ever acted"]
    assert still["no_signal_share"] == 0.375
    acted = of_run([row(), row(at_lower_bound=0.5, bound_share_max=0.75, gbpo_cosine=0.9), row(no_signal_share=1.0)])
    assert acted["no_comparison"] == []
    assert acted["at_lower_bound"] == pytest.approx(0.5 / 3)
    assert acted["gbpo_cosine"] == 0.9
    assert acted["kl"] == 0.5
    looks = [row(), row(gbpo_cosine="", kl=0.25), row(gbpo_cosine=0.5, kl=0.75)]
    assert of_run(looks)["kl"] == 0.5  # at the looks: an optimizer without a divergence in its loss knows it there only
    silent = of_run([row(bound_share_max=1.0, no_signal_share=0.9)])
    assert silent["no_comparison"] == ["most groups carried no signal"]
    assert still["correlations"] == []
    paired = of_run([row(**{"correlation_click~like": share}) for share in (0.5, 0.75)] + [row()])
    assert paired["correlations"] == [["click", "like", 0.625]]  # a step in which one was constant has none
    assert of_run([{"step": 0, "cold_mass": 0.1}]) == {"no_comparison": ["no step of RL"]}  # the optimizer `sft`


def test_correlation_of_objectives_by_hand():
    """Two groups of two slates. Less the group's mean, R_0 = -1/2, 1/2 | 1/2, -1/2 and R_1 = -1, 1 | 0, 0.

    Products 1/2 + 1/2 = 1, squares 1 and 2: 1 / sqrt(2). R_2 is constant in each group and has no correlation.
    """
    rewards = np.array([[[0, 0, 2], [1, 2, 2]], [[1, 3, 5], [0, 3, 5]]], dtype=float)  # [B, K, M]
    assert correlations(rewards, ["a", "b", "c"]) == {"correlation_a~b": pytest.approx(2**-0.5)}
