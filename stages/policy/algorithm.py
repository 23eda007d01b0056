"""Algorithm 1 of the paper, one step: sample K slates per user, score them, update the policy several times.

Every optimizer runs through here; what differs is its module's `advantages` and `loss`.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace, Prompts, prompts
from stages.corpus.histories import Ints
from stages.objectives.terms import ScoredSlates, k3_divergence, token_mean
from stages.policy.logprobs import slate_log_probs
from stages.policy.rollout import Slates, sample_slates
from stages.rewards.environment import LoggedFeedback
from stages.rewards.running_mean import RunningMean


@dataclass(frozen=True)
class Recipe:
    """What all optimizers share; see the section `rl` of params.yaml."""

    label: str
    history_items: int
    exclude_seen: bool
    slate_length: int  # L
    group_size: int  # K
    updates: int  # per rollout
    temperature: float
    kl: float
    divide_by_std: bool
    max_grad_norm: float


@dataclass
class Learner:
    """A policy in training, the policy that it started from, and its optimizer."""

    model: PreTrainedModel
    reference: PreTrainedModel
    optimizer: torch.optim.Optimizer
    objective: ModuleType
    objective_params: Any
    space: ActionSpace
    environment: LoggedFeedback
    recipe: Recipe
    entropy_mean: RunningMean
    accelerator: Accelerator

    def prompts(self, contexts: Ints) -> Prompts:
        """Prompts of contexts [B, 2], on the device."""
        recipe = self.recipe
        items = self.environment.items_before(contexts)
        return prompts(self.space, items, recipe.history_items, recipe.label, recipe.exclude_seen).to(
            self.accelerator.device
        )

    def step(self, contexts: Ints, generator: torch.Generator) -> dict[str, float]:
        """One rollout and its updates on contexts [B, 2]; returns the diagnostics of the last update."""
        recipe, asked = self.recipe, self.prompts(contexts)
        slates = sample_slates(
            self.model, asked, self.space.trie, recipe.group_size, recipe.slate_length, recipe.temperature, generator
        )
        items = slates.items.cpu().numpy()
        earned, entropy = self.environment.rewards(contexts, items), self.environment.entropy(items)
        entropy_mean = self.entropy_mean.start(float(entropy.mean()))
        rewards = self._tensor(earned)  # [B, K, M]
        weights = self._tensor(np.array(list(self.environment.weights.values())))
        advantage = self.objective.advantages(rewards, weights, self.objective_params, recipe.divide_by_std)  # [B, K]
        with torch.no_grad(), self.accelerator.autocast():
            reference, _ = slate_log_probs(self.reference, asked, slates.tokens, slates.allowed, recipe.temperature)
        diversity = self._tensor(entropy), self._tensor(np.array(entropy_mean))
        updates = self._updates(asked, slates, advantage, diversity, reference)
        self.entropy_mean.update(float(entropy.mean()))
        return {
            **{f"reward_{name}": earned[..., m].mean() for m, name in enumerate(self.environment.weights)},
            "reward": self.environment.weighted(earned).mean(),
            "no_signal_share": float((np.ptp(self.environment.weighted(earned), axis=1) == 0).mean()),
            "advantage_std": float(advantage.std()),
            "entropy": entropy.mean(),
            "entropy_mean": entropy_mean,
            "invalid_share": float((items < 0).mean()),
            "distinct_items": len(np.unique(items)),
            **updates,
        }

    def _updates(
        self, asked: Prompts, slates: Slates, advantage: Tensor, diversity: tuple[Tensor, Tensor], reference: Tensor
    ) -> dict[str, float]:
        """Descend the objective `updates` times on the same slates.

        pi_old is the first update's own forward pass, so that r is exactly 1 there; the sampler's log-probabilities,
        which come from another order of operations, are only compared with it.
        """
        recipe, old, mask = self.recipe, None, torch.ones_like(slates.tokens, dtype=torch.bool)
        item = torch.arange(mask.shape[-1], device=mask.device).div(self.space.trie.depth, rounding_mode="floor")
        for _ in range(recipe.updates):
            with self.accelerator.autocast():
                log_probs, entropy = slate_log_probs(
                    self.model, asked, slates.tokens, slates.allowed, recipe.temperature
                )
            old = log_probs.detach() if old is None else old
            scored = ScoredSlates(log_probs, old, mask, item.expand_as(mask), recipe.slate_length, *diversity)
            value, diagnostics = self.objective.loss(scored, advantage, self.objective_params)
            divergence = token_mean(k3_divergence(log_probs, reference), mask).mean()
            self.accelerator.backward(value + recipe.kl * divergence)
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        found = {
            **diagnostics,
            "kl": divergence.detach(),
            "token_entropy": entropy.mean(),
            "gradient_norm": norm,
            "sampler_mismatch": (slates.log_probs - old).abs().max(),
        }
        return dict(zip(found, torch.stack([value.float() for value in found.values()]).tolist(), strict=True))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.accelerator.device)
