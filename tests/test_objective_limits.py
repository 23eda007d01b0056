"""Where two optimizers are one, and what changes none of them: padding, order, how a batch is split.

Shapes: B users, K slates, L items, T tokens. Sums written as loops follow the papers' formulas term by term.
"""

import math

import pytest
import torch
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
    descend,
    random_slates,
    scored,
    with_parts,
)
from torch import Tensor

from stages.objectives import bapo, dapo, gbpo, gdpo, grpo, gspo, ppo, sage
from stages.objectives.terms import ScoredSlates

TOKEN_MEAN = ("dapo",)  # over the batch: a part of it weighs by its tokens
SEARCHED = ("bapo",)  # bounds that belong to the batch


def same(found: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> None:
    """The same loss and gradient, and a gradient that is not nothing."""
    assert float(found[0]) == pytest.approx(float(want[0]), abs=1e-6)
    assert torch.allclose(found[1], want[1], atol=1e-7)
    assert want[1].abs().max() > 1e-3


def surrogates(slates: ScoredSlates, advantage: Tensor, low: float, high: float) -> list[list[float]]:
    """min(r A, clip(r, low, high) A) of every token, slate by slate."""
    found = []
    for user, group in enumerate(slates.mask.tolist()):
        for slate, mask in enumerate(group):
            now, before = slates.log_probs[user, slate].tolist(), slates.old_log_probs[user, slate].tolist()
            ratios = [math.exp(new - old) for new, old, there in zip(now, before, mask, strict=True) if there]
            a = float(advantage[user, slate])
            found.append([min(r * a, min(max(r, low), high) * a) for r in ratios])
    return found


# ---------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("name", ["ppo", "grpo", "gdpo"])
def test_the_token_surrogate_with_one_width_is_eq_3_of_deepseekmath(name):
    """Mean over users and slates of the mean over a slate's tokens of min(r A, clip(r, .75, 1.25) A)."""
    slates, advantage = random_slates(10, ragged=True)
    objective, params = CASES[name]
    each = [sum(terms) / len(terms) for terms in surrogates(slates, advantage, 0.75, 1.25)]
    found = objective.loss(slates, advantage, params).value
    assert float(found.detach()) == pytest.approx(-sum(each) / len(each), abs=1e-6)


def test_grpo_advantages_are_eq_3_of_deepseekmath():
    """(R - mean) / (std + 1e-4) inside each user's group, std with K - 1, as loops; PPO's over all 24 slates."""
    rewards, weights = torch.rand(4, 6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, -0.5])
    total = [[float(slate @ weights) for slate in group] for group in rewards]

    def z(values: list[float]) -> list[float]:
        mean = sum(values) / len(values)
        std = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
        return [(value - mean) / (std + 1e-4) for value in values]

    found = grpo.advantages(rewards, weights, GRPO, True)
    assert found.flatten().tolist() == pytest.approx([a for group in total for a in z(group)], abs=1e-5)
    found = ppo.advantages(rewards, weights, PPO, True)
    assert found.flatten().tolist() == pytest.approx(z([value for group in total for value in group]), abs=1e-5)


def test_dapo_with_one_width_is_grpo_with_a_token_mean():
    """eps_low = eps_high = .25: the sum over all tokens of all slates over their number."""
    slates, advantage = random_slates(11, ragged=True)
    tokens = [term for terms in surrogates(slates, advantage, 0.75, 1.25) for term in terms]
    assert len(tokens) < 4 * 6 * 6
    params = changed(DAPO, eps_high=0.25)
    found = float(dapo.loss(slates, advantage, params).value.detach())
    assert found == pytest.approx(-sum(tokens) / len(tokens), abs=1e-6)
    assert abs(found - float(grpo.loss(slates, advantage, GRPO).value.detach())) > 1e-4
    slates, advantage = random_slates(11)  # slates of one length: GRPO itself
    same(descend(dapo, params, slates, advantage), descend(grpo, GRPO, slates, advantage))


