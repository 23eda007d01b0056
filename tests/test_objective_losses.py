"""Losses and diagnostics of every optimizer against numbers worked out by hand; the parts that they share.

Shapes: B users, K slates, L items, T tokens.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_cases import (
    BAPO,
    CASES,
    DAPO,
    GBPO,
    GSPO,
    LOW,
    OBJECTIVES,
    SAGE,
    changed,
    descend,
    random_slates,
    scored,
)

from stages.objectives import bapo, dapo, gbpo, gspo, sage, sft, terms


def plain(diagnostics: dict[str, torch.Tensor]) -> dict[str, float]:
    assert not any(value.requires_grad for value in diagnostics.values())
    return {name: float(value) for name, value in diagnostics.items()}


# ------------------------------------------------------------------------------------------------------ SAGE


def four_slates():
    """r = 1.5, .9, .9, 1.2 with A = 1, -1, -2, -1 and lambda = 1, 1, 1.25, 1; L = 2 items of 2 tokens of log -1."""
    log_ratio = torch.tensor([[1.5, 0.9], [0.9, 1.2]]).log()[..., None].expand(2, 2, 4) / 2  # sum over T is L log r
    entropy = torch.tensor([[2.0, 2.0], [2.0 - LOW, 2.5]])
    return scored(torch.full((2, 2, 4), -1.0) - log_ratio, log_ratio, length=2, entropy=entropy), torch.tensor(
        [[1.0, -1.0], [-2.0, -1.0]]
    )


RANGE = {
    "ratio_mean": (1.5 + 0.9 + 0.9 + 1.2) / 4,
    "ratio_min": 0.9,
    "ratio_q05": 0.9,  # of .9, .9, 1.2, 1.5: .15 of the way from the first to the second
    "ratio_q95": 1.455,  # 1.2 + .85 (1.5 - 1.2)
    "ratio_max": 1.5,
    "lambda_mean": 1.0625,  # (1 + 1 + 1.25 + 1) / 4
}


def test_sage_loss_by_hand():
    """eps_boost = 0.3, Hbar = 2.

    r = 1.5, A = 1: min(1.5, 1.3) = 1.3          at the boost bound
    r = 0.9, A = -1, lambda = 1: min(-0.9, -1) = -1        at the floor 1
    r = 0.9, A = -2, lambda = 1.25: floor .75, so -1.8
    r = 1.2, A = -1, lambda = 1: -1.2 (eps_clip = .2 would not stop it either)
    J = (1.3 - 1 - 1.8 - 1.2) / 4 = -0.675
    """
    found = sage.loss(*four_slates(), SAGE)
    assert float(found.value.detach()) == pytest.approx(0.675, abs=1e-6)
    assert plain(found.diagnostics) == pytest.approx(
        {
            **RANGE,
            "at_upper_bound": 1.0,  # one of one rewarded slate
            "at_lower_bound": 1 / 3,  # one of three rejected slates
            "at_floor_low_diversity": 0.0,
            "at_floor_usual_diversity": 1 / 2,  # one of two
        },
        abs=1e-6,
    )


def test_sage_dual_clip_by_hand():
    """dual_clip = 1.1: the last slate gives max(-1.2, -1.1) = -1.1, so J = (1.3 - 1 - 1.8 - 1.1) / 4 = -.65."""
    found = sage.loss(*four_slates(), changed(SAGE, dual_clip=1.1))
    assert float(found.value.detach()) == pytest.approx(0.65, abs=1e-6)
    assert float(found.diagnostics["at_dual_clip"]) == pytest.approx(1 / 3)  # one of three rejected slates


def test_sage_gradient_form_by_hand():
    """The mean log-probability of an item is -2, pi_g = .135335, and log pi_old_g = -2 - log r.

    r = 1.5, A = 1: r / Phi = 1.3
    r = .9, A = -1, lambda = 1: .135335 / .864665 = .156518
    r = .9, A = -2, lambda = 1.25: .195647
    r = 1.2, A = -1, lambda = 1: .156518
    J = -2 (1.3 - .156518 - 2 * .195647 - .156518) / 4 = -.297835
    """
    found = sage.loss(*four_slates(), changed(SAGE, form="gradient"))
    assert float(found.value.detach()) == pytest.approx(0.297835, abs=1e-6)
    shares = {"bounded_rewarded": 1.0, "bounded_rejected": 1.0, "amplified_rewarded": 0.0}
    assert plain(found.diagnostics) == pytest.approx({**RANGE, **shares}, abs=1e-6)


def test_sage_literal_form_by_hand():
    """r / Phi = 1.5 * 1.3 = 1.95, .9, .9, 1.2: J = -2 (1.95 - .9 - 2 * .9 - 1.2) / 4 = .975."""
    found = sage.loss(*four_slates(), changed(SAGE, form="literal"))
    assert float(found.value.detach()) == pytest.approx(-0.975, abs=1e-6)
    shares = {"bounded_rewarded": 0.0, "bounded_rejected": 0.0, "amplified_rewarded": 1.0}
    assert plain(found.diagnostics) == pytest.approx({**RANGE, **shares}, abs=1e-6)


# ------------------------------------------------------------------------------------- token and slate clips


def test_grpo_loss_by_hand():
    """Slates of 2 and 1 tokens, eps_clip = 0.25.

    A = 1, r = 1.5 and 0.9: (1.25 + 0.9) / 2 = 1.075
    A = -2, r = 0.5: min(-1, -1.5) = -1.5
    J = (1.075 - 1.5) / 2 = -0.2125: the mean in each slate first
    """
    log_ratio = torch.tensor([[[1.5, 0.9], [0.5, 1.0]]]).log()
    mask = torch.tensor([[[True, True], [True, False]]])
    slates = scored(torch.full((1, 2, 2), -1.0), log_ratio, mask)
    for name in ("ppo", "grpo", "gdpo"):  # one loss, three advantages
        objective, params = CASES[name]
        found = objective.loss(slates, torch.tensor([[1.0, -2.0]]), params)
        assert float(found.value.detach()) == pytest.approx(0.2125, abs=1e-6)
        assert plain(found.diagnostics) == pytest.approx(
            {
                "ratio_mean": (1.5 + 0.9 + 0.5) / 3,
                "ratio_min": 0.5,
                "ratio_q05": 0.54,  # .5 + .1 (.9 - .5), without the masked 1
                "ratio_q95": 1.44,  # .9 + .9 (1.5 - .9)
                "ratio_max": 1.5,
                "at_upper_bound": 0.5,  # one of two rewarded tokens
                "at_lower_bound": 1.0,  # one of one rejected token
            }
        )


def test_dapo_loss_by_hand():
    """eps_low = .25, eps_high = .28. Two users; the second's slates earn alike.

    A = 1, r = 1.5 and .9: 1.28 + .9;  A = -2, r = .5: -1.5;  A = 0 twice, 4 tokens: left out
    J = (1.28 + .9 - 1.5) / 3 tokens = .226667; over all 7 tokens it would be .097143
    """
    ratio = torch.tensor([[[1.5, 0.9], [0.5, 1.0]], [[1.1, 1.1], [0.9, 0.9]]])
    mask = torch.tensor([[[True, True], [True, False]], [[True, True], [True, True]]])
    slates = scored(torch.full((2, 2, 2), -1.0), ratio.log(), mask)
    advantage = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    found = dapo.loss(slates, advantage, DAPO)
    assert float(found.value.detach()) == pytest.approx(-0.226667, abs=1e-6)
    assert float(found.diagnostics["at_upper_bound"]) == 0.5
    assert float(found.diagnostics["at_lower_bound"]) == 1.0
    _, gradient = descend(dapo, DAPO, slates, advantage)
    assert gradient[0].tolist() == [[0.0, pytest.approx(-0.9 / 3)], [0.0, 0.0]]
    assert not gradient[1].any()


def test_dapo_without_any_signal():
    """No group has a signal: the loss is 0, not 0 / 0, and so is its gradient."""
    slates, _ = random_slates(7)
    value, gradient = descend(dapo, DAPO, slates, torch.full((4, 6), 1e-7))
    assert float(value) == 0
    assert gradient.abs().max() == 0


def test_gspo_loss_by_hand():
    """Log-ratios of 2 tokens: .001 and -.0004, mean .0003, s = 1.00030005 < 1.0004; one token of -.001:
    s = .9990005 < .9997.

    A = 1: 1.00030005;  A = -1: min(-.9990005, -.9997) = -.9997;  J = .00060005 / 2
    """
    log_ratio = torch.tensor([[[0.001, -0.0004], [-0.001, 3.0]]], dtype=torch.float64)
    mask = torch.tensor([[[True, True], [True, False]]])
    slates = scored(torch.full_like(log_ratio, -1.0), log_ratio, mask)
    advantage = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    value, gradient = descend(gspo, GSPO, slates, advantage)
    assert float(value) == pytest.approx(-0.000300023, abs=1e-9)
    assert gradient.tolist()[0][0] == pytest.approx([-1.00030005 / 4] * 2, rel=1e-7)  # over 2 slates and 2 tokens
    assert gradient.tolist()[0][1] == [0.0, 0.0]
    assert float(gspo.loss(slates, advantage, GSPO).diagnostics["at_lower_bound"]) == 1.0


# ------------------------------------------------------------------------------------------------------ GBPO


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
    assert plain(found.diagnostics) == pytest.approx(
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


def test_gbpo_levels_by_hand():
    """A slate of 2 items of 2 tokens, pi_old = .8 each, pi = .8, .8 | .9, .7 and A = -1.

    item: pi = .64 and .63 of .64: pi'_old = max(.64, .36), 1 and .984375; J = -(1 + .984375) / 2
    slate: pi = .4032 of .4096: pi'_old = max(.4096, .5968): J = -.4032 / .5968 = -.675603
    A = 1: item 1 and .984375; slate .984375. Gradients on the tokens: coefficient / L and coefficient.
    """
    old, pi = torch.full((1, 1, 4), 0.8).log(), torch.tensor([[[0.8, 0.8, 0.9, 0.7]]]).log()
    slates = scored(old, pi - old, length=2)
    for level, sign, want, gradients in (
        ("item", -1.0, -0.9921875, [0.5, 0.5, 0.4921875, 0.4921875]),
        ("item", 1.0, 0.9921875, [-0.5, -0.5, -0.4921875, -0.4921875]),
        ("slate", -1.0, -0.675603, [0.675603] * 4),
        ("slate", 1.0, 0.984375, [-0.984375] * 4),
    ):
        value, gradient = descend(gbpo, changed(GBPO, level=level), slates, torch.tensor([[sign]]))
        assert float(value) == pytest.approx(-want, abs=1e-6)
        assert gradient.flatten().tolist() == pytest.approx(gradients, abs=1e-6)


def test_gbpo_hardly_pushes_a_rejected_slate_at_level_slate():
    """4 tokens of pi = pi_old = .1, A = -1. token: (.1 / .9) / 4 = .027778; slate: 1e-4 / (1 - 1e-4) = .00010001.

    10 times as many tokens: pi = 1e-40, and there is no gradient left. A rewarded slate has all of it, 1.
    """
    slates = scored(torch.full((1, 1, 4), 0.1).log(), torch.zeros(1, 1, 4))
    slate = changed(GBPO, level="slate")
    rejected = torch.tensor([[-1.0]])
    assert descend(gbpo, GBPO, slates, rejected)[1].flatten().tolist() == pytest.approx([0.027778] * 4, abs=1e-6)
    found = descend(gbpo, slate, slates, rejected)[1]
    assert found.flatten().tolist() == pytest.approx([0.00010001] * 4, rel=1e-5)
    longer = scored(torch.full((1, 1, 40), 0.1).log(), torch.zeros(1, 1, 40))
    assert not descend(gbpo, slate, longer, rejected)[1].any()
    assert descend(gbpo, slate, longer, -rejected)[1].flatten().tolist() == [-1.0] * 40


def test_item_log_probs():
    """Items of 1 and 3 tokens, then of 2 and 1 with padding that names no item: -1, -9 and -7, -4."""
    values = torch.tensor([[[-1.0, -2.0, -3.0, -4.0], [-5.0, -2.0, -4.0, -99.0]]], requires_grad=True)
    item = torch.tensor([[[0, 1, 1, 1], [0, 0, 1, -7]]])
    mask = torch.tensor([[[True, True, True, True], [True, True, True, False]]])
    slates = scored(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), mask, 2, item)
    found = terms.item_log_probs(values, slates)
    assert found.tolist() == [[[-1.0, -9.0], [-7.0, -4.0]]]
    (found * torch.tensor([10.0, 1.0])).sum().backward()
    assert values.grad.tolist() == [[[10.0, 1.0, 1.0, 1.0], [10.0, 10.0, 1.0, 0.0]]]


# ------------------------------------------------------------------------------------------------------ BAPO


def three_tokens(*ratios: float, advantage: tuple[float, ...] = (1.0, -1.0, -1.0)):
    ratio = torch.tensor(ratios, dtype=torch.float64)[None, :, None]
    return scored(torch.full_like(ratio, -9.0), ratio.log()), torch.tensor([advantage], dtype=torch.float64)


def test_bapo_search_ends_where_the_share_suffices():
    """A = 1 at r = 2, A = -1 at r = 1 and 1.5: c_high / (c_high + 2.5) >= .4 from c_high = 5/3 on, so 1.7 of
    1.25, 1.3, ..: share 1.7 / 4.2 = .404762. J = (1.7 - 1 - 1.5) / 3; r = 2 is beyond 1.7: no gradient."""
    slates, advantage = three_tokens(2.0, 1.0, 1.5)
    found = bapo.loss(slates, advantage, BAPO)
    assert float(found.value.detach()) == pytest.approx(0.8 / 3)
    got = plain(found.diagnostics)
    assert {name: got[name] for name in ("c_low", "c_high", "positive_share")} == pytest.approx(
        {"c_low": 0.6, "c_high": 1.7, "positive_share": 1.7 / 4.2}
    )
    assert got["at_upper_bound"] == 1.0
    assert descend(bapo, BAPO, slates, advantage)[1].flatten().tolist() == pytest.approx([0, 1 / 3, 0.5])


def test_bapo_search_runs_through_where_the_share_is_out_of_reach():
    """A = 1 at r = 1, A = -1 at r = .5 and 2: at c_low = .6 the share is 1 / (1 + .6 + 2) = .277778. No c_high helps,
    and c_low = .9 lowers it: 1 / (1 + .9 + 2) = .256410. r = .5 has no gradient at either."""
    slates, advantage = three_tokens(1.0, 0.5, 2.0)
    found = plain(bapo.loss(slates, advantage, BAPO).diagnostics)
    assert {name: found[name] for name in ("c_low", "c_high", "positive_share")} == pytest.approx(
        {"c_low": 0.9, "c_high": 3.0, "positive_share": 1 / 3.9}
    )
    assert found["at_lower_bound"] == 0.5
    assert descend(bapo, BAPO, slates, advantage)[1].flatten().tolist() == pytest.approx([-1 / 3, 0, 2 / 3])


def test_bapo_without_signal_stays_at_its_first_bounds():
    slates, advantage = three_tokens(1.0, 0.5, 2.0, advantage=(0.0, 0.0, 0.0))
    found = plain(bapo.loss(slates, advantage, BAPO).diagnostics)
    assert (found["c_low"], found["c_high"], found["positive_share"]) == pytest.approx((0.6, 1.25, 0.0))


def searched(ratios: list[float], advantages: list[float], params: bapo.Params) -> tuple[float, float, float]:
    """Algorithm 1, lines 9 to 17, as a loop over steps, and Eq. 8 as one over tokens."""

    def share(low: float, high: float) -> float:
        clipped = [
            abs(min(r * a, min(max(r, low), high) * a)) * (1 if a > 0 else -1)
            for r, a in zip(ratios, advantages, strict=True)
        ]
        positive = sum(value for value in clipped if value > 0)
        return positive / (positive - sum(value for value in clipped if value < 0))

    ups = downs = 0
    while True:
        low, high = params.c_low_min + downs * params.c_low_step, params.c_high_min + ups * params.c_high_step
        if share(low, high) >= params.rho_0 or low + params.c_low_step > params.c_low_max + 1e-9:
            return low, high, share(low, high)
        if high + params.c_high_step <= params.c_high_max + 1e-9:
            ups += 1
        else:
            downs += 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.5, 1.0]), st.floats(0.05, 0.95))
def test_bapo_search_is_algorithm_1(seed, spread, rho):
    """All bounds tried at once end where the paper's loop ends, and c_low never raises the share."""
    generator = torch.Generator().manual_seed(seed)
    ratio = (spread * torch.randn(30, generator=generator, dtype=torch.float64)).exp()
    advantage = torch.randn(30, generator=generator, dtype=torch.float64)
    params = changed(BAPO, rho_0=rho)
    found = plain(bapo.balanced_bounds(ratio, advantage, params))
    low, high, share = searched(ratio.tolist(), advantage.tolist(), params)
    assert (found["c_low"], found["c_high"], found["positive_share"]) == pytest.approx((low, high, share))
    assert low in (params.c_low_min, pytest.approx(params.c_low_max))  # nothing between: c_low never ends the search
    narrower = bapo.balanced_bounds(ratio, advantage, changed(params, c_low_min=0.8, rho_0=0.0))["positive_share"]
    wider = bapo.balanced_bounds(ratio, advantage, changed(params, c_low_min=0.6, rho_0=0.0))["positive_share"]
    assert float(narrower) <= float(wider) + 1e-12


