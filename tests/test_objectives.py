"""Objectives against numbers worked out by hand, and their gradients against the papers' coefficients.

Shapes: B users, K slates, L items, T tokens, M objectives. The coefficient of a slate is what multiplies A grad log pi.
"""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.objectives import gbpo, grpo, sage, sft, terms
from stages.objectives.terms import ScoredSlates

RATIOS = (0.2, 0.8, 1.0, 1.2, 1.31, 5.0)
SAGE = sage.Params(eps_boost=0.3, beta=0.5, eps_clip=0.2, ratio_norm="item", decouple=True, lr=None)
GRPO = grpo.Params(eps_clip=0.25, lr=None)
GBPO = gbpo.Params(lr=None)
OBJECTIVES = pytest.mark.parametrize(("objective", "params"), [(sage, SAGE), (grpo, GRPO), (gbpo, GBPO)])
LOW = math.atanh(0.5)  # H = Hbar - LOW gives lambda = 1 + 0.5 * 0.5 = 1.25


def scored(old: Tensor, log_ratio: Tensor, mask: Tensor | None = None, length: int = 1, **entropy: Tensor):
    """Slates [B, K, T] whose current policy is a leaf with gradient; H = Hbar unless given."""
    current = (old + log_ratio).requires_grad_()
    mask = torch.ones_like(old, dtype=torch.bool) if mask is None else mask
    own = entropy.get("entropy", torch.full(old.shape[:2], 2.0))
    return ScoredSlates(current, old, mask, length, own, entropy.get("entropy_mean", torch.tensor(2.0)))