def test_dapo_drops_groups_as_if_they_had_not_been_drawn():
    """Two of four users without signal: the loss of the other two alone."""
    slates, advantage = random_slates(12, ragged=True)
    advantage[[0, 2]] = 0.0
    kept = torch.tensor([1, 3])
    value, gradient = descend(dapo, DAPO, slates, advantage)
    alone = descend(dapo, DAPO, with_parts(slates, lambda x: x[kept]), advantage[kept])
    same((value, gradient[kept]), alone)
    assert not gradient[[0, 2]].any()


def test_gdpo_is_grpo_with_the_advantages_of_sage():
    slates, advantage = random_slates(13)
    rewards, weights = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([1.0, 2.0, -0.5])
    assert torch.equal(gdpo.advantages(rewards, weights, GDPO, True), sage.advantages(rewards, weights, SAGE, True))
    same(descend(gdpo, GDPO, slates, advantage), descend(grpo, GRPO, slates, advantage))


def test_sage_over_tokens_without_a_penalty_is_gspo_without_a_lower_bound():
    """ratio_norm = token, beta = 0: floor at r = 1, ceiling at 1.3. GSPO with eps_low = 0 and eps_high = .3."""
    slates, advantage = random_slates(14, ragged=True)
    want = descend(gspo, changed(GSPO, eps_low=0.0, eps_high=0.3), slates, advantage)
    same(descend(sage, changed(SAGE, ratio_norm="token", beta=0.0), slates, advantage), want)


def test_sage_over_tokens_is_gspo_with_lambda_for_its_lower_bound():
    """All slates with lambda = 1.25: GSPO with eps_low = .25 and eps_high = .3."""
    slates, advantage = random_slates(15)
    log_ratio = (slates.log_probs - slates.old_log_probs).detach()
    slates = scored(slates.old_log_probs, log_ratio, length=2, entropy=torch.full((4, 6), 2.0 - LOW))
    want = descend(gspo, changed(GSPO, eps_low=0.25, eps_high=0.3), slates, advantage)
    same(descend(sage, changed(SAGE, ratio_norm="token"), slates, advantage), want)


def test_with_one_token_a_slate_all_clips_are_one():
    """One item of one token, bounds .75 and 1.25, lambda = 1.25, a signal in every group."""
    slates, advantage = random_slates(5, tokens=1)
    log_ratio = (slates.log_probs - slates.old_log_probs).detach()
    slates = scored(slates.old_log_probs, log_ratio, length=1, entropy=torch.full((4, 6), 2.0 - LOW))
    want = descend(grpo, GRPO, slates, advantage)
    fixed = changed(BAPO, c_low_min=0.75, c_low_max=0.75, c_high_min=1.25, c_high_max=1.25)
    for objective, params in (
        (ppo, PPO),
        (dapo, changed(DAPO, eps_high=0.25)),
        (gspo, changed(GSPO, eps_low=0.25, eps_high=0.25)),
        (bapo, fixed),
        (sage, changed(SAGE, eps_boost=0.25)),
        (sage, changed(SAGE, eps_boost=0.25, dual_clip=100.0)),
    ):
        same(descend(objective, params, slates, advantage), want)


def test_bapo_with_one_pair_of_bounds_is_grpo_with_two():
    """c_low = .7 and c_high = 1.4 whatever the batch: the token mean of min(r A, clip(r, .7, 1.4) A)."""
    slates, advantage = random_slates(16, ragged=True)
    fixed = changed(BAPO, c_low_min=0.7, c_low_max=0.7, c_high_min=1.4, c_high_max=1.4)
    each = [sum(terms) / len(terms) for terms in surrogates(slates, advantage, 0.7, 1.4)]
    found = float(bapo.loss(slates, advantage, fixed).value.detach())
    assert found == pytest.approx(-sum(each) / len(each), abs=1e-6)


