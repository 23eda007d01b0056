"""SFT on RecIF's tasks: prompts of every task, and what users went on to do. Mixed with the lessons on histories."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from stages.action_spaces.base import Tasked
from stages.core.seeding import numpy_generator
from stages.corpus.task_samples import Logs, Sample
from stages.corpus.tasks import JUDGING
from stages.policy.constrained import output_logits
from stages.policy.logprobs import spell, token_log_probs


@dataclass(frozen=True)
class TaskLessons:
    """Samples of each task per user and epoch, drawn from (seed, epoch, user)."""

    space: Tasked
    logs: Logs
    history_items: int
    """Of what a prompt shows, the last."""
    seed: int
    counts: dict[str, int] = field(default_factory=dict)
    """Samples of the last epoch, by task."""

    def epoch(self, number: int) -> list[Sample]:
        """The samples of an epoch."""
        found = [
            sample._replace(shown=sample.shown[-self.history_items :])
            for user in np.flatnonzero(self.logs.lengths)
            for sample in self.logs.samples(int(user), numpy_generator(self.seed, "tasks", number, int(user)))
        ]
        tasks = [sample.task for sample in found]
        self.counts.update({f"samples_{task}": tasks.count(task) for task in dict.fromkeys(tasks)})
        return found

    def size(self, example: Sample) -> int:
        """Items that are shown, and those that are right."""
        return len(example.shown) + max(1, len(example.answer))

    def loss(self, model: PreTrainedModel, examples: list[Sample]) -> tuple[Tensor, Tensor]:
        """Weighted sum of the negative log-probabilities (nats), and of weights: a sample weighs as one item does."""
        total = weight = torch.zeros((), device=model.device)
        judged = [example for example in examples if example.task == JUDGING]
        asked = [example for example in examples if example.task != JUDGING]
        for own, losses in ((asked, self._recommending), (judged, self._judging)):
            if own:
                total = total + losses(model, own)
                weight = weight + len(own) * self.space.trie.depth
        return total, weight

    def _recommending(self, model: PreTrainedModel, samples: list[Sample]) -> Tensor:
        """Every right item as the first that is written, all behind one reading of the prompt."""
        prompts = self.space.task_prompts([(own.task, own.condition, own.shown) for own in samples]).to(model.device)
        items = torch.full((len(samples), max(len(own.answer) for own in samples), 1), -1)
        for row, own in enumerate(samples):
            items[row, : len(own.answer), 0] = torch.from_numpy(own.answer)
        right = (items >= 0).sum(1, keepdim=True).to(model.device)  # [B, 1, 1]
        slates, _ = spell(prompts, self.space, items.to(model.device))
        log_probs, _ = token_log_probs(model, prompts, self.space, slates, 1.0)
        return -(log_probs / right).sum()

    def _judging(self, model: PreTrainedModel, samples: list[Sample]) -> Tensor:
        """Yes or no; as heavy as an item of three codes."""
        logits = answer_logits(model, self.space, [(own.task, "", own.shown) for own in samples])
        right = torch.tensor([0 if own.label else 1 for own in samples], device=model.device)
        return cross_entropy(logits, right, reduction="sum") * self.space.trie.depth


def answer_logits(model: PreTrainedModel, space: Tasked, asked: list[tuple[str, str, np.ndarray]]) -> Tensor:
    """Logits of yes and no behind prompts of (task, condition, items shown): [B, 2]."""
    assert space.words is not None
    prompts = space.task_prompts(asked).to(model.device)
    states = model.get_decoder()(input_ids=prompts.tokens, use_cache=False).last_hidden_state
    last = states[torch.arange(len(states), device=model.device), prompts.mask.sum(1) - 1]
    return output_logits(model, last, torch.from_numpy(space.words.answers).to(model.device))
