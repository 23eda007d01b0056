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

from stages.action_spaces.base import ActionSpace, pad
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
    known: Ints | None = None
    """Items that no target may be, beside those shown before it. None: seen items may be recommended again."""


class Batch(NamedTuple):
    """n sequences of T tokens, padded on the right, with up to J targets of D tokens each."""

    tokens: Tensor  # [n, T]
    target: Tensor  # [n, J] item
    weight: Tensor  # [n, J] its loss weight; 0 for padding
    at: Tensor  # [n, J] position whose output predicts its first token
    banned: Tensor  # [n, X] items that none of the targets' predictions may name, -1 for none
    own: Tensor  # [n, J, Y] items that one prediction may not name: those shown before it

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(*(tensor.to(device) for tensor in self))


def history_examples(
    sequences: list[Ints],
    ties: list[Ints] | None,
    window: int,
    dropout: float,
    exclude_seen: bool,
    generator: np.random.Generator,
) -> Iterator[Example]:
    """Cut every history into windows at an offset drawn anew, so that no item always stands at a window's start.

    Drawn anew as well: the order inside the tie groups, if they are given, and which items are left out, each with
    probability `dropout`. Known are the items of earlier windows, and those left out, as if they did not exist.
    """
    for user, sequence in enumerate(sequences):
        if ties is not None:
            sequence = sequence[np.lexsort([generator.random(len(sequence)), ties[user]])]  # by tie, then by chance
        kept = np.flatnonzero(generator.random(len(sequence)) >= dropout)
        offset = int(generator.integers(window))
        for part in np.split(kept, range(offset, len(kept), window)):
            if len(part):
                left_out = np.setdiff1d(sequence[part[0] : part[-1]], sequence[part])
                known = np.union1d(sequence[: part[0]], left_out) if exclude_seen else None
                yield Example(sequence[:0], sequence[part], np.ones(len(part), np.float32), known)


@dataclass(frozen=True)
class SlateLabels:
    """How a logged future becomes a slate (sft.label: slate)."""

    length: int  # L
    horizon: int  # logged items that count
    history_items: int  # items of context that are shown
    fill_weight: float  # loss weight of the positions that the retriever fills; at 0 they are left out
    exclude_seen: bool
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
        shown, targets = context[-plan.history_items :], np.concatenate([own, fill])
        known = np.setdiff1d(context, shown) if plan.exclude_seen else None
        yield Example(shown, targets, weights, known)


def collate(examples: list[Example], space: ActionSpace, label: str) -> Batch:
    """Spell the examples: START, context, the slate token where the label has one, targets.

    A target that the user has seen before has no probability where seen items are excluded, and so no weight.
    """
    between = [space.slate_token] if label == "slate" else []
    shown = [np.concatenate([example.context, example.targets]) for example in examples]
    rows = [
        np.concatenate([space.history(example.context), between, space.history(example.targets)[1:]]).astype(np.int64)
        for example in examples
    ]
    target, _ = pad([example.targets for example in examples], -1)
    weight = torch.zeros(target.shape)
    own = torch.full((*target.shape, max(map(len, shown))), -1)
    for index, (example, items) in enumerate(zip(examples, shown, strict=True)):
        fresh, count = np.ones(len(example.targets), dtype=bool), len(example.context)
        if example.known is not None:
            once = np.zeros(len(items), dtype=bool)
            once[np.unique(items, return_index=True)[1]] = True
            once &= ~np.isin(items, example.known)
            fresh = once[count:]
            before = np.tril(np.ones((len(example.targets), len(items)), dtype=bool), count - 1)
            own[index, : len(before), : len(items)] = torch.from_numpy(np.where(before & once, items, -1))
        weight[index, : len(fresh)] = torch.from_numpy(np.where(fresh, example.weights, 0))
    count = torch.tensor([len(example.context) for example in examples])[:, None]
    at = (count + torch.arange(target.shape[1])) * space.trie.depth + len(between)
    known = [example.context[:0] if example.known is None else example.known for example in examples]
    tokens = pad(rows, 0)[0]
    return Batch(tokens, target, weight, at.where(target >= 0, 0), pad(known, -1)[0], own)


def loss_sum(model: PreTrainedModel, batch: Batch, space: ActionSpace) -> Tensor:
    """Weighted sum of the negative log-probabilities (nats) of the targets under the constrained policy."""
    trie, hidden = space.trie, model.get_decoder()(input_ids=batch.tokens[:, :-1], use_cache=False).last_hidden_state
    row, total = torch.arange(len(hidden), device=hidden.device)[:, None], hidden.new_zeros((), dtype=torch.float32)
    for level, columns in enumerate(space.columns):
        choices = trie.choices(trie.node[batch.target, level].long(), level, batch.banned, batch.own)
        logits = trie.pick(code_logits(model, hidden[row, batch.at + level], columns), choices, level)
        log_probs = log_softmax(logits, choices.open | (batch.weight == 0)[..., None])  # [n, J, W]
        place = trie.node[batch.target, level + 1] - choices.child[..., 0]
        total = total - (log_probs.gather(-1, place[..., None])[..., 0] * batch.weight).sum()
    return total
