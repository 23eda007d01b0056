"""PPO: Proximal Policy Optimization with a clipped surrogate (arXiv 1707.06347, Eq. 7), without a critic.

    A = (R - mean_batch R) / (std_batch R + eps),  R = sum_m w_m R_m
    J = mean over slates of the mean over tokens of min( r_t A, clip(r_t, 1 - eps_clip, 1 + eps_clip) A )
    r_t = pi(token) / pi_old(token)

Where we differ:
- No critic and no GAE: a slate has one reward, at its end, and the baseline is the batch mean. So a user whose slates
  all earn alike still has a signal, which a group's mean would take away.
- rl.divide_by_std, about the group's standard deviation, has nothing to act on.
- RL adds the divergence from the SFT policy (k3) to the loss, with weight rl.kl.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from stages.core.section import OptimizerSection
from stages.objectives.terms import Loss, ScoredSlates, batch_z_score, token_surrogate_loss


class Params(OptimizerSection):
    eps_clip: Annotated[float, Field(gt=0, lt=1)]
    """Half-width of the symmetric clip of a token's ratio."""


def advantages(rewards: Tensor, weights: Tensor, params: Params, divide_by_std: bool) -> Tensor:
    """Weighted sum of the rewards, centred and scaled over the batch: [B, K, M] -> [B, K]."""
    return batch_z_score(rewards @ weights)


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus the clipped surrogate, mean over each slate's tokens, then over slates."""
    return token_surrogate_loss(slates, advantage, params.eps_clip, params.eps_clip)
