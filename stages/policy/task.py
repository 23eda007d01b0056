"""What a policy is asked in RL, and what it earns: prompts of contexts, slates of the policy, rewards from the log."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace, Asking, Prompts, Slates, joined
from stages.corpus.histories import Ints
from stages.policy.diagnostics import AND, CORRELATION
from stages.policy.noise import keys_of
from stages.policy.processes import gather, own_share
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from stages.rewards.environment import Rewards
from stages.rewards.feedback import Floats


@dataclass(frozen=True)
class Experience:
    """K slates for each of B users, and what they earned by M objectives."""

    contexts: Ints  # [B, 2]
    prompts: Prompts
    slates: Slates
    items: Ints  # [B, K, L] of the slates, as they count: an item that stands further up is -1 as well
    rewards: Floats  # [B, K, M]
    total: Floats  # [B, K] weighted mean of the rewards
    entropy: Floats  # [B, K] H(S), bits

    @property
    def silent(self) -> Ints:
        """Users whose slates all earned the same in total: DAPO has no use for them."""
        return np.flatnonzero(np.ptp(self.total, axis=1) == 0)


@dataclass(frozen=True)
class Task:
    """An action space, an environment, and how slates are asked for; see the section `rl` of params.yaml."""

    space: ActionSpace
    environment: Rewards
    asking: Asking
    group_size: int  # K
    temperature: float
    accelerator: Accelerator

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.accelerator.device

    def prompts(self, contexts: Ints) -> Prompts:
        """Prompts of contexts [B, 2], on the device."""
        return self.space.prompts(contexts, self.asking).to(self.device)

    def sample(
        self, model: PreTrainedModel, contexts: Ints, temperatures: Sequence[float], *purpose: int | str
    ) -> Experience:
        """Slates of a policy for contexts [B, 2], one per temperature, and what they earn.

        purpose: what the draws are for, such as (seed, "slates", step); with the context it decides them.
        """
        asked, keys = self.prompts(contexts), keys_of(contexts, *purpose).to(self.device)
        parts = np.array_split(np.arange(len(contexts)), min(self.accelerator.num_processes, len(contexts)))
        done = [
            (
                number,
                sample_slates(
                    Reading(model, asked.of(part)), self.space, temperatures, self.asking.slate_length, keys[part]
                ),
            )
            for number, part in own_share(parts, self.accelerator)
        ]
        found = joined([Slates(*parts) for parts in gather(done, self.accelerator)])
        items = without_repeats(found.items.cpu().numpy())
        rewards = self.environment.rewards(contexts, items)
        return Experience(
            contexts, asked, found, items, rewards, self.environment.weighted(rewards), self.environment.entropy(items)
        )

    def rollout(
        self, model: PreTrainedModel, contexts: Ints, spare: Ints, refills: int, *purpose: int | str
    ) -> Experience:
        """K slates for each context; groups without signal make way for spare contexts, `refills` times at most."""
        temperatures = [self.temperature] * self.group_size
        found = self.sample(model, contexts, temperatures, *purpose)
        for _ in range(refills):
            silent = found.silent[: len(spare)]
            if not len(silent):
                break
            fresh = self.sample(model, spare[: len(silent)], temperatures, *purpose)
            found, spare = self._with_groups(found, silent, fresh), spare[len(silent) :]
        return found

    def _with_groups(self, old: Experience, users: Ints, fresh: Experience) -> Experience:
        """The groups of `fresh` in the place of `users`."""

        def put(whole: Floats | Ints, part: Floats | Ints) -> Floats | Ints:
            whole = whole.copy()
            whole[users] = part
            return whole

        at = torch.as_tensor(users, device=self.device)
        changed = {
            name: put(getattr(old, name), getattr(fresh, name))
            for name in ("contexts", "items", "rewards", "total", "entropy")
        }
        slates = old.slates.with_groups(at, fresh.slates)
        prompts = self.prompts(changed["contexts"]).with_choices(slates.open.shape[3])
        return replace(old, slates=slates, prompts=prompts, **changed)

    def described(self, found: Experience) -> dict[str, float]:
        """What the slates earned and how they look."""
        items = found.items
        means = found.rewards.mean((0, 1))
        return {
            **{f"reward_{name}": mean for name, mean in zip(self.environment.weights, means, strict=True)},
            "reward": found.total.mean(),
            "entropy": found.entropy.mean(),
            "invalid_share": float((items < 0).mean()),
            "distinct_items": len(np.unique(items[items >= 0])),
            "tokens": int(found.slates.real.sum()),
            **correlations(found.rewards, list(self.environment.weights)),
        }


def without_repeats(items: Ints) -> Ints:
    """Slates [B, K, L] in which an item that stands further up is the null action, -1, as what is no item is."""
    same = items[..., :, None] == items[..., None, :]  # the first place of each item is that of its first like
    return np.where(same.argmax(-1) == np.arange(items.shape[-1]), items, -1)


def correlations(rewards: Floats, names: Sequence[str]) -> dict[str, float]:
    """Correlation inside the groups of each two of M objectives [B, K, M], over all slates, where both vary there.

    Near 1, Eq. 7 has little to decouple.
    """
    columns = (rewards - rewards.mean(1, keepdims=True)).reshape(-1, len(names)).T
    varying = np.flatnonzero((np.ptp(rewards, axis=1) > 0).any(0))
    return {
        f"{CORRELATION}{names[m]}{AND}{names[n]}": float(np.corrcoef(columns[m], columns[n])[0, 1])
        for m, n in itertools.combinations(varying, 2)
    }
