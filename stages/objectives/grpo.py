"""GRPO: Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300, Eq. 3).

    A = (R - mean_group R) / (std_group R + eps),  R = sum_m w_m R_m
    J = mean over slates of the mean over tokens of min( r_t A, clip(r_t, 1 - eps_clip, 1 + eps_clip) A )
    r_t = pi(token) / pi_old(token)

Where we differ: the divergence from the SFT policy (k3) is added by RL for every optimizer alike, with weight rl.kl.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from stages.core.sections import Rate, Section
from stages.objectives.terms import (
    Loss,
    ScoredSlates,
    clipped_surrogate,
    ratio_diagnostics,
    summed_advantages,
    token_mean,
    token_ratio,
)


class Params(Section):
    eps_clip: Annotated[float, Field(gt=0, lt=1)]
    """Half-width of the symmetric clip of a token's ratio."""
    lr: Rate | None
    """null: the backbone's rl_lr."""


def advantages(rewards: Tensor, weights: Tensor, params: Params) -> Tensor:
    """Group z-score of the weighted sum of the rewards: [B, K, M] -> [B, K]."""
    return summed_advantages(rewards, weights)


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus the clipped surrogate, mean over each slate's tokens, then over slates."""
    ratio, width = token_ratio(slates), params.eps_clip  # [B, K, T]
    surrogate = clipped_surrogate(ratio, advantage[..., None], width, width)
    diagnostics = ratio_diagnostics(ratio[slates.mask], _per_token(advantage, slates), width, width)
    return Loss(-token_mean(surrogate, slates.mask).mean(), diagnostics)


def _per_token(advantage: Tensor, slates: ScoredSlates) -> Tensor:
    return advantage[..., None].expand_as(slates.mask)[slates.mask]
