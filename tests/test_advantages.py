"""Advantages of every optimizer against numbers worked out by hand. Shapes: B users, K slates, M objectives."""

import pytest
import torch
from objective_cases import CASES, GDPO, OBJECTIVES, PPO, SAGE, changed

from stages.objectives import gdpo, ppo, sage, terms

IN_THE_GROUP = ("grpo", "gbpo", "dapo", "gspo", "bapo")  # the others scale over the batch as well
BATCH_WIDE = ("ppo", "gdpo", "sage")


@pytest.mark.parametrize("name", IN_THE_GROUP)
def test_group_z_score_by_hand(name):
    """Sums 2, 0, 1 (w = 1, 2): mean 1, std 1 (unbiased): +-1 / 1.0001 = .9999; without division +-1."""
    objective, params = CASES[name]
    rewards = torch.tensor([[[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]])
    weights = torch.tensor([1.0, 2.0])
    assert objective.advantages(rewards, weights, params, True).tolist()[0] == pytest.approx([0.9999, -0.9999, 0])
    assert objective.advantages(rewards, weights, params, False).tolist()[0] == [1.0, -1.0, 0.0]


def test_ppo_by_hand():
    """Two users, sums (2, 0) and (1, 1): batch mean 1, std sqrt(2 / 3) = .816497: 1 / .816597 = 1.224595.

    The user without difference is at the batch mean here; with sums (3, 1) and (0, 0) it is below: mean 1,
    std sqrt((4 + 0 + 1 + 1) / 3) = 1.414214, A = 1.414113, 0, -.707057, -.707057. Division by a group's std or not.
    """
    rewards = torch.tensor([[[2.0], [0.0]], [[1.0], [1.0]]])
    others = torch.tensor([[[3.0], [1.0]], [[0.0], [0.0]]])
    for divide in (True, False):
        found = ppo.advantages(rewards, torch.ones(1), PPO, divide)
        assert found.flatten().tolist() == pytest.approx([1.224595, -1.224595, 0, 0], abs=1e-6)
        found = ppo.advantages(others, torch.ones(1), PPO, divide)
        assert found.flatten().tolist() == pytest.approx([1.414113, 0, -0.707057, -0.707057], abs=1e-6)


@pytest.mark.parametrize(("objective", "params"), [(sage, SAGE), (gdpo, GDPO)])
def test_eq_7_by_hand(objective, params):
    """One user, w = (1, 0.5), std unbiased plus 1e-4.

    R_0 = 1, 0, 0: mean 1/3, std .577350: z = 1.154501, -.577250, -.577250
    R_1 = 0, .5, 1: mean .5, std .5: z = -.999800, 0, .999800
    sum = .654601, -.577250, -.077350; mean 0, std .619557; A = sum / .619657 = 1.056393, -.931564, -.124828
    """
    rewards = torch.tensor([[[1.0, 0.0], [0.0, 0.5], [0.0, 1.0]]])
    found = objective.advantages(rewards, torch.tensor([1.0, 0.5]), params, True)
    assert found.tolist()[0] == pytest.approx([1.056393, -0.931564, -0.124828], abs=1e-5)


@pytest.mark.parametrize(("objective", "params"), [(sage, SAGE), (sage, changed(SAGE, decouple=False)), (gdpo, GDPO)])
def test_eq_7_without_division_in_the_group(objective, params):
    """One user, w = (1, 0.5): centred R_0 = 2/3, -1/3, -1/3 and R_1 = -.5, 0, .5: sum .416667, -.333333, -.083333.

    Norm_batch stays: std sqrt((.173611 + .111111 + .006944) / 2) = .381881; A = sum / .381981 = 1.090804, -.872644,
    -.218161. Centring and summing commute, so it is the same without decoupling.
    """
    rewards = torch.tensor([[[1.0, 0.0], [0.0, 0.5], [0.0, 1.0]]])
    found = objective.advantages(rewards, torch.tensor([1.0, 0.5]), params, False)
    assert found.tolist()[0] == pytest.approx([1.090804, -0.872644, -0.218161], abs=1e-5)


def test_eq_7_scales_over_the_batch():
    """Users with rewards (1, 0) and (3, 3), one objective: z = +-.5 / .707207 = +-.707007 and 0, 0.

    Batch: mean 0, std sqrt(2 * .707007^2 / 3) = .577269; A = +-.707007 / .577369 = +-1.224533, 0, 0
    """
    rewards = torch.tensor([[[1.0], [0.0]], [[3.0], [3.0]]])
    found = sage.advantages(rewards, torch.ones(1), SAGE, True)
    assert found.flatten().tolist() == pytest.approx([1.224533, -1.224533, 0, 0], abs=1e-5)


def test_decoupling_undoes_reward_collapse():
    """R_0 = 1, 0, 0, 0 and R_1 = 0, 1, 1, 0: the sums 1, 1, 1, 0 cannot tell slates 0 and 1 apart.

    Floors left out: z_0 = 1.5, -.5, -.5, -.5; z_1 = -+.866025; sums .633975, .366025, .366025, -1.366025;
    std .919401.
    """
    rewards = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]])
    apart = sage.advantages(rewards, torch.ones(2), SAGE, True)[0]
    assert apart.tolist() == pytest.approx([0.689552, 0.398112, 0.398112, -1.485777], abs=1e-3)
    together = sage.advantages(rewards, torch.ones(2), changed(SAGE, decouple=False), True)[0]
    assert float(together[0]) == float(together[1])
    assert float(apart[0] - apart[1]) > 0.25


