"""Beam search for the items that a model is likeliest to write, code by code, inside the trie of the catalogue.

    score(item) = sum over its levels of log softmax over all codes of the level, at the item's code   (nats)

What cannot be recommended is closed in the trie, and keeps its share of the softmax: an item does not rise because the
user has seen those that begin like it. stages/policy/beam.py renormalises over what is open instead, as RL samples.

B users, K beams, C codes per level, W children of the widest node of a level.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from stages.action_spaces.base import pad as padded
from stages.action_spaces.trie import ROOT, Trie
from stages.baselines.asked import Asked, Floats, Lists
from stages.core.gpu import leaves_idle
from stages.core.stage import progress
from stages.corpus.histories import Ints

USERS, MANY = 64, 1024  # searched at once; many by a small model on a GPU


class Writer(Protocol):
    """A model that has read what it is to go on from, without gradients."""

    def start(self) -> Tensor:
        """Logits [B, 1, C] of the first level's codes."""

    def go_on(self, beam: Tensor, code: Tensor, level: int) -> Tensor:
        """Logits [B, K, C] of a level's codes behind `code` [B, K] of the level before, written in `beam` [B, K]."""


@torch.no_grad()
def likeliest(writer: Writer, trie: Trie, banned: Tensor, width: int, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best items [B, count] that are not `banned` [B, X], best first, and their scores (nats).

    `width` prefixes are kept per level; with as many as the catalogue has, the search is exact. Items of equal score:
    lower number first; among prefixes of equal score torch's topk chooses. Where fewer items are left than asked for,
    the rest is -1 with score 0.
    """
    assert width >= count, "a beam keeps at least as many prefixes as items are asked for"
    logits, level = writer.start(), 0
    node = trie.start(len(logits), 1)
    score = logits.new_zeros(len(logits), 1, dtype=torch.float32)  # [B, K]
    while True:
        choices = trie.choices(node, level, banned)
        codes = trie.pick(logits.float().log_softmax(-1), choices, level)  # [B, K, W]
        dead = (score == -torch.inf)[..., None]  # beams that lead nowhere stand at the root
        total = (score[..., None] + codes).masked_fill(~choices.open | dead, -torch.inf).flatten(1)
        if level == trie.depth - 1:
            return _best(trie.item_at(choices.child).flatten(1), total, count)
        score, choice = total.topk(min(width, total.shape[1]))
        node = torch.where(score > -torch.inf, choices.child.flatten(1).gather(1, choice), ROOT)
        level += 1
        logits = writer.go_on(choice // choices.child.shape[2], trie.code[node].long(), level)


def _best(items: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best of items [B, n] by scores [B, n], -inf for none."""
    items, order = items.sort(1)
    scores, best = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    items, scores = items.gather(1, best)[:, :count], scores[:, :count]
    behind, none = (0, count - items.shape[1]), scores == -torch.inf
    return pad(items.masked_fill(none, -1), behind, value=-1), pad(scores.masked_fill(none, 0.0), behind)


@torch.no_grad()
def scores_of(writer: Writer, codes: Tensor) -> Tensor:
    """Score [B] of one item for each row, by its codes [B, D]: the one that `likeliest` gives it."""
    logits, first = writer.start(), torch.zeros_like(codes[:, :1])
    score = logits.new_zeros(len(logits), dtype=torch.float32)
    for level in range(codes.shape[1]):
        if level:
            logits = writer.go_on(first, codes[:, level - 1 : level], level)
        score += logits[:, 0].float().log_softmax(-1).gather(1, codes[:, level : level + 1])[:, 0]
    return score


class Search(ABC):
    """Lists and scores of a model that writes ids, items of like contexts together."""

    model: nn.Module
    trie: Trie
    beam_width: int

    @abstractmethod
    def read(self, asked: Asked) -> Writer:
        """The model behind the contexts, cut to what it reads."""

    def ranked(self, asked: Asked) -> Lists:
        """The likeliest items, less those of the context where seen items are excluded."""
        trie = self.trie if asked.among is None else held_to(self.trie, asked.among)

        def search(part: Asked) -> tuple[Tensor, Tensor]:
            banned = padded([np.unique(own) for own in part.hidden], -1)[0].to(trie.node.device)
            return likeliest(self.read(part), trie, banned, max(self.beam_width, asked.length), asked.length)

        items, scores = _by_length(asked, search, MANY if leaves_idle(self.model) else USERS)
        return items, scores

    def judged(self, asked: Asked) -> Floats:
        """Log-probabilities of the candidates' ids."""

        def search(part: Asked) -> tuple[Tensor]:
            own = torch.from_numpy(part.candidates).to(self.trie.codes.device)
            return (scores_of(self.read(part), self.trie.codes[own].long()),)

        return _by_length(asked, search, MANY if leaves_idle(self.model) else USERS)[0]


def held_to(trie: Trie, items: Ints) -> Trie:
    """The tree of some items [n] of a trie, ascending, with the numbers and codes that they have there."""
    own = Trie(trie.codes.cpu().numpy()[items])
    chosen, whole = torch.from_numpy(items), torch.full_like(trie.node.cpu(), ROOT)
    whole[chosen] = own.node
    own.node, own.items, own.codes, own.size = whole, chosen[own.items.long()].int(), trie.codes, trie.size
    return own.to(trie.node.device)


def _by_length(asked: Asked, search: Callable[[Asked], tuple[Tensor, ...]], most: int) -> tuple[npt.NDArray[Any], ...]:
    """What is found behind all contexts, in their order; `most` at a time, like lengths together, which pads little."""
    order = np.argsort([-len(own) for own in asked.contexts], kind="stable")
    parts = [order[start : start + most] for start in range(0, len(order), most)]
    found = [search(asked.part(part)) for part in progress(parts, f"{asked.split} lists")]
    back = np.argsort(order)
    return tuple(torch.cat(own).cpu().numpy()[back] for own in zip(*found, strict=True))
