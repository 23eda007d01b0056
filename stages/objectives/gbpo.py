"""GBPO: Gradient-Bounded Policy Optimization (OneRec-V2, arXiv 2508.20900), per token, item or slate.

    J        = mean over slates of the mean over tokens of pi / pi'_old A                    level item: over items
    pi'_old  = max(pi_old, sg(pi)) where A >= 0,  max(pi_old, 1 - sg(pi)) where A < 0        sg: no gradient
    coefficient of A grad log pi: min(r, 1) where A >= 0,  min(r, pi / (1 - pi)) where A < 0

No clip: every sample keeps a gradient, and that of a rejected token is bounded as binary cross-entropy's is.

Level: what pi is the probability of; the paper's analysis is per token. An item's is the product of its tokens', a
slate's that of its items': so small that 1 - pi is about 1 and the coefficient of a rejected slate about pi, next to no
gradient (and none at all below pi = exp(-20), where the exponent is cut). At level slate GBPO learns from rewarded
slates alone.

Where we differ: the advantage is GRPO's group z-score, so that the two differ in their bound alone; RL adds the
divergence from the SFT policy (k3) to the loss, with weight rl.kl. A bound here lessens a gradient and stops none, so
its shares have names of their own.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from stages.core.section import OptimizerSection
from stages.objectives.terms import (
    Loss,
    ScoredSlates,
    bounded_exp,
    bounded_log_denominator,
    bounded_surrogate,
    item_log_probs,
    ratio_range,
    rejected,
    rewarded,
    share,
    summed_advantages,
    token_mean,
)


class Params(OptimizerSection):
    level: Literal["token", "item", "slate"]
    """What the bound is applied to the probability of."""


LEVELS: dict[str, Callable[[Tensor, ScoredSlates], Tensor]] = {
    "token": lambda values, slates: values.masked_fill(~slates.mask, 0.0),
    "item": item_log_probs,
    "slate": lambda values, slates: item_log_probs(values, slates).sum(-1, keepdim=True),
}


def advantages(rewards: Tensor, weights: Tensor, params: Params, divide_by_std: bool) -> Tensor:
    """Group z-score of the weighted sum of the rewards: [B, K, M] -> [B, K]."""
    return summed_advantages(rewards, weights, divide_by_std)


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus the bounded ratio times the advantage, mean over each slate's tokens or items, then over slates."""
    level = LEVELS[params.level]
    current, old = level(slates.log_probs, slates), level(slates.old_log_probs, slates)  # [B, K, T, L or 1]
    mask = slates.mask if params.level == "token" else torch.ones_like(current, dtype=torch.bool)
    advantage = advantage[..., None].expand_as(current)
    bounded = bounded_log_denominator(current, old, advantage) > old
    diagnostics = {
        **ratio_range(bounded_exp(current.detach() - old)[mask]),
        "bounded_rewarded": share(bounded, rewarded(advantage) & mask),
        "bounded_rejected": share(bounded, rejected(advantage) & mask),
    }
    return Loss(-token_mean(bounded_surrogate(current, old, advantage), mask).mean(), diagnostics)
