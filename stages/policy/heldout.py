"""How a policy does on contexts that nobody trains on, and how much it gives to cold items."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace, Prompts
from stages.core.gpu import leaves_idle
from stages.core.schema import HELD_OUT
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Ints
from stages.corpus.reserve import Reserve, held_back_contexts, logged_after
from stages.policy.algorithm import Learner
from stages.policy.logprobs import spell, token_log_probs
from stages.policy.task import Task
from stages.rewards.feedback import logged_rewards

CONTEXTS, MANY = 256, 1024  # decoded at once; many by a small model on a GPU
COLD_ITEMS = 64  # scored at once per context


@dataclass(frozen=True)
class Watch:
    """Fixed contexts of the reserve's two halves, and fixed validation contexts for the probability of cold items.

    The task's rewards are the log's, whatever RL learns from.
    """

    task: Task
    selection: Ints  # [C, 2] (user, position): choose the checkpoint
    report: Ints  # [C', 2]: give the held-out reward
    cold_prompts: Prompts
    cold: Ints  # cold items
    seed: int

    @classmethod
    def over(
        cls, task: Task, reserve: Reserve, most: int | None, positions: int, cold_contexts: int, seed: int
    ) -> "Watch":
        """Take `positions` evenly spread contexts of each reserve user, and the validation contexts of some users.

        most: users of each half of the reserve, whose order is that of their numbers; None for all.
        """
        histories, horizon = task.environment.histories, task.environment.horizon

        def spread(users: Ints) -> Ints:
            parts = [held_back_contexts(histories, reserve, users[i : i + 1], horizon) for i in range(len(users))]
            chosen = [part[np.linspace(0, len(part) - 1, min(positions, len(part))).astype(int)] for part in parts]
            return np.concatenate(chosen) if chosen else np.empty((0, 2), np.int64)

        users = np.flatnonzero(histories.valid >= 0)
        users = np.sort(numpy_generator(seed, "cold").choice(users, min(cold_contexts, len(users)), False))
        contexts = np.stack([users, histories.train_length[users]], 1)
        return cls(
            task=task,
            selection=spread(reserve.selection[:most]),
            report=spread(reserve.report[:most]),
            cold_prompts=task.prompts(contexts),
            cold=np.flatnonzero(histories.cold),
            seed=seed,
        )

    def look(self, learner: Learner, step: int) -> dict[str, float]:
        """Rewards on both halves, and what the greedy slates of both show."""
        selection, report = (
            held_out_reward(learner.model, self.task, part, self.seed) for part in (self.selection, self.report)
        )
        items = np.concatenate([selection.items, report.items])
        return {
            "selection_reward": float(selection.greedy.mean()),
            "heldout_reward": float(report.sampled.mean()),
            "heldout_greedy_reward": float(report.greedy.mean()),
            "heldout_greedy_ndcg": float(report.ndcg.mean()),
            "greedy_entropy": float(self.task.environment.entropy(items).mean()),
            "greedy_coverage": len(np.unique(items[items >= 0])) / self.task.space.item_count,
        }

    def rewards(self, learner: Learner, temperatures: list[float], samples: int) -> pa.Table:
        """Rewards of each context of the reporting half, as data/<dataset>/heldout/<row>/seed-<n>.parquet.

        Of the greedy slate, and of so many sampled ones, their mean, at the temperature whose slates earn most on the
        selecting half. RL sharpens a policy, and sharper ones earn more: each needs its own to be compared.
        """
        model = learner.model
        earned = [
            sampled_rewards(model, self.task, self.selection, temperature, samples, self.seed).mean()
            for temperature in temperatures
        ]
        best = temperatures[int(np.argmax(earned))]
        found = {
            "sampled": (best, sampled_rewards(model, self.task, self.report, best, samples, self.seed)),
            "slate": (0.0, sampled_rewards(model, self.task, self.report, 0.0, 1, self.seed)),
        }
        users, positions = self.report.T
        tables = [
            pa.table(
                [users, positions, [decoder] * len(users), np.full(len(users), temperature), rewards], schema=HELD_OUT
            )
            for decoder, (temperature, rewards) in found.items()
        ]
        return pa.concat_tables(tables).combine_chunks()

    def cold_mass(self, learner: Learner) -> float:
        """Probability of cold items in first position, mean over the fixed contexts."""
        return cold_mass(learner.model, self.cold_prompts, self.task.space, self.cold, self.task.temperature)


class HeldOut(NamedTuple):
    """Per context: the reward of one sampled slate and of the greedy slate, the greedy slate's items and its NDCG."""

    sampled: np.ndarray  # [C]
    greedy: np.ndarray  # [C]
    items: Ints  # [C, L]
    ndcg: np.ndarray  # [C] the next item is the one target


def held_out_reward(model: PreTrainedModel, task: Task, contexts: Ints, seed: int) -> HeldOut:
    """Weighted reward of a sampled slate, at the training temperature, and of the greedy slate, on contexts [C, 2].

    A seed means the same noise at every look, so that two looks differ by their policies alone.
    """
    rewards, items = [], []
    most = MANY if leaves_idle(model) else CONTEXTS
    for start in range(0, len(contexts), most):
        found = task.sample(model, contexts[start : start + most], [task.temperature, 0.0], seed, "reserve")
        rewards.append(found.total)
        items.append(found.items[:, 1])
    sampled, greedy = np.concatenate(rewards).T
    shown = np.concatenate(items)
    following, _ = logged_after(task.environment.histories, contexts, 1)
    ndcg = logged_rewards(shown[:, None], following, {"next": np.ones_like(following)})[:, 0, 0]
    return HeldOut(sampled, greedy, shown, ndcg)


def sampled_rewards(
    model: PreTrainedModel, task: Task, contexts: Ints, temperature: float, samples: int, seed: int
) -> npt.NDArray[np.float64]:
    """Weighted reward of each of contexts [C, 2], mean over `samples` slates at a temperature, 0 for greedy: [C].

    The same noise at every temperature and for every policy.
    """
    batch = max(1, (MANY if leaves_idle(model) else CONTEXTS) // samples)
    parts = [contexts[start : start + batch] for start in range(0, len(contexts), batch)]
    found = [task.sample(model, part, [temperature] * samples, seed, "held out").total for part in parts]
    return np.concatenate(found).mean(1)


@torch.no_grad()
def cold_mass(model: PreTrainedModel, asked: Prompts, space: ActionSpace, cold: Ints, temperature: float) -> float:
    """Mean over contexts of the probability that the first item is a cold one (Figure 4a), at `temperature`.

    Of slates of any tokens, that of the names as the tokenizer spells them: other spellings are left out.
    """
    if asked.pool is not None:  # nothing else can be named
        cold = np.intersect1d(cold, asked.pool.items.cpu().numpy())
    mass = sum(_item_mass(model, asked, space, part, temperature) for part in _chunks(cold))
    return float(mass) / len(asked.tokens)


def _item_mass(model: PreTrainedModel, asked: Prompts, space: ActionSpace, items: Ints, temperature: float) -> Tensor:
    """Sum over contexts and items of the probability of each item as the first: []."""
    chosen = torch.as_tensor(items, device=asked.tokens.device).expand(len(asked.tokens), -1)
    slates, possible = spell(asked, space, chosen[..., None])  # slates of one item
    log_probs, _ = token_log_probs(model, asked, space, slates, temperature)
    return (log_probs.sum(2).exp() * possible).sum()


def _chunks(items: Ints) -> Iterator[Ints]:
    for start in range(0, len(items), COLD_ITEMS):
        yield items[start : start + COLD_ITEMS]