def descend(objective, params, slates: ScoredSlates, advantage: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient on the log-probabilities."""
    value = objective.loss(slates, advantage, params).value
    (gradient,) = torch.autograd.grad(value, slates.log_probs)
    return value.detach(), gradient


def coefficient(objective, params, ratio: float, sign: float, old: float = 0.01, lower_entropy: float = 0.0) -> float:
    """Coefficient of A grad log pi of one slate of one token, by autograd."""
    previous = torch.tensor([[[math.log(old)]]], dtype=torch.float64)
    slates = scored(
        previous,
        torch.full_like(previous, math.log(ratio)),
        entropy=torch.full((1, 1), 2.0 - lower_entropy, dtype=torch.float64),
        entropy_mean=torch.tensor(2.0, dtype=torch.float64),
    )
    _, gradient = descend(objective, params, slates, torch.full((1, 1), sign, dtype=torch.float64))
    return -float(gradient) / sign


def random_slates(seed: int, users: int = 4, group: int = 6, tokens: int = 6, spread: float = 0.4):
    """Slates of 2 items whose ratios and entropies lie on both sides of every bound, with advantages."""
    generator = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(users, group, tokens, generator=generator) - 0.05
    log_ratio = (spread * torch.randn(old.shape, generator=generator)).minimum(-old - 0.01)  # pi stays below 1
    entropy = 1 + 2 * torch.rand(users, group, generator=generator)
    return scored(old, log_ratio, length=2, entropy=entropy), torch.randn(users, group, generator=generator)


def with_parts(slates: ScoredSlates, pick) -> ScoredSlates:
    """The same slates after `pick` on every tensor, with a fresh leaf."""
    return ScoredSlates(
        pick(slates.log_probs.detach()).requires_grad_(),
        pick(slates.old_log_probs),
        pick(slates.mask),
        slates.length,
        pick(slates.entropy),
        slates.entropy_mean,
    )


# ---------------------------------------------------------------------------------------------- coefficients


@pytest.mark.parametrize(("ratio", "penalty"), list(product(RATIOS, (1.0, 1.25))))
def test_sage_coefficients(ratio, penalty):
    """A >= 0: r up to 1.3, else 0. A < 0: r down to 2 - lambda (1 or 0.75), else 0; no bound above. r = 1 counts."""
    lower = LOW if penalty > 1 else 0.0
    assert coefficient(sage, SAGE, ratio, 2.0, lower_entropy=lower) == pytest.approx(
        {0.2: 0.2, 0.8: 0.8, 1.0: 1, 1.2: 1.2, 1.31: 0, 5.0: 0}[ratio], abs=1e-6
    )
    floor = {1.0: {0.2: 0, 0.8: 0}, 1.25: {0.2: 0, 0.8: 0.8}}[penalty]
    assert coefficient(sage, SAGE, ratio, -2.0, lower_entropy=lower) == pytest.approx(floor.get(ratio, ratio), abs=1e-6)


@pytest.mark.parametrize("ratio", RATIOS)
def test_grpo_coefficients(ratio):
    """eps_clip = 0.25. A >= 0: r up to 1.25, else 0. A < 0: r from 0.75 on, else 0."""
    assert coefficient(grpo, GRPO, ratio, 0.5) == pytest.approx(0 if ratio > 1.25 else ratio, abs=1e-6)
    assert coefficient(grpo, GRPO, ratio, -0.5) == pytest.approx(0 if ratio < 0.75 else ratio, abs=1e-6)


@pytest.mark.parametrize(("ratio", "old"), list(product(RATIOS, (0.01, 0.15))))
def test_gbpo_coefficients(ratio, old):
    """A >= 0: min(r, 1). A < 0: min(r, pi / (1 - pi)): pi_old = 0.15, r = 5 gives pi = 0.75, min(5, 3) = 3."""
    pi = ratio * old
    assert coefficient(gbpo, GBPO, ratio, 1.5, old) == pytest.approx(min(ratio, 1), rel=1e-6)
    assert coefficient(gbpo, GBPO, ratio, -1.5, old) == pytest.approx(min(ratio, pi / (1 - pi)), rel=1e-6)


def test_gbpo_near_certainty():
    """pi = .99, A < 0: 1 - pi = .01 < pi_old = .5, so r = 1.98 stands; with pi_old = .001, pi / .01 = 99."""
    assert coefficient(gbpo, GBPO, 1.98, -1.0, 0.5) == pytest.approx(1.98, rel=1e-6)
    assert coefficient(gbpo, GBPO, 990.0, -1.0, 0.001) == pytest.approx(99, rel=1e-5)


@pytest.mark.parametrize(("log_prob", "want"), [(-1e-6, -13.81551), (-0.6, -0.79587), (-0.8, -0.59662), (-40.0, 0)])
def test_log_complement(log_prob, want):
    """log(1 - exp(x)) on both sides of x = -log 2: log(1e-6) = -13.81551; 1 - exp(-.6) = .451188, log -.79587;
    1 - exp(-.8) = .550671, log -.59662."""
    assert float(gbpo._log_complement(torch.tensor(log_prob))) == pytest.approx(want, abs=2e-5)


def test_gbpo_stays_finite_where_pi_is_one():
    """log pi = 0: 1 - pi = 0, so pi'_old is pi_old and r = 1 / 0.5 = 2 stands, for both signs."""
    old = torch.full((1, 2, 1), math.log(0.5))
    value, gradient = descend(gbpo, GBPO, scored(old, -old), torch.tensor([[1.0, -1.0]]))
    assert float(value) == pytest.approx(-(1 - 2) / 2)  # A >= 0: pi'_old = 1, value 1; A < 0: value 2
    assert gradient.flatten().tolist() == pytest.approx([-0.5, 1.0])


def test_per_item_share_of_the_gradient():
    """One slate of 2 items x 3 tokens, log-ratio 0.1 on each: SAGE r = exp(0.6 / 2) = 1.349859 > 1.3 is stopped at
    eps_boost = 0.3, but at 0.4 every token gets r / L = 0.674929; GRPO gives each token exp(0.1) / T = 0.184195."""
    old, advantage = torch.full((1, 1, 6), -1.0), torch.ones(1, 1)
    slates = scored(old, torch.full_like(old, 0.1), length=2)
    assert descend(sage, SAGE, slates, advantage)[1].tolist() == [[[0.0] * 6]]
    wider = SAGE.model_copy(update={"eps_boost": 0.4})
    assert descend(sage, wider, slates, advantage)[1].flatten().tolist() == pytest.approx([-0.674929] * 6, abs=1e-6)
    assert descend(grpo, GRPO, slates, advantage)[1].flatten().tolist() == pytest.approx([-0.184195] * 6, abs=1e-6)


# ------------------------------------------------------------------------------------------------ boundaries


def test_sage_boost_bound_from_both_sides():
    assert coefficient(sage, SAGE, 1.299, 1.0) == pytest.approx(1.299, rel=1e-5)
    assert coefficient(sage, SAGE, 1.301, 1.0) == 0
    assert coefficient(sage, SAGE, 1.301, -1.0) == pytest.approx(1.301, rel=1e-5)  # no bound for a rejected slate


@pytest.mark.parametrize(("lower", "floor"), [(0.0, 1.0), (LOW, 0.75)])
def test_sage_floor_from_both_sides(lower, floor):
    """Floor 2 - lambda: lambda = 1 and 1.25."""
    assert coefficient(sage, SAGE, floor + 1e-3, -1.0, lower_entropy=lower) == pytest.approx(floor + 1e-3, rel=1e-5)
    assert coefficient(sage, SAGE, floor - 1e-3, -1.0, lower_entropy=lower) == 0
    assert coefficient(sage, SAGE, floor - 1e-3, 1.0, lower_entropy=lower) == pytest.approx(floor - 1e-3, rel=1e-5)


def test_sage_around_the_mean_entropy():
    """beta = 1, r = .9995: H = Hbar - 1e-3 gives lambda = 1 + tanh(.001), floor .999, below r; at H = Hbar and above
    lambda = 1, and r is below the floor 1."""
    params = SAGE.model_copy(update={"beta": 1.0})
    assert coefficient(sage, params, 0.9995, -1.0, lower_entropy=1e-3) == pytest.approx(0.9995, rel=1e-5)
    assert coefficient(sage, params, 0.9995, -1.0, lower_entropy=0.0) == 0
    assert coefficient(sage, params, 0.9995, -1.0, lower_entropy=-1e-3) == 0


def test_grpo_clip_from_both_sides():
    assert coefficient(grpo, GRPO, 1.249, 1.0) == pytest.approx(1.249, rel=1e-5)
    assert coefficient(grpo, GRPO, 1.251, 1.0) == 0
    assert coefficient(grpo, GRPO, 0.751, -1.0) == pytest.approx(0.751, rel=1e-5)
    assert coefficient(grpo, GRPO, 0.749, -1.0) == 0


def test_gbpo_bounds_from_both_sides():
    """A >= 0 at r = 1; A < 0 at 1 - pi = pi_old: pi_old = 0.8, r = 0.25 -+ 0.001 gives pi = .1992 and .2008."""
    assert coefficient(gbpo, GBPO, 0.999, 1.0) == pytest.approx(0.999, rel=1e-6)
    assert coefficient(gbpo, GBPO, 1.001, 1.0) == pytest.approx(1, rel=1e-6)
    assert coefficient(gbpo, GBPO, 0.249, -1.0, 0.8) == pytest.approx(0.1992 / 0.8008, rel=1e-6)
    assert coefficient(gbpo, GBPO, 0.251, -1.0, 0.8) == pytest.approx(0.251, rel=1e-6)


@OBJECTIVES
def test_no_advantage_no_gradient(objective, params):
    slates, _ = random_slates(0)
    value, gradient = descend(objective, params, slates, torch.zeros(4, 6))
    assert float(value) == 0
    assert not gradient.any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("objective", "params"),
    [
        (sage, SAGE),
        (sage, SAGE.model_copy(update={"beta": 0.0})),
        (sage, SAGE.model_copy(update={"eps_boost": 0.0})),
        (sage, SAGE.model_copy(update={"eps_boost": 0.0, "eps_clip": 0.0})),
        (grpo, GRPO),
    ],
)
def test_at_ratio_one_no_bound_acts(objective, params, sign):
    """The first update is REINFORCE: coefficient 1, also where a bound lies at 1 itself (eps_boost = 0, lambda = 1)."""
    assert coefficient(objective, params, 1.0, sign) == pytest.approx(1, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.sampled_from([0.0, 0.3, 1.5]),
    st.sampled_from([0.0, 0.3]),
)
def test_eps_clip_never_changes_sage(seed, one, other, spread, boost):
    """Any ratios (all 1 where spread = 0): loss and gradient are the same to the bit for two values of eps_clip."""
    slates, advantage = random_slates(seed, spread=spread)
    found = [
        descend(sage, SAGE.model_copy(update={"eps_clip": width, "eps_boost": boost}), slates, advantage)
        for width in (one, other)
    ]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(0, 6), st.floats(0, 6))
