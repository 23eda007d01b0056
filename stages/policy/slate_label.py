"""SFT's label `slate`: the next logged items as one slate, stronger feedback first, filled up by a retriever."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace, Asking, Prompts, Slates
from stages.core.errors import InputError
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, Ints
from stages.corpus.reserve import logged_after
from stages.policy.constrained import output_logits
from stages.policy.logprobs import spell, token_log_probs
from stages.policy.sharing import read_at_once


@dataclass(frozen=True)
class Example:
    """A context (user, position) and the slate to write there."""

    context: Ints  # [2]
    items: Ints  # up to L
    weights: npt.NDArray[np.float32]
    """Loss weight of each item's tokens."""


@dataclass(frozen=True)
class SlateLessons:
    """Contexts drawn anew in each epoch, about one for L items of a history."""

    space: ActionSpace
    asking: Asking
    histories: Histories
    lengths: Ints
    """[U] the users' first items that SFT may see."""
    horizon: int
    """Logged items that count."""
    fill_weight: float
    """Loss weight of the items that the retriever fills in; at 0 they are left out."""
    fill: Callable[[Ints, Ints], Sequence[Ints]]
    """Contexts [C, 2] and logged items [C, horizon] -> more items for each context, best first, -1 for none. Where the
    action space offers pools, those fill."""
    objectives: dict[str, float]
    """Weight of each objective: what makes feedback strong. A logged item whose feedback sums below 0 is no label."""
    seed: int
    counts: dict[str, int] = field(default_factory=dict)
    """Of the last epoch: `logged` and `filled` items of the slates; logged ones that no pool held, `put_in` or
    `left_out`; and `disliked` ones, left out as well."""

    def epoch(self, number: int) -> list[Example]:
        """The slates of an epoch. Raises InputError where no history is long enough."""
        long_enough = np.flatnonzero(self.lengths > self.horizon)
        if not len(long_enough):
            raise InputError(f"no user has more than {self.horizon} items (sft.label_horizon) for SFT; lower it")
        generator, contexts = numpy_generator(self.seed, "sft", number), []
        for user in long_enough:
            count = max(1, int(self.lengths[user]) // self.asking.slate_length)
            cuts = generator.integers(1, self.lengths[user] - self.horizon + 1, count)
            contexts.append(np.stack([np.full(count, user), cuts], 1))
        return self._labelled(np.concatenate(contexts))

    def size(self, example: Example) -> int:
        """Items of the history that is shown and of the slate."""
        return shown_items(example, self.asking)

    def loss(self, model: PreTrainedModel, examples: list[Example]) -> tuple[Tensor, Tensor]:
        """Weighted sum of the negative log-probabilities (nats) of the slates' tokens, and of their weights."""
        return slate_loss(model, self.space, self.asking, examples)

    def _labelled(self, contexts: Ints) -> list[Example]:
        """The slates of contexts [C, 2]: logged items, stronger feedback first, then what the retriever gives."""
        logged, feedback = logged_after(self.histories, contexts, self.horizon)
        strength = sum(weight * feedback[name] for name, weight in self.objectives.items())
        order = np.argsort(-strength, axis=1, kind="stable")
        logged, liked = (np.take_along_axis(of_each, order, 1) for of_each in (logged, strength >= 0))
        known, offered = self.histories.items_before(contexts), self.space.offered(contexts)
        filling = self.fill(contexts, logged) if offered is None else offered  # a pool is in its retriever's order
        counts = dict.fromkeys(("logged", "filled", "put_in", "left_out"), 0)
        counts["disliked"] = int((~liked).sum())
        examples = []
        for row, context in enumerate(contexts):
            own = logged[row][liked[row]]
            own = own[np.sort(np.unique(own, return_index=True)[1])]
            if self.asking.exclude_seen:
                own = own[~np.isin(own, known[row])]
            if offered is not None:
                there = np.isin(own, offered[row])
                counts["put_in" if self.space.put_target else "left_out"] += int((~there).sum())
                own = own if self.space.put_target else own[there]
            own = own[: self.asking.slate_length]
            more = filling[row]
            disliked = np.setdiff1d(logged[row][~liked[row]], logged[row][liked[row]])
            more = more[(more >= 0) & ~np.isin(more, own) & ~np.isin(more, disliked)][
                : self.asking.slate_length - len(own)
            ]
            more = more if self.fill_weight else more[:0]
            counts["logged"], counts["filled"] = counts["logged"] + len(own), counts["filled"] + len(more)
            if len(own):
                weights = np.r_[np.ones(len(own)), np.full(len(more), self.fill_weight)].astype(np.float32)
                examples.append(Example(context, np.concatenate([own, more]), weights))
        self.counts.update(counts)
        return examples


def shown_items(example: Example, asking: Asking) -> int:
    """Items of the history that is shown and of the slate."""
    return min(int(example.context[1]), asking.history_items) + asking.slate_length


def slate_loss(
    model: PreTrainedModel, space: ActionSpace, asking: Asking, examples: list[Example]
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the negative log-probabilities (nats) of the slates' tokens, and of their weights."""
    length = max(len(example.items) for example in examples)
    items = torch.full((len(examples), 1, length), -1)
    weights = torch.zeros(items.shape)
    for row, example in enumerate(examples):
        items[row, 0, : len(example.items)] = torch.from_numpy(example.items)
        weights[row, 0, : len(example.items)] = torch.from_numpy(example.weights)
    contexts = np.stack([example.context for example in examples])
    wanted = items[:, 0].numpy() if space.put_target else None
    asked = space.prompts(contexts, asking, wanted).to(model.device)
    slates, _ = spell(asked, space, items.to(model.device))
    weight = weights.to(model.device).gather(2, slates.place) * slates.real  # [n, 1, T]
    return -(lesson_log_probs(model, space, asked, slates) * weight).sum(), weight.sum()


def lesson_log_probs(model: PreTrainedModel, space: ActionSpace, asked: Prompts, slates: Slates) -> Tensor:
    """Log-probabilities [B, K, T] of slates under the softmax that SFT has in the action space, 0 at padding."""
    if space.unaided:
        log_probs = unaided_log_probs(model, read_at_once(model, asked, slates.tokens), slates.tokens)
        return log_probs.where(slates.real, 0)
    return token_log_probs(model, asked, space, slates, 1.0)[0]


def unaided_log_probs(model: PreTrainedModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities of tokens [B, K, T] over the whole vocabulary, from the states [B, K, T, h] before them."""
    return torch.log_softmax(output_logits(model, hidden, None), -1).gather(-1, tokens[..., None])[..., 0]
