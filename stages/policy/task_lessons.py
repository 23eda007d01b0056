"""SFT on RecIF's tasks: prompts of every task, and what users went on to do. Mixed with the lessons on histories."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from stages.action_spaces.tasked import Question, Tasked
from stages.corpus.recif_parts import JUDGING
from stages.corpus.task_samples import Sample, shown_last
from stages.policy.logprobs import answer_logits, spell
from stages.policy.slate_label import lesson_log_probs


@dataclass(frozen=True)
class TaskLessons:
    """Samples of each task, anew in each epoch."""

    space: Tasked
    draw: Callable[[int], Iterable[Sample]]
    """The samples of an epoch, by its number."""
    history_items: int
    """Of what a prompt shows, the last; see shown_last."""
    counts: dict[str, int] = field(default_factory=dict)
    """Samples of the last epoch, by task; right items that were in no pool, which are not taught."""

    def epoch(self, number: int) -> list[Sample]:
        """The samples of an epoch that have something to teach."""
        drawn = [  # copies: what is cut off of long lists need not stay in memory
            own._replace(shown=shown_last(own.task, own.shown, self.history_items).copy()) for own in self.draw(number)
        ]
        found = [self._within_pool(own) for own in drawn]
        if any(own.pool is not None for own in drawn):
            self.counts["answers_left_out"] = sum(len(own.answer) for own in drawn) - sum(
                len(own.answer) for own in found
            )
        found = [own for own in found if own.task == JUDGING or len(own.answer)]
        tasks = [own.task for own in found]
        self.counts.update({f"samples_{task}": tasks.count(task) for task in dict.fromkeys(tasks)})
        return found

    @staticmethod
    def _within_pool(sample: Sample) -> Sample:
        if sample.pool is None or sample.task == JUDGING:
            return sample
        return sample._replace(answer=sample.answer[np.isin(sample.answer, sample.pool)])

    def size(self, example: Sample) -> int:
        """Items that are shown, and those that are right."""
        return len(example.shown) + max(1, len(example.answer))  # a candidate is one as well

    def loss(self, model: PreTrainedModel, examples: list[Sample]) -> tuple[Tensor, Tensor]:
        """Weighted sum of the negative log-probabilities (nats), and of weights: a sample weighs as one item does."""
        total = weight = torch.zeros((), device=model.device)
        judged = [example for example in examples if example.task == JUDGING]
        asked = [example for example in examples if example.task != JUDGING]
        for own, losses in ((asked, self._recommending), (judged, self._judging)):
            if own:
                nats, count = losses(model, own)
                total, weight = total + nats, weight + count
        return total, weight

    def _recommending(self, model: PreTrainedModel, samples: list[Sample]) -> tuple[Tensor, Tensor]:
        """Every right item as the first that is written, all behind one reading of the prompt; a sample weighs as many
        tokens as its right items have in the mean.
        """
        prompts = self.space.task_prompts(list(map(question, samples))).to(model.device)
        items = torch.full((len(samples), max(len(own.answer) for own in samples), 1), -1)
        for row, own in enumerate(samples):
            items[row, : len(own.answer), 0] = torch.from_numpy(own.answer)
        right = (items >= 0).sum(1, keepdim=True).to(model.device)  # [B, 1, 1]
        slates, _ = spell(prompts, self.space, items.to(model.device))
        log_probs = lesson_log_probs(model, self.space, prompts, slates)
        return -(log_probs / right).sum(), (slates.real.sum((1, 2)) / right[:, 0, 0]).sum()

    def _judging(self, model: PreTrainedModel, samples: list[Sample]) -> tuple[Tensor, Tensor]:
        """Yes or no; as heavy as an item."""
        logits = answer_logits(model, self.space, list(map(question, samples)))
        right = torch.tensor([0 if own.label else 1 for own in samples], device=model.device)
        nats = cross_entropy(logits, right, reduction="sum") * self.space.item_tokens
        return nats, nats.new_tensor(len(samples) * self.space.item_tokens)


def question(sample: Sample) -> Question:
    """What a sample's prompt says."""
    pool = None if sample.task == JUDGING else sample.pool
    return Question(sample.task, sample.condition, sample.shown, sample.candidate, pool, behaviours=sample.behaviours)
