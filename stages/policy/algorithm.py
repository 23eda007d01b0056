"""Algorithm 1 of the paper, one step: sample K slates per user, score them, update the policy several times.

Every optimizer runs through here; what differs is its module's `advantages` and `loss`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from stages.corpus.histories import Ints
from stages.objectives.terms import (
    Loss,
    ScoredSlates,
    bounded_surrogate,
    k3_divergence,
    rejected,
    rewarded,
    spread,
    summed_advantages,
    token_mean,
)
from stages.policy import diagnostics
from stages.policy.backbone import Model
from stages.policy.harvest import Harvest
from stages.policy.logprobs import token_log_probs
from stages.policy.processes import gather, own_share, sum_gradients
from stages.policy.task import Experience, Task
from stages.rewards.running_mean import RunningMean


@dataclass(frozen=True)
class Recipe:
    """How a rollout is learnt from; see the section `rl` of params.yaml."""

    updates: int  # passes over a rollout
    minibatches: int  # of a pass, with one optimizer step each
    users_per_pass: int | None  # users whose slates are in memory at once, a micro-batch; null: a minibatch
    divide_by_std: bool
    kl: float
    max_grad_norm: float


@dataclass(frozen=True)
class Batch:
    """A rollout with all that the losses need of it: B users, K slates of T tokens."""

    found: Experience
    advantage: Tensor  # [B, K]
    entropy_mean: Tensor  # [] Hbar, bits
    old: Tensor | None  # [B, K, T] before the first step; None until the first update has said it
    reference: Tensor | None  # [B, K, T] under the SFT policy; None where nothing asks for it


@dataclass
class Learner:
    """A policy in training and its optimizer."""

    model: Model
    reference: Callable[[], AbstractContextManager[Model]]
    """Gives the policy that it started from, frozen; while it is entered the model is not to be used."""
    optimizer: torch.optim.Optimizer
    objective: ModuleType
    objective_params: Any
    task: Task
    recipe: Recipe
    entropy_mean: RunningMean
    accelerator: Accelerator
    harvest: Harvest | None = None

    def step(self, contexts: Ints, spare: Ints, compare: bool, *purpose: int | str) -> dict[str, float]:
        """One rollout and its updates on contexts [B, 2]; returns their diagnostics (`diagnostics.of_rollout`).

        spare [.., 2]: further contexts, for an optimizer that replaces groups without signal. compare: also say how the
        loss's gradient lies to GBPO's, and the divergence from the SFT policy where it has no weight; both cost time.
        purpose: what the draws are for, such as (seed, "slates", step).
        """
        refills = getattr(self.objective_params, "refills", 0)
        found = self.task.rollout(self.model, contexts, spare, refills, *purpose)
        if self.harvest:
            self.harvest.take(found.contexts, found.items)
        entropy = float(found.entropy.mean())
        entropy_mean = self.entropy_mean.start(entropy)
        updates = self._updates(found, entropy_mean, compare)
        self.entropy_mean.update(entropy)
        return {**self.task.described(found), "entropy_mean": entropy_mean, **updates}

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """The weights that learn."""
        return [weight for weight in self.model.parameters() if weight.requires_grad]

    def set_rate(self, share: float) -> None:
        """Set the learning rate to a share of the optimizer's own."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.optimizer.defaults["lr"]

    def _updates(self, found: Experience, entropy_mean: float, compare: bool) -> dict[str, float]:
        """Descend the objective on the minibatches of a rollout, `updates` times.

        pi_old comes from the updates' own forward pass, so that r is exactly 1 before the first step; the sampler's
        log-probabilities, which come from another order of operations, are only compared with it.
        """
        recipe, everyone = self.recipe, np.arange(len(found.contexts))
        minibatches = np.array_split(everyone, min(recipe.minibatches, len(everyone)))
        old = self._scores(self.model, found, minibatches) if len(minibatches) > 1 else None
        reference = None
        if recipe.kl or compare:
            with self.reference() as frozen:
                reference = self._scores(frozen, found, minibatches)
        advantage = self.objective.advantages(
            self._tensor(found.rewards), self._weights(), self.objective_params, recipe.divide_by_std
        )
        batch = Batch(found, advantage, self._tensor(np.array(entropy_mean)), old, reference)
        steps: list[dict[str, Tensor]] = []
        for update in range(recipe.updates):
            for part in minibatches:
                last = update + 1 == recipe.updates and part is minibatches[-1]
                own, log_probs = self._descend(batch, part, compare and last)
                steps.append({name: value.detach().float() for name, value in own.items()})
                if batch.old is None:
                    batch = replace(batch, old=log_probs)
        described = diagnostics.of_rollout(steps, len(minibatches))
        described["no_signal_share"] = 1 - (rewarded(advantage) | rejected(advantage)).any(1).float().mean()
        described["advantage_std"] = advantage.std()
        described["sampler_mismatch"] = (found.slates.log_probs - batch.old).abs().max()
        return dict(zip(described, torch.stack(list(described.values())).tolist(), strict=True))

    def _descend(self, batch: Batch, part: Ints, compare: bool) -> tuple[dict[str, Tensor], Tensor]:
        """One optimizer step on a minibatch of users: diagnostics, and log-probabilities [part, K, T] before the step.

        The users go through the model in passes, whose gradients add up. Where the loss is no mean over slates, the
        whole minibatch is scored first, its gradient taken at the log-probabilities, and every pass repeated with it.
        """
        passes = self._passes(part)
        separable = len(passes) == 1 or getattr(self.objective, "SEPARABLE", True)
        whole = None if separable else self._gradient(batch, part, self._scores(self.model, batch.found, [part]))
        scored = []
        for number, users in own_share(passes, self.accelerator):
            log_probs, entropy = self._log_probs(self.model, batch.found, users)
            scored.append((number, (log_probs.detach(), entropy)))
            if whole is None:
                gradient = self._gradient(batch, users, log_probs.detach()) * (len(users) / len(part))
            else:
                gradient = whole[users - part[0]]
            self.accelerator.backward((log_probs * gradient).sum())
        sum_gradients(self.model.parameters(), self.accelerator)
        before, uncertainty = map(torch.cat, zip(*gather(scored, self.accelerator), strict=True))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm)
        found = dict(self._loss(batch, part, before).diagnostics)
        if batch.reference is not None:
            found["kl"] = self._divergence(batch, part, before)
        if compare:
            held = [weight.grad for weight in self.trained]
            found["gbpo_cosine"] = self._cosine_to_gbpo(batch, part, before)
            for weight, gradient in zip(self.trained, held, strict=True):
                weight.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        tokens = batch.found.slates.real[part].sum()
        return {**found, "gradient_norm": norm, "token_entropy": uncertainty.sum() / tokens}, before

    def _passes(self, part: Ints) -> list[Ints]:
        """The users of a minibatch that are in memory at once: at most `users_per_pass`, and a part per process."""
        passes = -(-len(part) // (self.recipe.users_per_pass or len(part)))
        return np.array_split(part, min(len(part), max(passes, self.accelerator.num_processes)))

    def _log_probs(self, model: Model, found: Experience, users: Ints) -> tuple[Tensor, Tensor]:
        """Log-probability of each token [users, K, T] under a policy, and the entropy of its choice."""
        asked, slates, task = found.prompts.of(users), found.slates.of(users), self.task
        with self.accelerator.autocast():
            return token_log_probs(model, asked, task.space, slates, task.temperature)

    @torch.no_grad()
    def _scores(self, model: Model, found: Experience, parts: list[Ints]) -> Tensor:
        """Log-probabilities without gradient, in the passes of the updates: the same kernels give the same bits."""
        passes = [users for part in parts for users in self._passes(part)]
        own = own_share(passes, self.accelerator)
        done = [(number, self._log_probs(model, found, users)[:1]) for number, users in own]
        return torch.cat([log_probs for (log_probs,) in gather(done, self.accelerator)])

    def _scored(self, batch: Batch, users: Ints, log_probs: Tensor) -> ScoredSlates:
        slates = batch.found.slates.of(users)
        return ScoredSlates(
            log_probs=log_probs,
            old_log_probs=log_probs.detach() if batch.old is None else batch.old[users],
            mask=slates.real,
            item=slates.place,
            length=self.task.asking.slate_length,
            entropy=self._tensor(batch.found.entropy[users]),
            entropy_mean=batch.entropy_mean,
        )

    def _loss(self, batch: Batch, users: Ints, log_probs: Tensor) -> Loss:
        scored = self._scored(batch, users, log_probs)
        found: Loss = self.objective.loss(scored, batch.advantage[users], self.objective_params)
        return found

    def _divergence(self, batch: Batch, users: Ints, log_probs: Tensor) -> Tensor:
        """Mean over slates of the mean over tokens of k3(pi || SFT policy)."""
        assert batch.reference is not None
        k3 = k3_divergence(log_probs, batch.reference[users])
        return token_mean(k3, batch.found.slates.real[users]).mean()

    def _gradient(self, batch: Batch, users: Ints, log_probs: Tensor) -> Tensor:
        """Gradient of the loss, the divergence included, at given log-probabilities [users, K, T]."""
        leaf = log_probs.clone().requires_grad_()
        value = self._loss(batch, users, leaf).value
        if self.recipe.kl:
            value = value + self.recipe.kl * self._divergence(batch, users, leaf)
        return torch.autograd.grad(value, leaf)[0]

    def _cosine_to_gbpo(self, batch: Batch, part: Ints, log_probs: Tensor) -> Tensor:
        """Cosine, over all weights, of the gradients of the loss and of GBPO's (per token) on the same slates."""
        leaf = log_probs.clone().requires_grad_()
        scored = self._scored(batch, part, leaf)
        rewards = self._tensor(batch.found.rewards[part])
        advantage = spread(summed_advantages(rewards, self._weights(), self.recipe.divide_by_std), scored)
        gbpo = -token_mean(bounded_surrogate(leaf, scored.old_log_probs, advantage), scored.mask).mean()
        found = []
        for value in (self._loss(batch, part, leaf).value, gbpo):
            (gradient,) = torch.autograd.grad(value, leaf)
            self.optimizer.zero_grad()
            for _, users in own_share(self._passes(part), self.accelerator):
                own, _ = self._log_probs(self.model, batch.found, users)
                self.accelerator.backward((own * gradient[users - part[0]]).sum())
            sum_gradients(self.trained, self.accelerator)
            found.append(torch.cat([weight.grad.flatten().double() for weight in self.trained]))
        cosine = torch.nn.functional.cosine_similarity(*found, dim=0)
        return cosine.where(found[0].any() & found[1].any(), torch.nan)  # without a gradient there is no angle

    def _weights(self) -> Tensor:
        """w_m of Eq. 7: [M]."""
        return self._tensor(np.array(list(self.task.environment.weights.values())))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.accelerator.device)