def test_sage_gradient_form_without_boost_and_penalty_is_gbpo_on_the_items_geometric_mean():
    """eps_boost = 0, lambda = 1: GBPO on a single token of probability pi_g; each token of a slate has 1/L of it."""
    slates, advantage = random_slates(17, ragged=True)
    params = changed(SAGE, form="gradient", eps_boost=0.0, beta=0.0)
    mean = [
        (values.detach() * slates.mask).sum(-1, keepdim=True) / 2 for values in (slates.log_probs, slates.old_log_probs)
    ]
    assert (mean[0] > mean[1]).any()
    assert (mean[0] < mean[1]).any()
    _, one = descend(gbpo, GBPO, scored(mean[1], mean[0] - mean[1]), advantage)
    found = descend(sage, params, slates, advantage)[1]
    assert torch.allclose(found, one / 2 * slates.mask, atol=1e-7)
    assert one.abs().max() > 1e-2


def test_sage_gradient_form_with_one_item_is_gbpo_at_level_slate():
    """L = 1: the geometric mean of one item is the slate. pi of 6 tokens is small, of 1 it is not."""
    params = changed(SAGE, form="gradient", eps_boost=0.0, beta=0.0)
    for tokens in (1, 6):
        slates, advantage = random_slates(18, tokens=tokens)
        slates = scored(slates.old_log_probs, (slates.log_probs - slates.old_log_probs).detach(), length=1)
        want = descend(gbpo, changed(GBPO, level="slate"), slates, advantage)[1]
        assert torch.allclose(descend(sage, params, slates, advantage)[1], want, atol=1e-7)
        assert want.abs().max() > 1e-2


def test_gbpo_levels_meet():
    """Items of one token: level item is level token. One item: level slate is level item."""
    slates, advantage = random_slates(19)
    old, log_ratio = slates.old_log_probs, (slates.log_probs - slates.old_log_probs).detach()
    found = {
        (level, length): descend(gbpo, changed(GBPO, level=level), scored(old, log_ratio, length=length), advantage)
        for level in ("token", "item", "slate")
        for length in (1, 2, 6)
    }
    same(found["item", 6], found["token", 6])
    same(found["slate", 1], found["item", 1])
    same(found["slate", 2], found["slate", 1])  # a slate is the product of its items however they are cut
    assert not torch.allclose(found["item", 2][1], found["token", 2][1], atol=1e-3)


def test_token_norm_is_item_norm_of_a_stretched_log_ratio():
    """2 items of 3 tokens: the mean over 6 tokens of 3 x the log-ratio is its sum over L = 2."""
    slates, advantage = random_slates(4)
    log_ratio = (slates.log_probs - slates.old_log_probs).detach()
    stretched = scored(slates.old_log_probs, 3 * log_ratio, length=2, entropy=slates.entropy)
    want = descend(sage, SAGE, slates, advantage)
    found, gradient = descend(sage, changed(SAGE, ratio_norm="token"), stretched, advantage)
    same((found, 3 * gradient), want)


# ----------------------------------------------------------------------------------------------- invariances


@OBJECTIVES
def test_padding_changes_nothing(objective, params):
    """Three more positions without a token, whose log-probabilities and items are nonsense."""
    slates, advantage = random_slates(1, ragged=True)
    value, gradient = descend(objective, params, slates, advantage)
    nonsense = torch.tensor([-30.0, -0.01, -3.0]).expand(4, 6, 3)
    padded = ScoredSlates(
        torch.cat([slates.log_probs.detach(), nonsense], -1).requires_grad_(),
        torch.cat([slates.old_log_probs, nonsense.flip(-1)], -1),
        torch.cat([slates.mask, torch.zeros_like(nonsense, dtype=torch.bool)], -1),
        torch.cat([slates.item, torch.tensor([-1, 2, 99]).expand(4, 6, 3)], -1),
        slates.length,
        slates.entropy,
        slates.entropy_mean,
    )
    with_padding, wider = descend(objective, params, padded, advantage)
    same((with_padding, wider[..., :6]), (value, gradient))
    assert not wider[..., 6:].any()
    before, after = (objective.loss(each, advantage, params).diagnostics for each in (slates, padded))
    assert {name: float(x) for name, x in after.items()} == pytest.approx({n: float(x) for n, x in before.items()})


