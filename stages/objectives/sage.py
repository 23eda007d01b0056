"""SAGE: Sequence-level Adaptive Gradient Evolution (arXiv 2601.21452), Algorithm 1.

    r      = exp( 1/L sum_t log pi(i_t) / pi_old(i_t) )                                Eq. 8
    A      = Norm_batch( sum_m w_m (R_m - mean_group R_m) / (std_group R_m + eps) )     Eq. 7
    lambda = 1 + beta tanh( max(0, Hbar - H(S)) )                                       Eq. 6
    J      = mean over slates of min( r A, clip(r, 1 - lo, 1 + hi) A )                  Algorithm 1, lines 19-33
             (lo, hi) = (eps_clip, eps_boost) where A >= 0, (lambda - 1, eps_clip) where A < 0

Two bounds act. Boost: a rewarded slate rises until r = 1 + eps_boost. Floor: a rejected slate falls until
r = 2 - lambda, so one of normal diversity (lambda = 1) stops at r = 1 and one of low diversity is pushed further down.

Where we differ, and what follows from the paper as printed:
- eps_clip never acts: with the min, the lower bound for A >= 0 and the upper one for A < 0 cannot bind (tested).
- At r = 1 no bound acts, so one update per rollout is REINFORCE with the advantages of Eq. 7; use two or more.
- r > 1 with A < 0 has no bound.
- Eq. 3 to 5 print another update than Algorithm 1 (and Eq. 5 never acts); this is Algorithm 1.
- The rate of Hbar's moving average is not given: rl.entropy_rate.
- RL adds rl.kl times the divergence from the SFT policy to every optimizer's loss; the paper gives none.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from stages.core.sections import Rate, Section
from stages.objectives.terms import (
    Loss,
    ScoredSlates,
    batch_z_score,
    clipped_surrogate,
    decoupled_advantages,
    ratio_diagnostics,
    rejected,
    share,
    slate_ratio,
    summed_advantages,
)


class Params(Section):
    eps_boost: Annotated[float, Field(ge=0)]
    """How far a rewarded slate's ratio may rise above 1 (Eq. 4); the paper uses 0.3 out of 0.2 to 0.5."""
    beta: Annotated[float, Field(ge=0, le=1)]
    """Diversity temperature: lambda is at most 1 + beta (Eq. 6)."""
    eps_clip: Annotated[float, Field(ge=0, lt=1)]
    """In Algorithm 1, without effect there."""
    ratio_norm: Literal["item", "token"]
    """Eq. 8 averages the log-ratio over items; `token` is GSPO's mean over tokens."""
    decouple: bool
    """Eq. 7; false sums the weighted rewards before the z-score (the ablation of Sec. 4.3)."""
    lr: Rate | None
    """null: the backbone's rl_lr."""


def advantages(rewards: Tensor, weights: Tensor, params: Params) -> Tensor:
    """Advantage of each slate (Eq. 7): rewards [B, K, M], weights [M] -> [B, K]."""
    if params.decouple:
        return decoupled_advantages(rewards, weights)
    return batch_z_score(summed_advantages(rewards, weights))


def diversity_penalty(entropy: Tensor, entropy_mean: Tensor, params: Params) -> Tensor:
    """Lambda of each slate (Eq. 6): 1 at or above the running mean entropy, up to 1 + beta below it: [B, K]."""
    return 1 + params.beta * torch.tanh(torch.relu(entropy_mean - entropy))


def clip_widths(advantage: Tensor, penalty: Tensor, params: Params) -> tuple[Tensor, Tensor]:
    """How far each slate's ratio may fall below and rise above 1 (Algorithm 1, lines 19-28): [B, K] each."""
    rewarded = advantage >= 0
    below = torch.where(rewarded, params.eps_clip, penalty - 1)
    above = torch.where(rewarded, params.eps_boost, params.eps_clip)
    return below, above


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus Algorithm 1's surrogate, mean over all slates."""
    ratio = slate_ratio(slates, params.ratio_norm)  # [B, K]
    penalty = diversity_penalty(slates.entropy, slates.entropy_mean, params)
    below, above = clip_widths(advantage, penalty, params)
    diagnostics = ratio_diagnostics(ratio, advantage, below, above)
    low_diversity = rejected(advantage) & (penalty > 1)
    diagnostics["at_floor_low_diversity"] = share(ratio.detach() < 2 - penalty, low_diversity)
    diagnostics["lambda_mean"] = penalty.mean()
    return Loss(-clipped_surrogate(ratio, advantage, below, above).mean(), diagnostics)