def test_eq_6_bounds(beta, entropy, mean):
    """1 <= lambda <= 1 + beta; 1 exactly at or above the mean; falling in H."""
    params = SAGE.model_copy(update={"beta": beta})
    found, above = sage.diversity_penalty(torch.tensor([[entropy, entropy + 0.1]]), torch.tensor(mean), params)[0]
    assert 1 <= float(above) <= float(found) <= 1 + beta + 1e-6
    if entropy >= mean:
        assert float(found) == 1


def test_eq_6_by_hand():
    """beta = 0.5, Hbar = 2: H = 1 gives 1 + .5 tanh(1) = 1.380797; H = 2 and 3 give 1."""
    found = sage.diversity_penalty(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor(2.0), SAGE)
    assert found.tolist()[0] == pytest.approx([1.380797, 1, 1], abs=1e-6)


# --------------------------------------------------------------------------------------------------- losses


def test_sage_loss_by_hand():
    """Four slates of L = 2 items, 2 tokens each; eps_boost = 0.3, Hbar = 2.

    r = 1.5, A = 1: min(1.5, 1.3) = 1.3          at the boost bound
    r = 0.9, A = -1, lambda = 1: min(-0.9, -1) = -1        at the floor 1
    r = 0.9, A = -2, lambda = 1.25: floor .75, so -1.8
    r = 1.2, A = -1, lambda = 1: -1.2 (eps_clip = .2 would not stop it either)
    J = (1.3 - 1 - 1.8 - 1.2) / 4 = -0.675
    """
    old = torch.full((2, 2, 4), -1.0)
    log_ratio = torch.tensor([[1.5, 0.9], [0.9, 1.2]]).log()[..., None].expand(2, 2, 4) / 2  # sum over T is L log r
    slates = scored(old, log_ratio, length=2, entropy=torch.tensor([[2.0, 2.0], [2.0 - LOW, 2.5]]))
    found = sage.loss(slates, torch.tensor([[1.0, -1.0], [-2.0, -1.0]]), SAGE)
    assert float(found.value.detach()) == pytest.approx(0.675, abs=1e-6)
    assert {name: float(value) for name, value in found.diagnostics.items()} == pytest.approx(
        {
            "ratio_mean": (1.5 + 0.9 + 0.9 + 1.2) / 4,
            "ratio_min": 0.9,
            "ratio_q05": 0.9,  # of .9, .9, 1.2, 1.5: .15 of the way from the first to the second
            "ratio_q95": 1.455,  # 1.2 + .85 (1.5 - 1.2)
            "ratio_max": 1.5,
            "at_upper_bound": 1.0,  # one of one rewarded slate
            "at_lower_bound": 1 / 3,  # one of three rejected slates
            "at_floor_low_diversity": 0.0,
            "lambda_mean": 1.0625,  # (1 + 1 + 1.25 + 1) / 4
        },
        abs=1e-6,
    )
    assert not any(value.requires_grad for value in found.diagnostics.values())


