"""Every optimizer and form with constants that no ratio of a test lies on, and slates to try them on.

Shapes: B users, K slates, L items, T tokens. The coefficient of a slate is what multiplies A grad log pi.
"""

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.objectives import bapo, dapo, gbpo, gdpo, grpo, gspo, ppo, sage
from stages.objectives.terms import ScoredSlates

OWN = {"lr": None, "kl": None}
PPO, GRPO, GDPO = (module.Params(eps_clip=0.25, **OWN) for module in (ppo, grpo, gdpo))
DAPO = dapo.Params(eps_low=0.25, eps_high=0.28, refills=0, **OWN)
GSPO = gspo.Params(eps_low=3e-4, eps_high=4e-4, **OWN)
GBPO = gbpo.Params(level="token", **OWN)
BAPO = bapo.Params(
    rho_0=0.4, c_high_min=1.25, c_high_max=3.0, c_high_step=0.05, c_low_min=0.6, c_low_max=0.9, c_low_step=0.02, **OWN
)
SAGE = sage.Params(
    form="surrogate", eps_boost=0.3, beta=0.5, eps_clip=0.2, dual_clip=None, ratio_norm="item", decouple=True, **OWN
)
LOW = math.atanh(0.5)  # H = Hbar - LOW gives lambda = 1 + 0.5 * 0.5 = 1.25


def changed(params: Any, **values: Any) -> Any:
    return params.model_copy(update=values)


CASES: dict[str, tuple[ModuleType, Any]] = {
    "ppo": (ppo, PPO),
    "grpo": (grpo, GRPO),
    "gdpo": (gdpo, GDPO),
    "dapo": (dapo, DAPO),
    "gspo": (gspo, GSPO),
    "bapo": (bapo, BAPO),
    "gbpo": (gbpo, GBPO),
    "gbpo-item": (gbpo, changed(GBPO, level="item")),
    "gbpo-slate": (gbpo, changed(GBPO, level="slate")),
    "sage": (sage, SAGE),
    "sage-token": (sage, changed(SAGE, ratio_norm="token")),
    "sage-dual": (sage, changed(SAGE, dual_clip=3.0)),
    "sage-gradient": (sage, changed(SAGE, form="gradient")),
    "sage-gradient-token": (sage, changed(SAGE, form="gradient", ratio_norm="token")),
    "sage-literal": (sage, changed(SAGE, form="literal")),
}
OBJECTIVES = pytest.mark.parametrize(("objective", "params"), CASES.values(), ids=CASES)


def scored(
    old: Tensor,
    log_ratio: Tensor,
    mask: Tensor | None = None,
    length: int = 1,
    item: Tensor | None = None,
    **entropy: Tensor,
) -> ScoredSlates:
    """Slates [B, K, T] whose current policy is a leaf with gradient.

    All items have equally many tokens and H = Hbar unless given.
    """
    current = (old + log_ratio).requires_grad_()
    mask = torch.ones_like(old, dtype=torch.bool) if mask is None else mask
    item = (torch.arange(old.shape[-1]) * length // old.shape[-1]).expand(old.shape) if item is None else item
    own = entropy.get("entropy", torch.full(old.shape[:2], 2.0, dtype=old.dtype))
    return ScoredSlates(current, old, mask, item, length, own, entropy.get("entropy_mean", torch.tensor(2.0).to(old)))


def descend(objective: ModuleType, params: Any, slates: ScoredSlates, advantage: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient on the log-probabilities."""
    value = objective.loss(slates, advantage, params).value
    (gradient,) = torch.autograd.grad(value, slates.log_probs)
    return value.detach(), gradient


def coefficient(
    objective: ModuleType, params: Any, ratio: float, sign: float, old: float = 0.01, lower_entropy: float = 0.0
) -> float:
    """Coefficient of A grad log pi of one slate of one token, by autograd."""
    previous = torch.tensor([[[math.log(old)]]], dtype=torch.float64)
    entropy = torch.full((1, 1), 2.0 - lower_entropy, dtype=torch.float64)
    slates = scored(previous, torch.full_like(previous, math.log(ratio)), entropy=entropy)
    _, gradient = descend(objective, params, slates, torch.full((1, 1), sign, dtype=torch.float64))
    return -float(gradient) / sign


def random_slates(
    seed: int, users: int = 4, group: int = 6, tokens: int = 6, spread: float = 0.4, ragged: bool = False
) -> tuple[ScoredSlates, Tensor]:
    """Slates of 2 items whose ratios and entropies lie on both sides of every bound, with advantages.

    ragged: in some slates the first item has a token more; the second has from 1 token to all that are left.
    """
    generator = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(users, group, tokens, generator=generator) - 0.05
    log_ratio = (spread * torch.randn(old.shape, generator=generator)).minimum(-old - 0.01)  # pi stays below 1
    entropy = 1 + 2 * torch.rand(users, group, generator=generator)
    advantage = torch.randn(users, group, generator=generator)
    mask = item = None
    if ragged:
        position = torch.arange(tokens).expand(old.shape)
        first = tokens // 2 + torch.randint(0, 2, (users, group, 1), generator=generator)
        mask = position <= torch.maximum(first, torch.randint(0, tokens, (users, group, 1), generator=generator))
        item = (position >= first).long()
    return scored(old, log_ratio, mask, 2, item, entropy=entropy), advantage


def with_parts(slates: ScoredSlates, pick: Any) -> ScoredSlates:
    """The same slates after `pick` on every tensor, with a fresh leaf."""
    return ScoredSlates(
        pick(slates.log_probs.detach()).requires_grad_(),
        pick(slates.old_log_probs),
        pick(slates.mask),
        pick(slates.item),
        slates.length,
        pick(slates.entropy),
        slates.entropy_mean,
    )
