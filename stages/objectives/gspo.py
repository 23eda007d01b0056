"""GSPO: Group Sequence Policy Optimization (arXiv 2507.18071, Eq. 5 to 7).

    A = (R - mean_group R) / (std_group R + eps),  R = sum_m w_m R_m
    J = mean over slates of min( s A, clip(s, 1 - eps_low, 1 + eps_high) A )
    s = exp( mean over the slate's tokens of log pi(token) / pi_old(token) )

A mean over tokens of one slate's log-ratios hardly moves, hence bounds 500 times narrower than GRPO's.

Where we differ: in nothing that the paper states. Its equations leave the KL term out, so kl is 0 in params.yaml.
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
    slate_ratio,
    summed_advantages,
)


class Params(OptimizerSection):
    eps_low: Annotated[float, Field(gt=0, lt=1)]
    """How far a rejected slate's ratio may fall below 1."""
    eps_high: Annotated[float, Field(gt=0)]
    """How far a rewarded slate's ratio may rise above 1."""


def advantages(rewards: Tensor, weights: Tensor, params: Params, divide_by_std: bool) -> Tensor:
    """Group z-score of the weighted sum of the rewards: [B, K, M] -> [B, K]."""
    return summed_advantages(rewards, weights, divide_by_std)


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus the clipped surrogate of each slate's ratio, mean over slates."""
    ratio = slate_ratio(slates, "token")  # [B, K]
    surrogate = clipped_surrogate(ratio, advantage, params.eps_low, params.eps_high)
    return Loss(-surrogate.mean(), ratio_diagnostics(ratio, advantage, params.eps_low, params.eps_high))