def test_grpo_loss_by_hand():
    """Slates of 2 and 1 tokens, eps_clip = 0.25.

    A = 1, r = 1.5 and 0.9: (1.25 + 0.9) / 2 = 1.075
    A = -2, r = 0.5: min(-1, -1.5) = -1.5
    J = (1.075 - 1.5) / 2 = -0.2125: the mean in each slate first
    """
    log_ratio = torch.tensor([[[1.5, 0.9], [0.5, 1.0]]]).log()
    mask = torch.tensor([[[True, True], [True, False]]])
    slates = scored(torch.full((1, 2, 2), -1.0), log_ratio, mask)
    found = grpo.loss(slates, torch.tensor([[1.0, -2.0]]), GRPO)
    assert float(found.value.detach()) == pytest.approx(0.2125, abs=1e-6)
    assert float(found.diagnostics["at_upper_bound"]) == pytest.approx(0.5)  # one of two rewarded tokens
    assert float(found.diagnostics["at_lower_bound"]) == 1.0  # one of one rejected token
    assert float(found.diagnostics["ratio_mean"]) == pytest.approx((1.5 + 0.9 + 0.5) / 3)
    assert float(found.diagnostics["ratio_q05"]) == pytest.approx(0.54)  # .5 + .1 (.9 - .5), without the masked 1
    assert float(found.diagnostics["ratio_q95"]) == pytest.approx(1.44)  # .9 + .9 (1.5 - .9)


