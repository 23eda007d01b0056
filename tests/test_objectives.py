"""Objectives against numbers worked out by hand, and their gradients against the papers' coefficients.

Shapes: B users, K slates, L items, T tokens. The coefficient of a slate is what multiplies A grad log pi.
"""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_cases import (
    BAPO,
    CASES,
    DAPO,
    GBPO,
    GDPO,
    GRPO,
    GSPO,
    LOW,
    OBJECTIVES,
    PPO,
    SAGE,
    changed,
    coefficient,
    descend,
    random_slates,
    scored,
)

from stages.objectives import bapo, dapo, gbpo, gdpo, grpo, gspo, ppo, sage, terms

RATIOS = (0.2, 0.8, 1.0, 1.2, 1.31, 5.0)
OLD = (0.01, 0.15)
GRADIENT, LITERAL, DUAL = CASES["sage-gradient"], CASES["sage-literal"], CASES["sage-dual"]

# ---------------------------------------------------------------------------------------------- coefficients

# By ratio, at pi_old and lambda where they matter; a bound that a ratio passes gives 0.
WITHIN_A_QUARTER = (0.2, 0.8, 1.0, 1.2, 0, 0), (0, 0.8, 1.0, 1.2, 1.31, 5.0)
ODDS = {  # pi / (1 - pi), pi = .002 .008 .01 .012 .0131 .05 and .03 .12 .15 .18 .1965 .75
    0.01: (0.00200401, 0.00806452, 0.01010101, 0.01214575, 0.01327389, 0.05263158),
    0.15: (0.03092784, 0.13636364, 0.17647059, 0.21951220, 0.24455507, 3.0),
}
BOUNDED = {  # lambda pi / (1 - pi), in all of these cases less than r
    (0.01, 1.0): ODDS[0.01],
    (0.15, 1.0): ODDS[0.15],
    (0.01, 1.25): (0.00250501, 0.01008065, 0.01262626, 0.01518219, 0.01659236, 0.06578947),
    (0.15, 1.25): (0.03865979, 0.17045455, 0.22058824, 0.27439024, 0.30569384, 3.75),
}