# --------------------------------------------------------------------------------------------- what is shared


@pytest.mark.parametrize("signal", [False, True])
def test_a_group_without_signal_counts_on_neither_side(signal):
    """Two pairs of slates of one token, advantages +-1e-7 (rounding) and +-1 (signal); one pair is beyond
    its bounds, so the shares are all 0 or all 1.

    Beyond: pi_old = .2 with r = 4 and .1, for GBPO pi = .8 and 1 - pi = .98, both above .2; SAGE's literal form bounds
    nothing. The dual clip is for r above it, BAPO's share of the pair with signal 1.25 / (1.25 + .6) or 1 / 2.
    Within: r = 1 with pi_old = .2 and .8, for GBPO pi = .2 and 1 - pi = .2, neither above pi_old.
    """
    beyond, within = ([0.2, 0.2], [4.0, 0.1]), ([0.2, 0.8], [1.0, 1.0])
    old, ratio = (
        torch.tensor(first + second).log()[None, :, None]
        for first, second in zip(*((within, beyond) if signal else (beyond, within)), strict=True)
    )
    slates = scored(old, ratio, entropy=torch.full((1, 4), 2.0 - LOW))
    shares = {"sage": 3, "sage-token": 3}
    for name, (objective, params) in CASES.items():
        if name in ("sage-dual", "sage-literal"):
            continue
        advantage = torch.tensor([[1e-7, -1e-7, 1.0, -1.0]])
        found = plain(objective.loss(slates, advantage, params).diagnostics)
        found = {key: value for key, value in found.items() if key.startswith(("at_", "bounded_"))}
        assert found.pop("at_floor_usual_diversity", 0.0) == 0  # all slates here are of low diversity
        assert len(found) == shares.get(name, 2)
        assert set(found.values()) == {float(signal)}, (name, found)


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


