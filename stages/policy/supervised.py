"""Supervised fine-tuning of a policy: examples, batches, loss.

Two labels (method of the paper's Sec. 3.2 and 3.3; the paper fixes neither):
history  language model over a user's history: every item is a target, predicted from the items before it
slate    the next logged items as one slate, behind the token that asks for it
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace
from stages.core.errors import InputError
from stages.corpus.histories import Histories, Ints
from stages.corpus.reserve import logged_after
from stages.policy.constrained import code_logits, log_softmax


@dataclass(frozen=True)
class Example:
    """Items that are shown, and items that are to be predicted after them, one by one."""

    context: Ints
    targets: Ints
    weights: npt.NDArray[np.float32]
    """Loss weight of each target."""


class Batch(NamedTuple):
    """n sequences of T tokens, padded on the right; position t predicts token t + 1."""

    tokens: Tensor  # [n, T]
    weights: Tensor  # [n, T - 1] loss weight of the next token
    level: Tensor  # [n, T - 1] trie level of the next token; -1 where it is no target
    node: Tensor  # [n, T - 1] trie node that it starts from
    code: Tensor  # [n, T - 1] its code

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(*(tensor.to(device) for tensor in self))


def history_examples(
    sequences: list[Ints], ties: list[Ints] | None, window: int, dropout: float, generator: np.random.Generator
) -> Iterator[Example]:
    """Cut every history into windows at an offset drawn anew, so that no item always stands at a window's start.

    Drawn anew as well: the order inside the tie groups, if they are given, and which items are left out, each with
    probability `dropout`.
    """
    for user, sequence in enumerate(sequences):
        if ties is not None:
            sequence = sequence[np.lexsort([generator.random(len(sequence)), ties[user]])]  # by tie, then by chance
        kept = sequence[generator.random(len(sequence)) >= dropout]
        offset = int(generator.integers(window))
        for part in np.split(kept, range(offset, len(kept), window)):
            if len(part):
                yield Example(part[:0], part, np.ones(len(part), np.float32))


@dataclass(frozen=True)
class SlateLabels:
    """How a logged future becomes a slate (sft.label: slate)."""

    length: int  # L
    horizon: int  # logged items that count
    history_items: int  # items of context that are shown
    fill_weight: float  # loss weight of the positions that the retriever fills; at 0 they are left out
    fill: Callable[[list[Ints], Ints], Sequence[Ints]]
    """Contexts and logged items [n, horizon] -> more items for each context, best first."""


def slate_examples(
    histories: Histories, lengths: Ints, plan: SlateLabels, generator: np.random.Generator
) -> Iterator[Example]:
    """Contexts drawn from each user's first `lengths[u]` items, each with the slate that the log and the plan give.

    A user gives one context per `plan.length` items. The next `plan.horizon` items come first, those that
    carry more kinds of feedback before the others; the retriever fills the rest.
    """
    users, cuts = [], []
    long_enough = np.flatnonzero(lengths > plan.horizon)
    if not len(long_enough):
        raise InputError(f"no user has more than {plan.horizon} items (sft.label_horizon) for SFT; lower it")
    for user in long_enough:
        count = max(1, int(lengths[user]) // plan.length)
        cuts.append(generator.integers(1, lengths[user] - plan.horizon + 1, count))
        users.append(np.full(count, user))
    user, cut = np.concatenate(users), np.concatenate(cuts)
    contexts = [histories.train(u)[:p] for u, p in zip(user, cut, strict=True)]
    logged, feedback = logged_after(histories, np.stack([user, cut], 1), plan.horizon)
    order = np.argsort(-np.sum(list(feedback.values()), axis=0), axis=1, kind="stable")
    logged = np.take_along_axis(logged, order, 1)
    filling = plan.fill(contexts, logged) if plan.fill_weight else [logged[0, :0]] * len(contexts)
    for context, own, fill in zip(contexts, logged, filling, strict=True):
        own = own[np.sort(np.unique(own, return_index=True)[1])][: plan.length]
        fill = fill[fill >= 0][: plan.length - len(own)]
        weights = np.r_[np.ones(len(own)), np.full(len(fill), plan.fill_weight)].astype(np.float32)
        yield Example(context[-plan.history_items :], np.concatenate([own, fill]), weights)


def collate(examples: list[Example], space: ActionSpace, label: str) -> Batch:
    """Spell the examples: START, context, the slate token where the label has one, targets."""
    trie, between = space.trie, np.array([space.slate_token] if label == "slate" else [], dtype=np.int64)
    depth, codes = trie.depth, trie.codes.cpu().numpy()
    rows = [
        np.concatenate([space.history(example.context), between, space.history(example.targets)[1:]])
        for example in examples
    ]
    width = max(map(len, rows))
    tokens = np.zeros((len(rows), width), dtype=np.int64)
    weights = np.zeros((len(rows), width - 1), dtype=np.float32)
    level = np.full((len(rows), width - 1), -1, dtype=np.int64)
    node, code = np.zeros_like(level), np.zeros_like(level)
    for index, (row, example) in enumerate(zip(rows, examples, strict=True)):
        tokens[index, : len(row)] = row
        part = slice(len(row) - 1 - depth * len(example.targets), len(row) - 1)
        weights[index, part] = np.repeat(example.weights, depth)
        level[index, part] = np.tile(np.arange(depth), len(example.targets))
        node[index, part] = trie.paths[example.targets].ravel()
        code[index, part] = codes[example.targets].ravel()
    return Batch(*map(torch.from_numpy, (tokens, weights, level, node, code)))


def loss_sum(model: PreTrainedModel, batch: Batch, space: ActionSpace) -> Tensor:
    """Weighted sum of the negative log-probabilities (nats) of the target tokens under the constrained policy."""
    hidden = model.get_decoder()(input_ids=batch.tokens[:, :-1], use_cache=False).last_hidden_state
    total = hidden.new_zeros((), dtype=torch.float32)
    for level, columns in enumerate(space.columns):
        at = batch.level == level
        allowed = space.trie.as_mask(space.trie.children(batch.node[at], level))
        log_probs = log_softmax(code_logits(model, hidden[at], columns), allowed)
        chosen = log_probs.gather(-1, batch.code[at][:, None])[:, 0]
        total = total - (chosen * batch.weights[at]).sum()
    return total