def test_gbpo_loss_by_hand():
    """Two slates of 2 tokens.

    A = 1: pi .3 of pi_old .2: pi'_old = .3, 1; pi .1 of .2: .5. Mean .75
    A = -2: pi .6 of .2: pi'_old = max(.2, .4), 1.5; pi .1 of .5: max(.5, .9), 1/9. Mean .805556, times A -1.611111
    J = (.75 - 1.611111) / 2 = -0.430556
    """
    pi = torch.tensor([[[0.3, 0.1], [0.6, 0.1]]])
    old = torch.tensor([[[0.2, 0.2], [0.2, 0.5]]])
    found = gbpo.loss(scored(old.log(), (pi / old).log()), torch.tensor([[1.0, -2.0]]), GBPO)
    assert float(found.value.detach()) == pytest.approx(0.430556, abs=1e-6)
    assert {name: float(value) for name, value in found.diagnostics.items()} == pytest.approx(
        {
            "ratio_mean": (1.5 + 0.5 + 3 + 0.2) / 4,
            "ratio_min": 0.2,
            "ratio_q05": 0.245,  # .2 + .15 (.5 - .2)
            "ratio_q95": 2.775,  # 1.5 + .85 (3 - 1.5)
            "ratio_max": 3.0,
            "bounded_rewarded": 0.5,  # .3 above .2; .1 is not
            "bounded_rejected": 1.0,  # .4 above .2 and .9 above .5
        },
        abs=1e-6,
    )


@pytest.mark.parametrize("signal", [False, True])
def test_a_group_without_signal_counts_on_neither_side(signal):
    """Two pairs of slates of one token, advantages +-1e-7 (rounding) and +-1 (signal); one pair is beyond
    its bounds, so the shares are all 0 or all 1.

    Beyond: pi_old = .2 with r = 4 and .1, for GBPO pi = .8 and 1 - pi = .98, both above .2.
    Within: r = 1 with pi_old = .2 and .8, for GBPO pi = .2 and 1 - pi = .2, neither above pi_old.
    """
    beyond, within = ([0.2, 0.2], [4.0, 0.1]), ([0.2, 0.8], [1.0, 1.0])
    old, ratio = (
        torch.tensor(first + second).log()[None, :, None]
        for first, second in zip(*((within, beyond) if signal else (beyond, within)), strict=True)
    )
    slates = scored(old, ratio, entropy=torch.full((1, 4), 2.0 - LOW))
    for objective, params in ((sage, SAGE), (grpo, GRPO), (gbpo, GBPO)):
        found = objective.loss(slates, torch.tensor([[1e-7, -1e-7, 1.0, -1.0]]), params).diagnostics
        shares = {name: float(value) for name, value in found.items() if name.startswith(("at_", "bounded_"))}
        assert len(shares) == (3 if objective is sage else 2)
        assert set(shares.values()) == {float(signal)}, (objective.__name__, shares)


def test_sft_descends_nothing():
    assert sft.loss is None


def test_k3_by_hand():
    """log pi = -1, reference -1.5: d = -.5, exp(-.5) + .5 - 1 = .106531; equal: 0; d = .7: 2.013753 - 1.7 = .313753."""
    found = terms.k3_divergence(torch.tensor([-1.0, -2.0, -2.0]), torch.tensor([-1.5, -2.0, -1.3]))
    assert found.tolist() == pytest.approx([0.106531, 0, 0.313753], abs=1e-6)
    assert terms.k3_divergence(torch.tensor([-500.0]), torch.tensor([-0.1])).isfinite().all()


def test_k3_gradient_is_one_minus_the_inverse_ratio():
    """d/dlog pi of exp(d) - d - 1 is 1 - exp(d): d = -.5 gives 1 - .606531 = .393469."""
    log_probs = torch.tensor([-1.0], requires_grad=True)
    terms.k3_divergence(log_probs, torch.tensor([-1.5])).sum().backward()
    assert log_probs.grad.tolist() == pytest.approx([0.393469], abs=1e-6)


def test_token_mean_and_share():
    values, mask = torch.tensor([[[1.0, 3.0, 9.0]]]), torch.tensor([[[True, True, False]]])
    assert terms.token_mean(values, mask).tolist() == [[2.0]]
    event, among = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    assert float(terms.share(event, among)) == 0.5
    assert float(terms.share(event, torch.zeros(3, dtype=torch.bool))) == 0


# ------------------------------------------------------------------------------------------------ advantages


