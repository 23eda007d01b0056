"""GDPO: Group reward-Decoupled Normalization Policy Optimization (arXiv 2601.05242), SAGE's Eq. 7 with GRPO's loss.

    A = Norm_batch( sum_m w_m (R_m - mean_group R_m) / (std_group R_m + eps) )
    J = mean over slates of the mean over tokens of min( r_t A, clip(r_t, 1 - eps_clip, 1 + eps_clip) A )
    r_t = pi(token) / pi_old(token)

Between GRPO and SAGE: from the one it differs in its advantages alone, from the other in its ratio and its bounds.

Where we differ: RL adds the divergence from the SFT policy (k3) to the loss, with weight rl.kl.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from stages.core.section import OptimizerSection
from stages.objectives.terms import Loss, ScoredSlates, decoupled_advantages, token_surrogate_loss


class Params(OptimizerSection):
    eps_clip: Annotated[float, Field(gt=0, lt=1)]
    """Half-width of the symmetric clip of a token's ratio."""


def advantages(rewards: Tensor, weights: Tensor, params: Params, divide_by_std: bool) -> Tensor:
    """Group z-score per objective, weighted sum, z-score over the batch: [B, K, M] -> [B, K]."""
    return decoupled_advantages(rewards, weights, divide_by_std)


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus the clipped surrogate, mean over each slate's tokens, then over slates."""
    return token_surrogate_loss(slates, advantage, params.eps_clip, params.eps_clip)
