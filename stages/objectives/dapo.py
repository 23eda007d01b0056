"""DAPO: Decoupled Clip and Dynamic Sampling Policy Optimization (arXiv 2503.14476, Eq. 8).

    A = (R - mean_group R) / (std_group R + eps),  R = sum_m w_m R_m
    J = 1 / (tokens of the groups below) * sum over their tokens of min( r_t A, clip(r_t, 1 - eps_low, 1 + eps_high) A )
    r_t = pi(token) / pi_old(token),  over groups whose rewards are not all equal; no KL (kl: 0)

Every token of the batch weighs the same, so that a long slate weighs more than a short one.

Where we differ:
- Dynamic sampling: a group without signal is left out of the mean, and RL draws other users in its place, `refills`
  times at most; the paper draws until the batch is full.
- No overlong reward shaping: a slate always has L items.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from stages.core.section import OptimizerSection
from stages.objectives.terms import (
    Loss,
    ScoredSlates,
    clipped_surrogate,
    ratio_diagnostics,
    rejected,
    rewarded,
    spread,
    summed_advantages,
    token_ratio,
)

SEPARABLE = False  # the mean is over the tokens of the whole batch


class Params(OptimizerSection):
    eps_low: Annotated[float, Field(gt=0, lt=1)]
    """How far a rejected token's ratio may fall below 1."""
    eps_high: Annotated[float, Field(gt=0)]
    """How far a rewarded token's ratio may rise above 1."""
    refills: Annotated[int, Field(ge=0)]
    """How often a rollout draws other users in place of groups without signal; read by RL."""


def advantages(rewards: Tensor, weights: Tensor, params: Params, divide_by_std: bool) -> Tensor:
    """Group z-score of the weighted sum of the rewards: [B, K, M] -> [B, K]."""
    return summed_advantages(rewards, weights, divide_by_std)


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus the clipped surrogate, mean over all tokens of all groups with signal; 0 where there is no such group."""
    ratio, per_token, mask = token_ratio(slates), spread(advantage, slates), slates.mask  # [B, K, T] each
    surrogate = clipped_surrogate(ratio, per_token, params.eps_low, params.eps_high)
    signal = (rewarded(advantage) | rejected(advantage)).any(1)  # [B]
    kept = mask & signal[:, None, None]
    diagnostics = ratio_diagnostics(ratio[mask], per_token[mask], params.eps_low, params.eps_high)
    return Loss(-(surrogate * kept).sum() / kept.sum().clamp(min=1), diagnostics)
