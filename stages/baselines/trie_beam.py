"""Beam search for the items that a model is likeliest to write, code by code, inside the trie of the catalogue.

    score(item) = sum over its levels of log softmax over all codes of the level, at the item's code

What cannot be recommended is closed in the trie, and keeps its share of the softmax: an item does not rise because the
user has seen those that begin like it. stages/policy/beam.py renormalises over what is open instead, as RL samples.

B users, K beams, C codes per level, W children of the widest node of a level.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from stages.action_spaces.trie import ROOT, Trie
from stages.baselines.base import Lists
from stages.core.stage import progress
from stages.corpus.histories import Ints

USERS = 64  # searched at once


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


def by_length(contexts: list[Ints], search: Callable[[Ints], tuple[Tensor, Tensor]], what: str) -> Lists:
    """Lists of all contexts in their order, searched a part at a time, like lengths together, so that little is padded.

    search: numbers of contexts -> items and scores; what: is said beside the progress bar.
    """
    order = np.argsort([-len(own) for own in contexts], kind="stable")
    parts = [order[start : start + USERS] for start in range(0, len(order), USERS)]
    found = [search(part) for part in progress(parts, what)]
    items, scores = (torch.cat(tensors).cpu().numpy() for tensors in zip(*found, strict=True))
    back = np.argsort(order)
    return items[back], scores[back]