def test_grpo_advantages_by_hand():
    """Sums 2, 0, 1 (w = 1, 2): mean 1, std 1 (unbiased): +-1 / 1.0001 = .9999."""
    rewards = torch.tensor([[[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]])
    weights = torch.tensor([1.0, 2.0])
    for objective, params in ((grpo, GRPO), (gbpo, GBPO)):
        assert objective.advantages(rewards, weights, params).tolist()[0] == pytest.approx([0.9999, -0.9999, 0])


def test_eq_7_by_hand():
    """One user, w = (1, 0.5), std unbiased plus 1e-4.

    R_0 = 1, 0, 0: mean 1/3, std .577350: z = 1.154501, -.577250, -.577250
    R_1 = 0, .5, 1: mean .5, std .5: z = -.999800, 0, .999800
    sum = .654601, -.577250, -.077350; mean 0, std .619557; A = sum / .619657 = 1.056393, -.931564, -.124828
    """
    rewards = torch.tensor([[[1.0, 0.0], [0.0, 0.5], [0.0, 1.0]]])
    found = sage.advantages(rewards, torch.tensor([1.0, 0.5]), SAGE)
    assert found.tolist()[0] == pytest.approx([1.056393, -0.931564, -0.124828], abs=1e-5)


def test_eq_7_scales_over_the_batch():
    """Users with rewards (1, 0) and (3, 3), one objective: z = +-.5 / .707207 = +-.707007 and 0, 0.

    Batch: mean 0, std sqrt(2 * .707007^2 / 3) = .577269; A = +-.707007 / .577369 = +-1.224533, 0, 0
    """
    rewards = torch.tensor([[[1.0], [0.0]], [[3.0], [3.0]]])
    found = sage.advantages(rewards, torch.ones(1), SAGE)
    assert found.flatten().tolist() == pytest.approx([1.224533, -1.224533, 0, 0], abs=1e-5)


def test_decoupling_undoes_reward_collapse():
    """R_0 = 1, 0, 0, 0 and R_1 = 0, 1, 1, 0: the sums 1, 1, 1, 0 cannot tell slates 0 and 1 apart.

    Floors left out: z_0 = 1.5, -.5, -.5, -.5; z_1 = -+.866025; sums .633975, .366025, .366025, -1.366025;
    std .919401.
    """
    rewards = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]])
    apart = sage.advantages(rewards, torch.ones(2), SAGE)[0]
    assert apart.tolist() == pytest.approx([0.689552, 0.398112, 0.398112, -1.485777], abs=1e-3)
    together = sage.advantages(rewards, torch.ones(2), SAGE.model_copy(update={"decouple": False}))[0]
    assert float(together[0]) == float(together[1])
    assert float(apart[0] - apart[1]) > 0.25


def test_a_negative_weight_lowers_the_advantage():
    rewards = torch.tensor([[[1.0], [0.0]]])
    assert torch.equal(sage.advantages(rewards, -torch.ones(1), SAGE), -sage.advantages(rewards, torch.ones(1), SAGE))


