"""SASRec under any of its losses: what the rows `sasrec` and `sasrec_bce` share, and what any item encoder builds on.

Self-attentive sequential recommendation (arXiv 1808.09781): the state at an item scores every item by its embedding,

    s(j | items so far) = F . E_j        F the encoder's state at the last item, E the item embeddings

and every position of a window is a training example. Lists rank the whole catalogue by s.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Literal, Self, TypeVar

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from stages.baselines.asked import Asked, Floats, Lists
from stages.baselines.attention import Encoder, ItemEncoder, Size
from stages.baselines.base import Given, Outcome
from stages.baselines.item_losses import Unseen, binary_cross_entropy, cross_entropy, sampled_cross_entropy
from stages.baselines.loop import Schedule, train
from stages.baselines.ranking import best_items
from stages.baselines.windows import Rows, Window, Windows, padded, rows
from stages.core.section import Count
from stages.core.seeding import derived_seed
from stages.corpus.histories import Ints

USERS = 256  # ranked at once, and fewer where
SCORES = 1 << 26  # would be passed: 256 MB of single precision, of which ranking takes some copies


class SasrecParams(Size, Schedule):
    """A section of SASRec."""

    loss: Literal["ce", "bce", "sampled"]
    """ce: over the whole catalogue | bce: against one unseen item | sampled: over `samples` items, drawn uniformly."""
    samples: Count | None
    """loss sampled: items drawn for a step, the same for all its positions; null for the others."""

    @model_validator(mode="after")
    def _samples_where_drawn(self) -> Self:
        if (self.loss == "sampled") != (self.samples is not None):
            raise ValueError("samples: loss sampled needs a number, the others have none (null)")
        return self


Model = TypeVar("Model", bound=Encoder)


class ItemLearner(ABC, Generic[Model]):
    """An encoder over items, taught by windows of the histories."""

    def __init__(self, given: Given, schedule: Schedule, length: int, model: Model) -> None:
        self.given, self.schedule, self.length = given, schedule, length
        self.model = model.to(given.device)
        self.windows = Windows(given.histories, length, given.shuffle_ties, given.seed)

    def batches(self, epoch: int) -> Sequence[list[Window]]:
        """Windows, `batch_size` at a time."""
        return self.windows.batches(epoch, self.schedule.batch_size)

    @abstractmethod
    def loss(self, batch: list[Window]) -> tuple[Tensor, Tensor]:
        """Sum over the real targets of the windows, and their number."""

    def represent(self, items: Tensor, last: Tensor) -> Tensor:
        """States [n, h] that score the item behind place `last` [n] of the items [n, L]."""
        states: Tensor = self.model(items)
        return states[torch.arange(len(items), device=items.device), last]

    def ranked(self, asked: Asked) -> Lists:
        """The best items, less those of the context where seen items are excluded; of no context, none."""
        items = self._vectors(asked.among)
        at_once = max(1, min(USERS, SCORES // len(items)))
        found = [self._best(part, items) for part in asked.parts(at_once)]
        places, scores = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        return asked.named(places), scores

    def judged(self, asked: Asked) -> Floats:
        """The candidates' scores; of no context, none."""
        return np.concatenate([self._scores(part) for part in asked.parts(USERS)])

    @torch.no_grad()
    def _best(self, asked: Asked, items: Tensor) -> tuple[Tensor, Tensor]:
        states, known = self._behind(asked.contexts)
        scores = (states @ items.T).masked_fill(~known[:, None], -torch.inf)
        row = np.repeat(np.arange(len(scores)), [len(own) for own in asked.hidden])
        scores[torch.from_numpy(row), torch.from_numpy(np.concatenate(asked.hidden))] = -torch.inf
        best, value = best_items(scores, asked.length)
        return best.cpu(), value.cpu()

    @torch.no_grad()
    def _scores(self, asked: Asked) -> Floats:
        states, known = self._behind(asked.contexts)
        scores = (states * self._vectors(asked.candidates)).sum(1).masked_fill(~known, torch.nan)
        return np.asarray(scores.cpu().numpy())

    def _vectors(self, items: Ints | None) -> Tensor:
        """Embeddings [n, h] of items [n]; None: of all."""
        every = self.model.items.weight
        return every if items is None else every[torch.from_numpy(items).to(every.device)]

    def _behind(self, contexts: Sequence[Ints]) -> tuple[Tensor, Tensor]:
        """States [B, h] behind contexts, cut to the last `length` items, and whether there are any [B]."""
        items, real = padded([own[-self.length :] for own in contexts], self.given.device)
        count = real.sum(1)
        return self.represent(items, (count - 1).clamp(min=0)), count > 0


Score = Callable[["Sasrec", Tensor, Tensor, list[Rows]], Tensor]
"""A loss: states [P, h] and target [P] of the groups' real positions -> their sum."""


class Sasrec(ItemLearner[ItemEncoder]):
    """SASRec under one of its losses."""

    def __init__(self, given: Given, params: SasrecParams, score: Score, name: str) -> None:
        torch.manual_seed(derived_seed(given.seed, name, "weights"))
        super().__init__(given, params, params.length, ItemEncoder(given.histories.item_count, params))
        self.params, self.score = params, score
        if params.loss == "bce":
            histories = given.histories
            seen = [np.unique(histories.train(user)) for user in range(histories.user_count)]
            self.unseen = Unseen(seen, histories.item_count, given.device)

    def loss(self, batch: list[Window]) -> tuple[Tensor, Tensor]:
        """Sum over the real targets of the windows, and their number."""
        groups = list(rows(batch, self.given.device))
        states = torch.cat([self.model(group.read)[group.real] for group in groups])
        target = torch.cat([group.target[group.real] for group in groups])
        return self.score(self, states, target, groups), target.new_tensor(len(target))

    def full(self, states: Tensor, target: Tensor, groups: list[Rows]) -> Tensor:
        return cross_entropy(states[:, None], self.model.items.weight, target, states.new_ones(1))

    def against_one(self, states: Tensor, target: Tensor, groups: list[Rows]) -> Tensor:
        user = torch.cat([group.user[:, None].expand_as(group.real)[group.real] for group in groups])
        return binary_cross_entropy(states, self.model.items.weight, target, self.unseen.draw(user))

    def against_some(self, states: Tensor, target: Tensor, groups: list[Rows]) -> Tensor:
        items = self.model.items.weight
        drawn = torch.randint(len(items), (self.params.samples or 0,), device=items.device)
        return sampled_cross_entropy(states, items, target, drawn)


LOSSES: dict[str, Score] = {"ce": Sasrec.full, "bce": Sasrec.against_one, "sampled": Sasrec.against_some}


def outcome(learner: ItemLearner[Model], given: Given, name: str) -> Outcome:
    """Train, and answer all that is asked."""
    train(learner, learner.schedule, given, name)
    return Outcome.of(learner, given, learner.schedule.list_length)