def expected(name: str, old: float, penalty: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients at RATIOS for A > 0 and for A < 0."""
    match name.split("-"):
        case ["ppo" | "grpo" | "gdpo" | "dapo"]:  # DAPO's upper bound is 1.28
            return WITHIN_A_QUARTER
        case ["gspo"]:  # 1 + 4e-4 and 1 - 3e-4
            return (0.2, 0.8, 1.0, 0, 0, 0), (0, 0, 1.0, 1.2, 1.31, 5.0)
        case ["bapo"]:  # A > 0 alone: share 1, c_high = 1.25; A < 0 alone: share 0, so c_low goes to .9
            return WITHIN_A_QUARTER[0], (0, 0, 1.0, 1.2, 1.31, 5.0)
        case ["gbpo", *_]:  # one token is the item and the slate
            return (0.2, 0.8, 1.0, 1.0, 1.0, 1.0), ODDS[old]
        case ["sage", "gradient", *_]:
            return (0.2, 0.8, 1.0, 1.2, 1.3, 1.3), BOUNDED[old, penalty]
        case ["sage", "literal"]:  # 1.3 * 1.31 and 1.3 * 5
            return (0.2, 0.8, 1.0, 1.2, 1.703, 6.5), RATIOS
    floor = {1.0: (0, 0, 1.0, 1.2, 1.31, 5.0), 1.25: (0, 0.8, 1.0, 1.2, 1.31, 5.0)}[penalty]  # 1 and .75
    return (0.2, 0.8, 1.0, 1.2, 0, 0), (*floor[:5], 0) if name == "sage-dual" else floor  # 5 > 3


@pytest.mark.parametrize(("name", "old", "penalty"), list(product(CASES, OLD, (1.0, 1.25))))
def test_coefficients(name, old, penalty):
    """What multiplies A grad log pi, by autograd, for both signs of A (A = 2 and -1.5).

    PPO's clip: r while a bound has not stopped it, 0 beyond: eps_clip = .25 (DAPO .25 and .28; .2 would lie on .8).
    SAGE: above 1.3 for A > 0, below 2 - lambda for A < 0, with dual_clip = 3 above 3 as well.
    GBPO: min(r, 1) and min(r, pi / (1 - pi)). SAGE's gradient form: min(r, 1.3) and min(r, lambda pi / (1 - pi)).
    SAGE's literal form: r / Phi = r (1 + .3) above 1.3 for A > 0; r for A < 0.
    """
    lower = LOW if penalty > 1 else 0.0
    for sign, want in zip((2.0, -1.5), expected(name, old, penalty), strict=True):
        found = [coefficient(*CASES[name], ratio, sign, old, lower) for ratio in RATIOS]
        assert found == pytest.approx(list(want), rel=1e-6, abs=1e-9), sign


def test_gbpo_near_certainty():
    """pi = .99, A < 0: 1 - pi = .01 < pi_old = .5, so r = 1.98 stands; with pi_old = .001, pi / .01 = 99."""
    assert coefficient(gbpo, GBPO, 1.98, -1.0, 0.5) == pytest.approx(1.98, rel=1e-6)
    assert coefficient(gbpo, GBPO, 990.0, -1.0, 0.001) == pytest.approx(99, rel=1e-5)


@pytest.mark.parametrize(("log_prob", "want"), [(-1e-6, -13.81551), (-0.6, -0.79587), (-0.8, -0.59662), (-40.0, 0)])
def test_log_complement(log_prob, want):
    """log(1 - exp(x)) on both sides of x = -log 2: log(1e-6) = -13.81551; 1 - exp(-.6) = .451188, log -.79587;
    1 - exp(-.8) = .550671, log -.59662."""
    assert float(terms.log_complement(torch.tensor(log_prob))) == pytest.approx(want, abs=2e-5)


@pytest.mark.parametrize("level", ["token", "item", "slate"])
def test_gbpo_stays_finite_where_pi_is_one(level):
    """log pi = 0: 1 - pi = 0, so pi'_old is pi_old and r = 1 / 0.5 = 2 stands, for both signs."""
    old = torch.full((1, 2, 1), math.log(0.5))
    value, gradient = descend(gbpo, changed(GBPO, level=level), scored(old, -old), torch.tensor([[1.0, -1.0]]))
    assert float(value) == pytest.approx(-(1 - 2) / 2)  # A >= 0: pi'_old = 1, value 1; A < 0: value 2
    assert gradient.flatten().tolist() == pytest.approx([-0.5, 1.0])


def test_per_item_share_of_the_gradient():
    """One slate of 2 items x 3 tokens, log-ratio 0.1 on each: SAGE r = exp(0.6 / 2) = 1.349859 > 1.3 is stopped at
    eps_boost = 0.3, but at 0.4 every token gets r / L = 0.674929; GRPO gives each token exp(0.1) / T = 0.184195, and
    GSPO with a bound above exp(0.1) the same. SAGE's gradient form gives 1.3 / L = 0.65 at eps_boost = 0.3."""
    old, advantage = torch.full((1, 1, 6), -1.0), torch.ones(1, 1)
    slates = scored(old, torch.full_like(old, 0.1), length=2)
    assert descend(sage, SAGE, slates, advantage)[1].tolist() == [[[0.0] * 6]]
    wider = changed(SAGE, eps_boost=0.4)
    assert descend(sage, wider, slates, advantage)[1].flatten().tolist() == pytest.approx([-0.674929] * 6, abs=1e-6)
    for objective, params in ((grpo, GRPO), (gspo, changed(GSPO, eps_high=0.2))):
        found = descend(objective, params, slates, advantage)[1]
        assert found.flatten().tolist() == pytest.approx([-0.184195] * 6, abs=1e-6)
    assert descend(*GRADIENT, slates, advantage)[1].flatten().tolist() == pytest.approx([-0.65] * 6, abs=1e-6)


# ------------------------------------------------------------------------------------------------ boundaries

STOPS = {
    "ppo": (ppo, PPO, (0.75, 1.25)),
    "grpo": (grpo, GRPO, (0.75, 1.25)),
    "gdpo": (gdpo, GDPO, (0.75, 1.25)),
    "dapo": (dapo, DAPO, (0.75, 1.28)),
    "gspo": (gspo, GSPO, (0.9997, 1.0004)),
    "bapo": (bapo, BAPO, (0.9, 1.25)),
    "sage": (sage, SAGE, (1.0, 1.3)),
}


@pytest.mark.parametrize(("objective", "params", "bounds"), STOPS.values(), ids=STOPS)
def test_a_clip_stops_the_gradient_from_its_bound_on(objective, params, bounds):
    """A millionth within the bound the coefficient is r, a millionth beyond it is 0; the other sign is not stopped."""
    low, high = bounds
    for sign, bound, beyond in ((1.0, high, 1 + 1e-6), (-1.0, low, 1 - 1e-6)):
        assert coefficient(objective, params, bound / beyond, sign) == pytest.approx(bound, rel=1e-5)
        assert coefficient(objective, params, bound * beyond, sign) == 0
        if objective is not bapo:  # whose bounds are other ones where the sign is another one
            assert coefficient(objective, params, bound * beyond, -sign) == pytest.approx(bound, rel=1e-5)


def test_sage_floor_of_a_slate_of_low_diversity():
    """lambda = 1.25: floor .75, for rejected slates alone."""
    assert coefficient(sage, SAGE, 0.751, -1.0, lower_entropy=LOW) == pytest.approx(0.751, rel=1e-5)
    assert coefficient(sage, SAGE, 0.749, -1.0, lower_entropy=LOW) == 0
    assert coefficient(sage, SAGE, 0.749, 1.0, lower_entropy=LOW) == pytest.approx(0.749, rel=1e-5)


def test_dual_clip_from_both_sides():
    """dual_clip = 3 stops a rejected slate above r = 3, and nothing else."""
    assert coefficient(*DUAL, 2.999, -1.0) == pytest.approx(2.999, rel=1e-5)
    assert coefficient(*DUAL, 3.001, -1.0) == 0
    assert coefficient(sage, SAGE, 3.001, -1.0) == pytest.approx(3.001, rel=1e-5)
    assert coefficient(*DUAL, 1.299, 1.0) == pytest.approx(1.299, rel=1e-5)


def test_on_a_bound_the_gradient_passes():
    """Ratios exactly on the bounds .75, 1.25 and the dual clip 4, where a minimum would hand on half: the whole A."""
    ratio = torch.tensor([0.75, 1.25, 0.75, 1.25, 4.0, 4.5], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, -1.0])
    terms.clipped_surrogate(ratio, advantage, 0.25, 0.25, 4.0).sum().backward()
    assert ratio.grad.tolist() == [1.0, 1.0, -1.0, -1.0, -1.0, 0.0]


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 10), st.floats(-3, 3), st.floats(0, 0.9), st.floats(0, 2), st.floats(1.01, 6))
def test_the_clipped_surrogate_is_its_formula(ratio, advantage, below, above, dual_clip):
    """min(r A, clip(r) A), and max(that, c A) where A < 0."""
    plain = min(ratio * advantage, min(max(ratio, 1 - below), 1 + above) * advantage)
    dual = max(plain, dual_clip * advantage) if advantage < 0 else plain
    given_ = torch.tensor(ratio, dtype=torch.float64), torch.tensor(advantage, dtype=torch.float64), below, above
    assert float(terms.clipped_surrogate(*given_)) == pytest.approx(plain, abs=1e-12)
    assert float(terms.clipped_surrogate(*given_, dual_clip)) == pytest.approx(dual, abs=1e-12)


