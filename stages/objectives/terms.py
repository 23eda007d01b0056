"""Advantages, ratios and surrogates: the parts that optimizers are put together from.

Shapes: B users, K slates per user (the group), L items per slate, T tokens per slate, M objectives.
Means over slates are plain means over B x K; means over tokens are taken inside each slate first.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

STD_FLOOR = 1e-4  # added to every standard deviation, as TRL and GDPO's code do
SIGNAL = 1e-6  # advantages nearer to 0 are a group of equal rewards, rounded
LOG_RATIO_LIMIT = 20.0  # exp(20) is a ratio of 5e8: only a run that has diverged goes beyond it


@dataclass(frozen=True)
class ScoredSlates:
    """Sampled slates under the policy that is trained and the one that sampled them."""

    log_probs: Tensor  # [B, K, T] of the current policy, with gradient
    old_log_probs: Tensor  # [B, K, T] of the policy before the first update on these slates
    mask: Tensor  # [B, K, T] True where there is a token
    length: int  # L
    entropy: Tensor  # [B, K] H(S), bits
    entropy_mean: Tensor  # [] running mean of H, bits


class Loss(NamedTuple):
    """What to descend, and what to look at: scalars without gradient, by name."""

    value: Tensor
    diagnostics: dict[str, Tensor]


def group_z_score(values: Tensor) -> Tensor:
    """Centre and scale [B, K] inside each user's group; a group of equal values gives zeros, up to rounding."""
    return (values - values.mean(1, keepdim=True)) / (values.std(1, keepdim=True) + STD_FLOOR)


def summed_advantages(rewards: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the rewards [B, K, M], then a z-score in the group (GRPO, DeepSeekMath Eq. 3): [B, K]."""
    return group_z_score(rewards @ weights)


def decoupled_advantages(rewards: Tensor, weights: Tensor) -> Tensor:
    """A z-score per objective in the group, weighted sum, z-score over the batch (SAGE Eq. 7, GDPO): [B, K]."""
    total = torch.stack([group_z_score(rewards[..., m]) for m in range(rewards.shape[-1])], -1) @ weights
    return batch_z_score(total)


def batch_z_score(values: Tensor) -> Tensor:
    """Centre and scale [B, K] over the whole batch (Norm_batch of Eq. 7)."""
    return (values - values.mean()) / (values.std() + STD_FLOOR)


def token_ratio(slates: ScoredSlates) -> Tensor:
    """Ratio pi / pi_old of each token: [B, K, T]; 1 where there is none."""
    return bounded_exp((slates.log_probs - slates.old_log_probs).masked_fill(~slates.mask, 0.0))


def slate_ratio(slates: ScoredSlates, norm: str = "item") -> Tensor:
    """Geometric mean of the ratios in a slate (SAGE Eq. 8): [B, K].

    norm `item` divides the summed log-ratio by L, as Eq. 8 does; `token` by the slate's tokens (GSPO).
    """
    log_ratio = (slates.log_probs - slates.old_log_probs).masked_fill(~slates.mask, 0.0).sum(-1)
    return bounded_exp(log_ratio / (slates.length if norm == "item" else slates.mask.sum(-1)))


def bounded_exp(log_ratio: Tensor) -> Tensor:
    """Exp of a log-ratio, kept finite."""
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def clipped_surrogate(ratio: Tensor, advantage: Tensor, below: Tensor | float, above: Tensor | float) -> Tensor:
    """PPO's min(r A, clip(r, 1 - below, 1 + above) A), elementwise on shapes that broadcast."""
    low, high = (torch.as_tensor(bound).to(ratio) for bound in (1 - below, 1 + above))
    # clamp, unlike minimum and maximum, hands the whole gradient to a ratio exactly on a bound, as at r = 1
    clipped = ratio.clamp(low, high)
    return torch.minimum(ratio * advantage, clipped * advantage)


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of [B, K, T] over each slate's tokens: [B, K]."""
    return (values * mask).sum(-1) / mask.sum(-1)


def k3_divergence(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(pi || reference) per token: exp(d) - d - 1 with d = reference - log_probs."""
    difference = (reference - log_probs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return difference.exp() - difference - 1


def share(event: Tensor, among: Tensor) -> Tensor:
    """Share of the cases `among` in which `event` holds; 0 where there is no case."""
    return (event & among).sum() / among.sum().clamp(min=1)


def ratio_diagnostics(
    ratio: Tensor, advantage: Tensor, below: Tensor | float, above: Tensor | float
) -> dict[str, Tensor]:
    """The ratio's range, and the shares of rewarded and of rejected cases whose gradient a bound has stopped.

    All arguments broadcast to the shape of `ratio`; below and above are the widths that act: above where A > 0, below
    where A < 0.
    """
    ratio, advantage = ratio.detach(), advantage.expand_as(ratio)
    return {
        **ratio_range(ratio),
        "at_upper_bound": share(ratio > 1 + above, rewarded(advantage)),
        "at_lower_bound": share(ratio < 1 - below, rejected(advantage)),
    }


def ratio_range(ratio: Tensor) -> dict[str, Tensor]:
    """Mean, extremes and 5% and 95% quantiles of a ratio."""
    low, high = torch.quantile(ratio.flatten().float(), torch.tensor([0.05, 0.95], device=ratio.device))
    return {
        "ratio_mean": ratio.mean(),
        "ratio_min": ratio.min(),
        "ratio_q05": low,
        "ratio_q95": high,
        "ratio_max": ratio.max(),
    }


def rewarded(advantage: Tensor) -> Tensor:
    """Where the advantage is above 0 by more than rounding: a group without signal counts on neither side."""
    return advantage > SIGNAL


def rejected(advantage: Tensor) -> Tensor:
    """Where the advantage is below 0 by more than rounding."""
    return advantage < -SIGNAL
