"""Advantages, ratios and surrogates: the parts that optimizers are put together from.

Shapes: B users, K slates per user (the group), L items per slate, T tokens per slate, M objectives.
Means over slates are plain means over B x K; means over tokens are taken inside each slate first.
"""

import math
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
    item: Tensor  # [B, K, T] 0 to L - 1: whose token it is, a separator being the item's before it; without token: any
    length: int  # L
    entropy: Tensor  # [B, K] H(S), bits
    entropy_mean: Tensor  # [] running mean of H, bits


class Loss(NamedTuple):
    """What to descend, and what to look at: scalars without gradient, by name."""

    value: Tensor
    diagnostics: dict[str, Tensor]


def group_z_score(values: Tensor, divide: bool = True) -> Tensor:
    """Centre [B, K] inside each user's group and scale it, or only centre it; a group of equal values gives zeros."""
    values = values - values[:, :1]  # or the mean of equal values misses them by a rounding, which STD_FLOOR enlarges
    centred = values - values.mean(1, keepdim=True)
    return centred / (values.std(1, keepdim=True) + STD_FLOOR) if divide else centred


def batch_z_score(values: Tensor) -> Tensor:
    """Centre and scale [B, K] over the whole batch (Norm_batch of Eq. 7)."""
    values = values - values[:1, :1]  # as in the group
    return (values - values.mean()) / (values.std() + STD_FLOOR)


def summed_advantages(rewards: Tensor, weights: Tensor, divide: bool = True) -> Tensor:
    """Weighted sum of the rewards [B, K, M], then a z-score in the group (GRPO, DeepSeekMath Eq. 3): [B, K]."""
    return group_z_score(rewards @ weights, divide)


def decoupled_advantages(rewards: Tensor, weights: Tensor, divide: bool = True) -> Tensor:
    """A z-score per objective in the group, weighted sum, z-score over the batch (SAGE Eq. 7, GDPO): [B, K]."""
    scores = [group_z_score(rewards[..., m], divide) for m in range(rewards.shape[-1])]
    return batch_z_score(torch.stack(scores, -1) @ weights)


def item_log_probs(values: Tensor, slates: ScoredSlates) -> Tensor:
    """Sum log-probabilities of tokens [B, K, T] over each item: [B, K, L]."""
    total = values.new_zeros(*values.shape[:2], slates.length)
    return total.scatter_add(-1, slates.item.where(slates.mask, 0), values.masked_fill(~slates.mask, 0.0))


def slate_mean(values: Tensor, slates: ScoredSlates, norm: str = "item") -> Tensor:
    """Sum of [B, K, T] over each slate's tokens, over L (norm `item`) or over their number (`token`): [B, K]."""
    total = values.masked_fill(~slates.mask, 0.0).sum(-1)
    return total / (slates.length if norm == "item" else slates.mask.sum(-1))


def token_ratio(slates: ScoredSlates) -> Tensor:
    """Ratio pi / pi_old of each token: [B, K, T]; 1 where there is none."""
    return bounded_exp((slates.log_probs - slates.old_log_probs).masked_fill(~slates.mask, 0.0))


def slate_ratio(slates: ScoredSlates, norm: str = "item") -> Tensor:
    """Geometric mean of the ratios in a slate, over items (SAGE Eq. 8) or tokens (GSPO Eq. 7): [B, K]."""
    return bounded_exp(slate_mean(slates.log_probs - slates.old_log_probs, slates, norm))


def bounded_exp(log_ratio: Tensor) -> Tensor:
    """Exp of a log-ratio, kept finite."""
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def clipped_surrogate(
    ratio: Tensor, advantage: Tensor, below: Tensor | float, above: Tensor | float, dual_clip: float | None = None
) -> Tensor:
    """PPO's min(r A, clip(r, 1 - below, 1 + above) A), elementwise on shapes that broadcast.

    dual_clip > 1: where A < 0, at least dual_clip A (Ye et al. 2020, arXiv 1912.09729).
    """
    low, high = (torch.as_tensor(bound, dtype=ratio.dtype, device=ratio.device) for bound in (1 - below, 1 + above))
    if dual_clip is not None:  # max(min(r A, clip(r) A), c A) is the same as r <= c, the clip being below c there
        ratio = torch.where(advantage < 0, ratio.clamp(max=dual_clip), ratio)
    # clamp, unlike minimum and maximum, hands the whole gradient to a ratio exactly on a bound, as at r = 1
    clipped = ratio.clamp(low, high)
    return torch.minimum(ratio * advantage, clipped * advantage)


def token_surrogate_loss(slates: ScoredSlates, advantage: Tensor, below: Tensor | float, above: Tensor | float) -> Loss:
    """Minus the clipped surrogate of each token's ratio, mean over each slate's tokens, then over slates."""
    ratio, per_token = token_ratio(slates), spread(advantage, slates)  # [B, K, T] each
    surrogate = clipped_surrogate(ratio, per_token, below, above)
    diagnostics = ratio_diagnostics(ratio[slates.mask], per_token[slates.mask], below, above)
    return Loss(-token_mean(surrogate, slates.mask).mean(), diagnostics)


def bounded_log_denominator(
    log_probs: Tensor, old_log_probs: Tensor, advantage: Tensor, boost: float = 0.0, penalty: Tensor | float = 1.0
) -> Tensor:
    """Log of GBPO's pi'_old, without gradient, elementwise on shapes that broadcast; relaxed by boost and penalty.

    max(pi_old, pi / (1 + boost)) where A >= 0, max(pi_old, (1 - pi) / penalty) where A < 0.
    """
    current = log_probs.detach()
    relaxed = log_complement(current) - torch.as_tensor(penalty, dtype=current.dtype, device=current.device).log()
    return torch.maximum(old_log_probs, torch.where(advantage >= 0, current - math.log1p(boost), relaxed))


def bounded_surrogate(log_probs: Tensor, old_log_probs: Tensor, advantage: Tensor) -> Tensor:
    """GBPO's pi / pi'_old A, elementwise on shapes that broadcast."""
    return bounded_exp(log_probs - bounded_log_denominator(log_probs, old_log_probs, advantage)) * advantage


def log_complement(log_probs: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, by the form that is accurate on each side of log 1/2."""
    small = log_probs < -math.log(2.0)
    return torch.where(
        small,
        torch.log1p(-log_probs.exp().where(small, 0.0)),
        torch.log((-torch.expm1(log_probs.where(~small, -1.0))).clamp(min=1e-38)),
    )


def spread(advantage: Tensor, slates: ScoredSlates) -> Tensor:
    """Give each token its slate's advantage: [B, K] -> [B, K, T]."""
    return advantage[..., None].expand_as(slates.mask)


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
