"""What a policy is taught by: examples of an epoch, and their loss. See also history_label.py and slate_label.py.

Two labels (the paper's Sec. 3.2 and 3.3; the paper fixes neither):
history  language model over a user's history: every item is a target, predicted from the items before it
slate    the next logged items as one slate, behind a prompt that asks for it
"""

from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace, Asking
from stages.core.errors import InputError
from stages.corpus.histories import Histories
from stages.policy.logprobs import spell, token_log_probs
from stages.policy.processes import own_share, total

BATCH = 128  # contexts scored at once, at most


class Lessons(Protocol):
    """Examples under one label. An example is what `loss` takes; nobody else looks inside."""

    space: ActionSpace

    @property
    def counts(self) -> dict[str, int]:
        """Of the last epoch, for the curve."""

    def epoch(self, number: int) -> list[Any]:
        """The examples of an epoch, drawn from (seed, epoch)."""

    def size(self, example: Any) -> int:
        """Items that an example holds: batches have about as many."""

    def loss(self, model: PreTrainedModel, examples: list[Any]) -> tuple[Tensor, Tensor]:
        """Weighted sum of the negative log-probabilities (nats) of the examples' tokens, and of their weights."""


class NextItems:
    """Validation: each user's next item, alone behind the prompt that SFT teaches."""

    def __init__(
        self, space: ActionSpace, asking: Asking, histories: Histories, most: int | None = None, seed: int = 0
    ) -> None:
        """Take the validation items of at most so many users. Raises InputError where none may be recommended."""
        users = histories.judged("valid", most, seed)
        contexts = np.stack([users, histories.train_length[users]], 1)
        order = np.argsort(contexts[:, 1], kind="stable")  # in order of length, so that little is padded
        self.space, self.asking = space, asking
        self.contexts, self.targets = contexts[order], histories.valid[users][order]
        seen = [
            target in known for known, target in zip(histories.items_before(self.contexts), self.targets, strict=True)
        ]
        if asking.exclude_seen:
            self.contexts, self.targets = self.contexts[~np.array(seen)], self.targets[~np.array(seen)]
        if not len(self.contexts):
            raise InputError("no validation item to judge SFT by: no user has one that may be recommended")

    @torch.no_grad()
    def loss(self, model: PreTrainedModel, accelerator: Accelerator) -> float:
        """Mean negative log-probability (nats) of the items that can be recommended. Raises InputError for none."""
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=model.device)
        size = min(BATCH, -(-len(self.contexts) // accelerator.num_processes))
        parts = [slice(start, start + size) for start in range(0, len(self.contexts), size)]
        for _, part in own_share(parts, accelerator):
            asked = self.space.prompts(self.contexts[part], self.asking).to(model.device)
            target = torch.from_numpy(self.targets[part]).to(model.device)[:, None, None]
            slates, possible = spell(asked, self.space, target)
            log_probs, _ = token_log_probs(model, asked, self.space, slates, 1.0)
            sums += torch.stack([-log_probs.sum(2)[possible].double().sum(), possible.sum().double()])
        loss, count = total(sums, accelerator).tolist()
        if not count:
            raise InputError("no validation item to judge SFT by: none is in its pool; raise text.pool_size")
        return float(loss / count)