@OBJECTIVES
def test_equal_rewards_give_zeros(objective, params):
    """sigma = 0 in one group, in one objective, in all."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(3, 4, 2, generator=generator)
    rewards[1] = 0.5
    rewards[2, :, 1] = 0.25
    found = objective.advantages(rewards, torch.ones(2), params)
    assert found.isfinite().all()
    if objective is not sage:
        assert found[1].tolist() == [0.0] * 4
    assert found[1].std() == 0  # sage centres over the batch as well, to a rounding
    assert found[1].abs().max() < 1e-6
    assert objective.advantages(torch.full((3, 4, 2), 0.5), torch.ones(2), params).tolist() == [[0.0] * 4] * 3


# ----------------------------------------------------------------------------------------------- invariances


@OBJECTIVES
@pytest.mark.parametrize("gap", [500.0, -500.0])
def test_an_extreme_log_ratio_stays_finite(objective, params, gap):
    old = torch.full((1, 2, 3), -501.0 if gap > 0 else -1.0)
    value, gradient = descend(objective, params, scored(old, torch.full_like(old, gap)), torch.tensor([[1.0, -1.0]]))
    assert value.isfinite()
    assert gradient.isfinite().all()


@OBJECTIVES
def test_padding_changes_nothing(objective, params):
    """Three more positions without a token, whose log-probabilities are nonsense."""
    slates, advantage = random_slates(1)
    value, gradient = descend(objective, params, slates, advantage)
    nonsense = torch.tensor([-30.0, -0.01, -3.0]).expand(4, 6, 3)
    padded = ScoredSlates(
        torch.cat([slates.log_probs.detach(), nonsense], -1).requires_grad_(),
        torch.cat([slates.old_log_probs, nonsense.flip(-1)], -1),
        torch.cat([slates.mask, torch.zeros_like(nonsense, dtype=torch.bool)], -1),
        slates.length,
        slates.entropy,
        slates.entropy_mean,
    )
    with_padding, wider = descend(objective, params, padded, advantage)
    assert float(with_padding) == pytest.approx(float(value), abs=1e-6)
    assert torch.allclose(wider[..., :6], gradient, atol=1e-7)
    assert not wider[..., 6:].any()
    before, after = (objective.loss(each, advantage, params).diagnostics for each in (slates, padded))
    assert {name: float(x) for name, x in after.items()} == pytest.approx({n: float(x) for n, x in before.items()})


def test_token_norm_counts_tokens_without_padding():
    """Log-ratios .2, .4 and a masked one: token norm exp(.3), item norm with L = 3 exp(.2)."""
    slates = scored(
        torch.zeros(1, 1, 3) - 1, torch.tensor([[[0.2, 0.4, 7.0]]]), torch.tensor([[[True, True, False]]]), length=3
    )
    assert float(terms.slate_ratio(slates, "token").detach()) == pytest.approx(math.exp(0.3))
    assert float(terms.slate_ratio(slates, "item").detach()) == pytest.approx(math.exp(0.2))
    assert terms.token_ratio(slates).flatten().tolist() == pytest.approx([math.exp(0.2), math.exp(0.4), 1])


@OBJECTIVES
def test_order_inside_the_group_does_not_matter(objective, params):
    slates, advantage = random_slates(2)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    value, gradient = descend(objective, params, slates, advantage)
    permuted, turned = descend(objective, params, with_parts(slates, lambda x: x[:, order]), advantage[:, order])
    assert float(permuted) == pytest.approx(float(value), abs=1e-6)
    assert torch.allclose(turned, gradient[:, order])
    rewards, weights = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(2)), torch.tensor([1.0, 2.0, -0.5])
    found = objective.advantages(rewards, weights, params)
    assert torch.allclose(objective.advantages(rewards[:, order], weights, params), found[:, order], atol=1e-5)
    users = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(objective.advantages(rewards[users], weights, params), found[users], atol=1e-5)


@OBJECTIVES
def test_a_batch_is_the_mean_of_its_halves(objective, params):
    slates, advantage = random_slates(3)
    value, gradient = descend(objective, params, slates, advantage)
    halves = [
        descend(objective, params, with_parts(slates, lambda x, part=part: x[part]), advantage[part])
        for part in (slice(0, 2), slice(2, 4))
    ]
    assert float(sum(half[0] for half in halves)) / 2 == pytest.approx(float(value), abs=1e-6)
    assert torch.allclose(torch.cat([half[1] for half in halves]) / 2, gradient, atol=1e-7)


def test_token_norm_is_item_norm_of_a_stretched_log_ratio():
    """2 items of 3 tokens: the mean over 6 tokens of 3 x the log-ratio is its sum over L = 2."""
    slates, advantage = random_slates(4)
    log_ratio = (slates.log_probs - slates.old_log_probs).detach()
    token = SAGE.model_copy(update={"ratio_norm": "token"})
    stretched = scored(slates.old_log_probs, 3 * log_ratio, length=2, entropy=slates.entropy)
    want, gradient = descend(sage, SAGE, slates, advantage)
    found, stretched_gradient = descend(sage, token, stretched, advantage)
    assert float(found) == pytest.approx(float(want), abs=1e-6)
    assert torch.allclose(3 * stretched_gradient, gradient, atol=1e-6)


def test_grpo_with_one_token_is_sage_with_equal_bounds():
    """One item of one token, lambda = 1.25 and eps_boost = eps_clip = .25: the same surrogate."""
    slates, advantage = random_slates(5, tokens=1)
    slates = scored(slates.old_log_probs, (slates.log_probs - slates.old_log_probs).detach(), length=1,
                    entropy=torch.full((4, 6), 2.0 - LOW))  # fmt: skip
    want = descend(grpo, GRPO, slates, advantage)
    found = descend(sage, SAGE.model_copy(update={"eps_boost": 0.25}), slates, advantage)
    assert float(found[0]) == pytest.approx(float(want[0]), abs=1e-6)
    assert torch.allclose(found[1], want[1], atol=1e-6)