@OBJECTIVES
def test_order_does_not_matter(objective, params):
    """Neither that of the slates in a group nor that of the users."""
    slates, advantage = random_slates(2, ragged=True)
    want = descend(objective, params, slates, advantage)
    group, users = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2, 0, 3, 1])
    for pick in (lambda x: x[:, group], lambda x: x[users]):
        found = descend(objective, params, with_parts(slates, pick), pick(advantage))
        same(found, (want[0], pick(want[1])))


PARTS = [(slice(0, 2), slice(2, 4)), (slice(0, 1), slice(1, 4))]


def put_together(objective, params, slates, advantage, parts, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient of a batch from those of its parts, which weigh as their users do: weight [B]."""
    found = [
        descend(objective, params, with_parts(slates, lambda x, part=part: x[part]), advantage[part]) for part in parts
    ]
    shares = [float(weight[part].sum() / weight.sum()) for part in parts]
    value = sum(share * each[0] for share, each in zip(shares, found, strict=True))
    return value, torch.cat([share * each[1] for share, each in zip(shares, found, strict=True)])


@pytest.mark.parametrize("name", [name for name in CASES if name not in TOKEN_MEAN + SEARCHED])
@pytest.mark.parametrize("parts", PARTS, ids=["halves", "one to three"])
def test_a_batch_is_the_mean_of_its_parts(name, parts):
    """Weighted by their slates, for given advantages; see test_advantages.py for those that need the whole batch."""
    objective, params = CASES[name]
    slates, advantage = random_slates(3, ragged=True)
    found = put_together(objective, params, slates, advantage, parts, torch.ones(4))
    same(found, descend(objective, params, slates, advantage))


@pytest.mark.parametrize("parts", PARTS, ids=["halves", "one to three"])
def test_a_batch_of_dapo_is_the_mean_of_its_parts_by_tokens(parts):
    """By the tokens of groups with signal, here of users 1 to 3; by slates it is not."""
    slates, advantage = random_slates(3, ragged=True)
    advantage[0] = 0.0
    tokens = slates.mask.sum((1, 2)) * (advantage != 0).any(1)  # [B]
    assert tokens[0] == 0
    assert len(set(tokens.tolist())) > 2  # unequal ones
    want = descend(dapo, DAPO, slates, advantage)
    same(put_together(dapo, DAPO, slates, advantage, parts, tokens), want)
    by_slates, _ = put_together(dapo, DAPO, slates, advantage, parts, torch.ones(4))
    assert abs(float(by_slates) - float(want[0])) > 1e-3


def test_a_split_batch_of_bapo_searches_anew():
    """Users 0 and 1 with rewarded slates alone, 2 and 3 with rejected ones, who apart end at other bounds."""
    slates, advantage = random_slates(3, spread=1.0)
    advantage = advantage.abs() * torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None]
    halves = [with_parts(slates, lambda x, part=part: x[part]) for part in PARTS[0]]
    bounds = [
        [float(found[name]) for name in ("c_low", "c_high")]
        for found in (
            bapo.loss(each, a, BAPO).diagnostics
            for each, a in ((slates, advantage), (halves[0], advantage[:2]), (halves[1], advantage[2:]))
        )
    ]
    assert bounds[0] == bounds[1] == pytest.approx([0.6, 1.25])
    assert bounds[2] == pytest.approx([0.9, 3.0])
    want = descend(bapo, BAPO, slates, advantage)[0]
    apart, _ = put_together(bapo, BAPO, slates, advantage, PARTS[0], torch.ones(4))
    assert abs(float(apart) - float(want)) > 1e-3
    fixed = changed(BAPO, c_low_max=0.6, c_high_max=1.25)
    found = put_together(bapo, fixed, slates, advantage, PARTS[0], torch.ones(4))
    same(found, descend(bapo, fixed, slates, advantage))
