"""SFT's label `history`: language model over windows of a history, for items that are spelled the same everywhere."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import Catalogue, pad
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Ints
from stages.policy.constrained import log_softmax, output_logits


@dataclass(frozen=True)
class Window:
    """Items that are predicted one by one, each from those before it."""

    items: Ints
    known: Ints | None
    """Items that no target may be, beside those shown before it. None: seen items may be recommended again."""


class Batch(NamedTuple):
    """n windows of up to J items of W tokens each, D of them codes, padded on the right."""

    tokens: Tensor  # [n, 1 + J * W]
    target: Tensor  # [n, J] item, -1 for padding
    weight: Tensor  # [n, J] 0 for padding
    banned: Tensor  # [n, X] items that none of the predictions may name, -1 for none
    own: Tensor  # [n, J, J] items that one prediction may not name: those before it

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(*(tensor.to(device) for tensor in self))


@dataclass(frozen=True)
class HistoryLessons:
    """Windows of the histories, cut anew in each epoch."""

    space: Catalogue
    sequences: list[Ints]
    """What SFT may see of each user, oldest item first."""
    ties: list[Ints] | None
    """Tie groups of the sequences, whose order says nothing; None: the order stands."""
    window: int
    dropout: float
    """Probability that an item is left out of its history."""
    exclude_seen: bool
    seed: int
    counts: dict[str, int] = field(default_factory=dict)

    def epoch(self, number: int) -> list[Window]:
        """The windows of an epoch."""
        return list(self._windows(numpy_generator(self.seed, "sft", number)))

    def size(self, example: Window) -> int:
        """Items of a window."""
        return len(example.items)

    def loss(self, model: PreTrainedModel, examples: list[Window]) -> tuple[Tensor, Tensor]:
        """Sum of the negative log-probabilities (nats) of the items, and how many tokens they have."""
        batch = collate(examples, self.space).to(model.device)
        return loss_sum(model, batch, self.space), batch.weight.sum() * self.space.trie.depth

    def _windows(self, generator: np.random.Generator) -> Iterator[Window]:
        """Cut every history at an offset drawn anew, so that no item always stands at a window's start.

        Drawn anew as well: the order inside the tie groups, and which items are left out. Known are the items of
        earlier windows, and those left out, as if they did not exist.
        """
        for user, sequence in enumerate(self.sequences):
            if self.ties is not None:
                sequence = sequence[np.lexsort([generator.random(len(sequence)), self.ties[user]])]  # tie, then chance
            kept = np.flatnonzero(generator.random(len(sequence)) >= self.dropout)
            offset = int(generator.integers(self.window))
            for part in np.split(kept, range(offset, len(kept), self.window)):
                if len(part):
                    left_out = np.setdiff1d(sequence[part[0] : part[-1]], sequence[part])
                    known = np.union1d(sequence[: part[0]], left_out) if self.exclude_seen else None
                    yield Window(sequence[part], known)


def collate(windows: list[Window], space: Catalogue) -> Batch:
    """Spell the windows, START before each.

    A target that the user has seen before has no probability where seen items are excluded, and so no weight.
    """
    tokens, _ = pad([space.history(window.items) for window in windows], 0)
    target, _ = pad([window.items for window in windows], -1)
    weight = torch.zeros(target.shape)
    own = torch.full((*target.shape, target.shape[1]), -1)
    for index, (items, known) in enumerate((window.items, window.known) for window in windows):
        fresh = np.ones(len(items), dtype=bool)
        if known is not None:
            fresh[:] = False
            fresh[np.unique(items, return_index=True)[1]] = True  # where it stands first
            fresh &= ~np.isin(items, known)
            before = np.tril(np.ones((len(items), len(items)), dtype=bool), -1)
            own[index, : len(items), : len(items)] = torch.from_numpy(np.where(before & fresh, items, -1))
        weight[index, : len(items)] = torch.from_numpy(fresh.astype(np.float32))
    known_items = [window.items[:0] if window.known is None else window.known for window in windows]
    return Batch(tokens, target, weight, pad(known_items, -1)[0], own)


def loss_sum(model: PreTrainedModel, batch: Batch, space: Catalogue) -> Tensor:
    """Weighted sum of the negative log-probabilities (nats) of the targets under the constrained policy."""
    trie, hidden = space.trie, model.get_decoder()(input_ids=batch.tokens[:, :-1], use_cache=False).last_hidden_state
    total = hidden.new_zeros((), dtype=torch.float32)
    for level, columns in enumerate(space.columns):
        choices = trie.choices(trie.node[batch.target, level].long(), level, batch.banned, batch.own)
        before = hidden[:, space.lead + level :: space.width][
            :, : batch.target.shape[1]
        ]  # [n, J, h] each predicts the level's code
        logits = trie.pick(output_logits(model, before, columns), choices, level)
        log_probs = log_softmax(logits, choices.open | (batch.weight == 0)[..., None])  # [n, J, W]
        place = trie.node[batch.target, level + 1] - choices.child[..., 0]
        total = total - (log_probs.gather(-1, place[..., None])[..., 0] * batch.weight).sum()
    return total
