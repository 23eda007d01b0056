"""SAGE: Sequence-level Adaptive Gradient Evolution (arXiv 2601.21452), Algorithm 1.

    r      = exp( 1/L sum_t log pi(i_t) / pi_old(i_t) )                                Eq. 8
    A      = Norm_batch( sum_m w_m (R_m - mean_group R_m) / (std_group R_m + eps) )     Eq. 7
    lambda = 1 + beta tanh( max(0, Hbar - H(S)) )                                       Eq. 6
    J      = mean over slates of min( r A, clip(r, 1 - lo, 1 + hi) A )                  Algorithm 1, lines 19-33
             (lo, hi) = (eps_clip, eps_boost) where A >= 0, (lambda - 1, eps_clip) where A < 0

Two bounds act. Boost: a rewarded slate rises until r = 1 + eps_boost. Floor: a rejected slate falls until
r = 2 - lambda, so one of normal diversity (lambda = 1) stops at r = 1 and one of low diversity is pushed further down.

Two other forms have Eq. 3 as gradient: J = mean of sg(r / Phi) A 1/L sum_t log pi(i_t), sg for stop-gradient, with, for
A >= 0 | for A < 0,
    gradient  Phi = max(1, r / (1 + eps_boost)) | max(1, (1 - pi_g) / (lambda pi_old_g)), as text and Figure 3 mean it:
              GBPO's bound, relaxed, on pi_g, the geometric mean of the items' pi: while that is small, little falls
    literal   Phi = 1 / (1 + eps_boost) if r > 1 + eps_boost, else 1 | max(1, (1 - r) / lambda), as printed (Eq. 4 | 5)

Where we differ, and what follows from the paper as printed:
- eps_clip never acts: with the min, the lower bound for A >= 0 and the upper one for A < 0 cannot bind (tested).
- At r = 1 no bound acts, so one update per rollout is REINFORCE with the advantages of Eq. 7; use two or more.
- r > 1 with A < 0 has no bound; `dual_clip` is one, ours.
- Eq. 4 gives r (1 + eps_boost), where the text keeps it at 1 + eps_boost; Eq. 5 is 1 whatever r is (both tested).
- ratio_norm `token` averages over tokens wherever the above does over items. Hbar's rate is ours: rl.entropy_rate.
- H is in bits, as the measure of the reports; the paper gives no unit, and beta hangs on it.
- RL adds the divergence from the SFT policy (k3) to the loss, with weight rl.kl; the paper gives none.
"""

import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from stages.core.section import NotNegative, OptimizerSection
from stages.objectives import terms
from stages.objectives.terms import Loss, ScoredSlates, rejected, rewarded, share

Terms = tuple[Tensor, dict[str, Tensor]]  # each slate's term of J [B, K], and diagnostics


class Params(OptimizerSection):
    form: Literal["surrogate", "gradient", "literal"]
    """Algorithm 1, or Eq. 3 with the bounds that the text means (gradient) or that Eq. 4 and 5 print (literal)."""
    eps_boost: NotNegative
    """How far a rewarded slate's ratio may rise above 1 (Eq. 4); the paper uses 0.3 out of 0.2 to 0.5."""
    beta: Annotated[float, Field(ge=0, le=1)]
    """Diversity temperature: lambda is at most 1 + beta (Eq. 6)."""
    eps_clip: Annotated[float, Field(ge=0, lt=1)]
    """In Algorithm 1, without effect there."""
    dual_clip: Annotated[float, Field(gt=1)] | None
    """Ratio from which on a rejected slate has no gradient (form surrogate); null: none, as in the paper."""
    ratio_norm: Literal["item", "token"]
    """Eq. 8 averages the log-ratio over items; `token` is GSPO's mean over tokens."""
    decouple: bool
    """Eq. 7; false sums the weighted rewards before the z-score (the ablation of Sec. 4.3)."""

    @model_validator(mode="after")
    def _dual_clip_acts(self) -> Self:
        if self.dual_clip is not None and self.form != "surrogate":
            raise ValueError(f"dual_clip has no effect in form {self.form}; set it to null")
        return self


