"""GBPO: Gradient-Bounded Policy Optimization (OneRec-V2, arXiv 2508.20900), per token.

    J        = mean over slates of the mean over tokens of pi / pi'_old A
    pi'_old  = max(pi_old, sg(pi)) where A >= 0,  max(pi_old, 1 - sg(pi)) where A < 0        sg: no gradient
    coefficient of A grad log pi: min(r, 1) where A >= 0,  min(r, pi / (1 - pi)) where A < 0

No clip: every sample keeps a gradient, and that of a rejected token is bounded as binary cross-entropy's is.

Where we differ: the advantage is GRPO's group z-score, so that the two differ in their bound alone; RL adds rl.kl times
the divergence from the SFT policy to every optimizer's loss. A bound here lessens a gradient and stops none, so its
shares have names of their own.
"""

import math

import torch
from torch import Tensor

from stages.core.sections import Rate, Section
from stages.objectives.terms import (
    Loss,
    ScoredSlates,
    bounded_exp,
    ratio_range,
    rejected,
    rewarded,
    share,
    summed_advantages,
    token_mean,
    token_ratio,
)


class Params(Section):
    lr: Rate | None
    """null: the backbone's rl_lr."""


def advantages(rewards: Tensor, weights: Tensor, params: Params) -> Tensor:
    """Group z-score of the weighted sum of the rewards: [B, K, M] -> [B, K]."""
    return summed_advantages(rewards, weights)


def bounded_log_denominator(log_probs: Tensor, old_log_probs: Tensor, advantage: Tensor) -> Tensor:
    """Log of pi'_old, without gradient, elementwise on shapes that broadcast."""
    current = log_probs.detach()
    bound = torch.where(advantage >= 0, current, _log_complement(current))
    return torch.maximum(old_log_probs, bound)


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus the bounded ratio times the advantage, mean over each slate's tokens, then over slates."""
    per_token = advantage[..., None].expand_as(slates.log_probs)
    denominator = bounded_log_denominator(slates.log_probs, slates.old_log_probs, per_token)
    coefficient = bounded_exp(slates.log_probs - denominator)  # [B, K, T]
    bounded = denominator > slates.old_log_probs
    diagnostics = {
        **ratio_range(token_ratio(slates).detach()[slates.mask]),
        "bounded_rewarded": share(bounded, rewarded(per_token) & slates.mask),
        "bounded_rejected": share(bounded, rejected(per_token) & slates.mask),
    }
    return Loss(-token_mean(coefficient * per_token, slates.mask).mean(), diagnostics)


def _log_complement(log_probs: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, by the form that is accurate on each side of log 1/2."""
    small = log_probs < -math.log(2.0)
    return torch.where(
        small,
        torch.log1p(-log_probs.exp().where(small, 0.0)),
        torch.log((-torch.expm1(log_probs.where(~small, -1.0))).clamp(min=1e-38)),
    )
