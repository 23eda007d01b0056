"""BAPO: Balanced Policy Optimization with Adaptive Clipping (arXiv 2510.18927, Algorithm 1, Eq. 8).

    A   = (R - mean_group R) / (std_group R + eps),  R = sum_m w_m R_m
    J   = mean over slates of the mean over tokens of min( r_t A, clip(r_t, c_low, c_high) A )
    rho = sum over tokens with A > 0 of |min(..)| / sum over all tokens of |min(..)|                     Eq. 8
    per update: c_high rises from 1.2 to 3.0 by .05, then c_low from .6 to .9 by .02, until rho >= rho_0

c_high rises to let rewarded tokens in: where A > 0, |min(..)| = min(r, c_high) A, so rho rises with it. c_low rises,
and so narrows the clip, to shut rejected tokens out: those with r < c_low get no gradient. But where A < 0, |min(..)|
is max(r, c_low) |A|, so rho as printed falls or stays when c_low rises (tested), and that half of the search never ends
early: a batch whose rho is below rho_0 at c_high = 3.0 is updated with c_low = .9.

Where we differ:
- Eq. 8 weighs each token by pi_old, although it was sampled from pi_old; here, as in the authors' code, it does not.
- The bounds belong to a batch: a batch that is split takes other ones.
- RL adds the divergence from the SFT policy (k3) to the loss, with weight rl.kl.
"""

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from stages.core.section import OptimizerSection, Share
from stages.objectives.terms import Loss, ScoredSlates, spread, summed_advantages, token_ratio, token_surrogate_loss

High = Annotated[float, Field(ge=1)]
Step = Annotated[float, Field(gt=0)]

SEPARABLE = False  # the bounds are found on the whole batch


class Params(OptimizerSection):
    rho_0: Share
    """Share of the surrogate that rewarded tokens shall have."""
    c_high_min: High
    """First upper bound of a token's ratio (a+)."""
    c_high_max: High
    """Last one (b+)."""
    c_high_step: Step
    """Delta_1."""
    c_low_min: Share
    """First lower bound of a token's ratio (a-)."""
    c_low_max: Share
    """Last one (b-)."""
    c_low_step: Step
    """Delta_2."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.c_high_min > self.c_high_max or self.c_low_min > self.c_low_max:
            raise ValueError("c_high_min and c_low_min may not be above c_high_max and c_low_max")
        return self


def advantages(rewards: Tensor, weights: Tensor, params: Params, divide_by_std: bool) -> Tensor:
    """Group z-score of the weighted sum of the rewards: [B, K, M] -> [B, K]."""
    return summed_advantages(rewards, weights, divide_by_std)


def balanced_bounds(ratio: Tensor, advantage: Tensor, params: Params) -> dict[str, Tensor]:
    """c_low and c_high that the search ends at, and the positive_share (rho) there: of tokens [N], a scalar each.

    Every bound is tried and the first pair that suffices is picked at the end, so that no step waits for the device.
    """
    highs = _steps(params.c_high_min, params.c_high_max, params.c_high_step, ratio)
    lows = _steps(params.c_low_min, params.c_low_max, params.c_low_step, ratio)
    positive = torch.stack([(ratio.clamp(max=high) * advantage.clamp(min=0)).sum() for high in highs.unbind()])
    negative = torch.stack([(ratio.clamp(min=low) * -advantage.clamp(max=0)).sum() for low in lows.unbind()])
    c_high, c_low = _one_after_the_other(highs, lows)
    positive, negative = _one_after_the_other(positive, negative)
    reached = positive >= params.rho_0 * (positive + negative)
    reached[-1] = True  # the end of the range
    first = reached.int().argmax()
    rho = positive / (positive + negative).clamp(min=torch.finfo(ratio.dtype).tiny)
    return {name: way.take(first) for name, way in (("c_low", c_low), ("c_high", c_high), ("positive_share", rho))}


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus the surrogate with the bounds of this batch, mean over each slate's tokens, then over slates."""
    mask = slates.mask
    found = balanced_bounds(token_ratio(slates).detach()[mask], spread(advantage, slates)[mask], params)
    value, diagnostics = token_surrogate_loss(slates, advantage, 1 - found["c_low"], found["c_high"] - 1)
    return Loss(value, {**diagnostics, **found})


def _steps(start: float, end: float, step: float, like: Tensor) -> Tensor:
    count = int((end - start) / step + 1e-6) + 1
    return start + step * torch.arange(count, dtype=like.dtype, device=like.device)


def _one_after_the_other(high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """What c_high and c_low give along the way: first c_high moves, then c_low."""
    return torch.cat([high, high[-1:].expand(len(low) - 1)]), torch.cat([low[:1].expand(len(high)), low[1:]])