def advantages(rewards: Tensor, weights: Tensor, params: Params, divide_by_std: bool) -> Tensor:
    """Advantage of each slate (Eq. 7): rewards [B, K, M], weights [M] -> [B, K]."""
    if params.decouple:
        return terms.decoupled_advantages(rewards, weights, divide_by_std)
    return terms.batch_z_score(terms.summed_advantages(rewards, weights, divide_by_std))


def diversity_penalty(entropy: Tensor, entropy_mean: Tensor, params: Params) -> Tensor:
    """Lambda of each slate (Eq. 6): 1 at or above the running mean entropy, up to 1 + beta below it: [B, K]."""
    return 1 + params.beta * torch.tanh(torch.relu(entropy_mean - entropy))


def clip_widths(advantage: Tensor, penalty: Tensor, params: Params) -> tuple[Tensor, Tensor]:
    """How far each slate's ratio may fall below and rise above 1 (Algorithm 1, lines 19-28): [B, K] each."""
    unused, boost = (torch.full_like(penalty, width) for width in (params.eps_clip, params.eps_boost))
    return torch.where(advantage >= 0, unused, penalty - 1), torch.where(advantage >= 0, boost, unused)


def log_phi(current: Tensor, old: Tensor, advantage: Tensor, penalty: Tensor, params: Params) -> Tensor:
    """Log of Phi from each slate's mean log-probability now and before, without gradient: [B, K] each."""
    if params.form == "gradient":
        return terms.bounded_log_denominator(current, old, advantage, params.eps_boost, penalty) - old
    ratio = terms.bounded_exp(current.detach() - old)
    boosted = torch.full_like(ratio, -math.log1p(params.eps_boost)).where(ratio > 1 + params.eps_boost, 0.0)
    return torch.where(advantage >= 0, boosted, ((1 - ratio) / penalty).clamp(min=1).log())


def loss(slates: ScoredSlates, advantage: Tensor, params: Params) -> Loss:
    """Minus the objective of the chosen form, mean over all slates."""
    penalty = diversity_penalty(slates.entropy, slates.entropy_mean, params)
    value, diagnostics = (_algorithm_1 if params.form == "surrogate" else _eq_3)(slates, advantage, penalty, params)
    return Loss(-value.mean(), {**diagnostics, "lambda_mean": penalty.mean()})


def _algorithm_1(slates: ScoredSlates, advantage: Tensor, penalty: Tensor, params: Params) -> Terms:
    ratio, (below, above) = terms.slate_ratio(slates, params.ratio_norm), clip_widths(advantage, penalty, params)
    diagnostics = terms.ratio_diagnostics(ratio, advantage, below, above)
    at_floor = ratio.detach() < 2 - penalty
    diagnostics["at_floor_low_diversity"] = share(at_floor, rejected(advantage) & (penalty > 1))
    diagnostics["at_floor_usual_diversity"] = share(at_floor, rejected(advantage) & (penalty == 1))
    if params.dual_clip is not None:
        diagnostics["at_dual_clip"] = share(ratio.detach() > params.dual_clip, rejected(advantage))
    return terms.clipped_surrogate(ratio, advantage, below, above, params.dual_clip), diagnostics


def _eq_3(slates: ScoredSlates, advantage: Tensor, penalty: Tensor, params: Params) -> Terms:
    both = (slates.log_probs, slates.old_log_probs)
    current, old = (terms.slate_mean(values, slates, params.ratio_norm) for values in both)  # [B, K] each
    log_ratio, log_bound = current.detach() - old, log_phi(current, old, advantage, penalty, params)
    diagnostics = terms.ratio_range(terms.bounded_exp(log_ratio))
    diagnostics["bounded_rewarded"] = share(log_bound > 0, rewarded(advantage))
    diagnostics["bounded_rejected"] = share(log_bound > 0, rejected(advantage))
    diagnostics["amplified_rewarded"] = share(log_bound < 0, rewarded(advantage))  # form literal
    return terms.bounded_exp(log_ratio - log_bound) * advantage * current, diagnostics