def test_sage_around_the_mean_entropy():
    """beta = 1, r = .9995: H = Hbar - 1e-3 gives lambda = 1 + tanh(.001), floor .999, below r; at H = Hbar and above
    lambda = 1, and r is below the floor 1."""
    params = changed(SAGE, beta=1.0)
    assert coefficient(sage, params, 0.9995, -1.0, lower_entropy=1e-3) == pytest.approx(0.9995, rel=1e-5)
    assert coefficient(sage, params, 0.9995, -1.0, lower_entropy=0.0) == 0
    assert coefficient(sage, params, 0.9995, -1.0, lower_entropy=-1e-3) == 0


def test_gbpo_bounds_from_both_sides():
    """A >= 0 at r = 1; A < 0 at 1 - pi = pi_old: pi_old = 0.8, r = 0.25 -+ 0.001 gives pi = .1992 and .2008."""
    assert coefficient(gbpo, GBPO, 0.999, 1.0) == pytest.approx(0.999, rel=1e-6)
    assert coefficient(gbpo, GBPO, 1.001, 1.0) == pytest.approx(1, rel=1e-6)
    assert coefficient(gbpo, GBPO, 0.249, -1.0, 0.8) == pytest.approx(0.1992 / 0.8008, rel=1e-6)
    assert coefficient(gbpo, GBPO, 0.251, -1.0, 0.8) == pytest.approx(0.251, rel=1e-6)


def test_sage_gradient_form_bounds_from_both_sides():
    """A >= 0: held at 1.3. A < 0, lambda = 1.25, pi_old = .5: (1 - pi) = .625 at r = .75, so r = .751 stands and
    r = .749 becomes 1.25 * .3745 / .6255 = .748401."""
    assert coefficient(*GRADIENT, 1.299, 1.0) == pytest.approx(1.299, rel=1e-6)
    assert coefficient(*GRADIENT, 1.301, 1.0) == pytest.approx(1.3, rel=1e-6)
    assert coefficient(*GRADIENT, 0.751, -1.0, 0.5, LOW) == pytest.approx(0.751, rel=1e-6)
    assert coefficient(*GRADIENT, 0.749, -1.0, 0.5, LOW) == pytest.approx(0.748401, rel=1e-6)