def test_token_norm_counts_tokens_without_padding():
    """Log-ratios .2, .4 and a masked one: token norm exp(.3), item norm with L = 3 exp(.2)."""
    slates = scored(
        torch.zeros(1, 1, 3) - 1, torch.tensor([[[0.2, 0.4, 7.0]]]), torch.tensor([[[True, True, False]]]), length=3
    )
    assert float(terms.slate_ratio(slates, "token").detach()) == pytest.approx(math.exp(0.3))
    assert float(terms.slate_ratio(slates, "item").detach()) == pytest.approx(math.exp(0.2))
    assert terms.token_ratio(slates).flatten().tolist() == pytest.approx([math.exp(0.2), math.exp(0.4), 1])


@OBJECTIVES
@pytest.mark.parametrize("gap", [500.0, -500.0])
def test_an_extreme_log_ratio_stays_finite(objective, params, gap):
    old = torch.full((1, 2, 3), -501.0 if gap > 0 else -1.0)
    slates, advantage = scored(old, torch.full_like(old, gap)), torch.tensor([[1.0, -1.0]])
    value, gradient = descend(objective, params, slates, advantage)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert all(found.isfinite() for found in objective.loss(slates, advantage, params).diagnostics.values())


@OBJECTIVES
def test_diagnostics_are_scalars_without_gradient(objective, params):
    """What every curve has: the ratio's range, and a share for rewarded and for rejected cases."""
    slates, advantage = random_slates(8)
    found = objective.loss(slates, advantage, params).diagnostics
    assert {"ratio_mean", "ratio_min", "ratio_q05", "ratio_q95", "ratio_max"} <= found.keys()
    pairs = ({"at_upper_bound", "at_lower_bound"}, {"bounded_rewarded", "bounded_rejected"})
    assert sum(pair <= found.keys() for pair in pairs) == 1
    assert all(value.shape == () and not value.requires_grad for value in found.values())
    shares = [float(value) for name, value in found.items() if name.startswith(("at_", "bounded_", "amplified_"))]
    assert all(0 <= share <= 1 for share in shares)
    assert any(0 < share < 1 for share in shares)  # a bound acts on some of these slates
    assert float(found["ratio_min"]) < 0.9
    assert float(found["ratio_max"]) > 1.1