@OBJECTIVES
def test_a_negative_weight_lowers_the_advantage(objective, params):
    """Rewards 1 and 0 of one user: the first slate is the better one with weight 1 and the worse one with -1."""
    rewards = torch.tensor([[[1.0], [0.0]]])
    better, worse = (objective.advantages(rewards, weight, params, True) for weight in (torch.ones(1), -torch.ones(1)))
    assert float(better[0, 0]) > 0.7
    assert torch.allclose(worse, -better)


@OBJECTIVES
@pytest.mark.parametrize("divide", [True, False])
def test_equal_rewards_give_zeros(objective, params, divide):
    """sigma = 0 in one group, in one objective, in all. 0.1 has no exact mean over 6 slates in binary."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(3, 6, 2, generator=generator)
    rewards[1] = 0.1
    rewards[2, :, 1] = 0.3
    found = objective.advantages(rewards, torch.ones(2), params, divide)
    assert found.isfinite().all()
    assert found[1].std() == 0
    if objective is ppo:  # below the batch mean as a whole: a signal that no group has
        assert float(found[1, 0]) < -0.5
    elif objective in (sage, gdpo):  # centred over the batch as well, to a rounding
        assert found[1].abs().max() < 1e-6
    else:
        assert found[1].tolist() == [0.0] * 6
    everywhere = torch.full((3, 6, 2), 0.1)
    assert objective.advantages(everywhere, torch.ones(2), params, divide).tolist() == [[0.0] * 6] * 3


def test_equal_rewards_are_no_signal_whatever_they_are():
    """800 groups of 16 equal rewards: a plain mean misses many of them, by up to 1e-3 after the division."""
    rewards = torch.rand(800, 1, 1, generator=torch.Generator().manual_seed(1)).expand(800, 16, 1).contiguous()
    plain = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + terms.STD_FLOOR)
    assert terms.rewarded(plain).any()  # the trap is real
    found = terms.summed_advantages(rewards, torch.ones(1))
    assert not terms.rewarded(found).any()
    assert not terms.rejected(found).any()


@OBJECTIVES
def test_order_does_not_matter(objective, params):
    rewards, weights = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(2)), torch.tensor([1.0, 2.0, -0.5])
    slates, users = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2, 0, 3, 1])
    found = objective.advantages(rewards, weights, params, True)
    assert found.abs().max() > 1
    assert torch.allclose(objective.advantages(rewards[:, slates], weights, params, True), found[:, slates], atol=1e-5)
    assert torch.allclose(objective.advantages(rewards[users], weights, params, True), found[users], atol=1e-5)


@pytest.mark.parametrize("name", IN_THE_GROUP + BATCH_WIDE)
def test_splitting_the_batch(name):
    """Users 0 and 1 to 3 apart: nothing changes inside groups; scaling over the batch does not survive it."""
    objective, params = CASES[name]
    rewards, weights = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(3)), torch.tensor([1.0, 2.0, -0.5])
    whole = objective.advantages(rewards, weights, params, True)
    parts = torch.cat([objective.advantages(part, weights, params, True) for part in (rewards[:1], rewards[1:])])
    if name in IN_THE_GROUP:
        assert torch.allclose(parts, whole, atol=1e-6)
    else:
        assert (parts - whole).abs().max() > 1e-3