def test_figure_3():
    """The figure fixes pi_old_g = .1 and shows r / Phi over r: lambda = 1 and 1.25, eps_boost = .3.

    r = .5: pi = .05, .05 / .95 = .052632, times 1.25 .065789; r = 2: pi = .2, .25 and .3125; A >= 0: .5 and 1.3.
    """
    for ratio, normal, low, rewarded in ((0.5, 0.052632, 0.065789, 0.5), (2.0, 0.25, 0.3125, 1.3)):
        assert coefficient(*GRADIENT, ratio, -1.0, 0.1) == pytest.approx(normal, abs=1e-6)
        assert coefficient(*GRADIENT, ratio, -1.0, 0.1, LOW) == pytest.approx(low, abs=1e-6)
        assert coefficient(*GRADIENT, ratio, 1.0, 0.1) == pytest.approx(rewarded, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1e6), st.floats(1, 2))
def test_eq_5_is_inert(ratio, penalty):
    """As printed, Phi_neg = max(1, (1 - r) / lambda): 1 - r <= 1 <= lambda, so it is 1 for every r >= 0."""
    assert max(1, (1 - ratio) / penalty) == 1
    old = torch.tensor([[-30.0]], dtype=torch.float64)  # r = 0 is log-ratio -inf
    current = old + torch.tensor(ratio, dtype=torch.float64).log()
    phi = sage.log_phi(current, old, torch.tensor([[-1.0]]), torch.tensor([[penalty]]).double(), LITERAL[1])
    assert float(phi) == 0


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 50), st.floats(0.01, 1), st.sampled_from([0.0, LOW]))
def test_eq_4_as_printed_amplifies(ratio, boost, lower):
    """Phi_pos = 1 / (1 + eps) above r = 1 + eps: r / Phi = r (1 + eps), more than the 1 + eps that the text names."""
    params = changed(LITERAL[1], eps_boost=boost)
    found = coefficient(sage, params, ratio, 1.0, lower_entropy=lower)
    if ratio > 1 + boost + 1e-9:
        assert found == pytest.approx(ratio * (1 + boost), rel=1e-9)
        assert found > 1 + boost
        meant = coefficient(sage, changed(params, form="gradient"), ratio, 1.0, lower_entropy=lower)
        assert meant == pytest.approx(1 + boost, rel=1e-9)
    elif ratio < 1 + boost - 1e-9:
        assert found == pytest.approx(ratio, rel=1e-9)
    assert coefficient(sage, params, ratio, -1.0, lower_entropy=lower) == pytest.approx(ratio, rel=1e-9)


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
        (sage, changed(SAGE, beta=0.0)),
        (sage, changed(SAGE, eps_boost=0.0)),
        (sage, changed(SAGE, eps_boost=0.0, eps_clip=0.0)),
        (sage, changed(SAGE, form="literal", eps_boost=0.0)),
        (ppo, PPO),
        (grpo, GRPO),
        (gdpo, GDPO),
        (dapo, DAPO),
        (gspo, GSPO),
        (bapo, BAPO),
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
    st.sampled_from([None, 3.0]),
)
def test_eps_clip_never_changes_sage(seed, one, other, spread, boost, dual_clip):
    """Any ratios (all 1 where spread = 0): loss and gradient are the same to the bit for two values of eps_clip."""
    slates, advantage = random_slates(seed, spread=spread)
    found = [
        descend(sage, changed(SAGE, eps_clip=width, eps_boost=boost, dual_clip=dual_clip), slates, advantage)
        for width in (one, other)
    ]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(0, 6), st.floats(0, 6))
def test_eq_6_bounds(beta, entropy, mean):
    """1 <= lambda <= 1 + beta; 1 exactly at or above the mean; falling in H."""
    params = changed(SAGE, beta=beta)
    found, above = sage.diversity_penalty(torch.tensor([[entropy, entropy + 0.1]]), torch.tensor(mean), params)[0]
    assert 1 <= float(above) <= float(found) <= 1 + beta + 1e-6
    if entropy >= mean:
        assert float(found) == 1


def test_eq_6_by_hand():
    """beta = 0.5, Hbar = 2: H = 1 gives 1 + .5 tanh(1) = 1.380797; H = 2 and 3 give 1."""
    found = sage.diversity_penalty(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor(2.0), SAGE)
    assert found.tolist()[0] == pytest.approx([1.380797, 1, 1], abs=1e-6)
