"""Items and their Semantic IDs, both ways: what ties new tokens to what a pretrained model knows (after LC-Rec,
arXiv 2311.09049). Mixed into SFT's lessons by weights.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.action_spaces.base import Catalogue, pad
from stages.corpus.histories import Ints
from stages.policy.constrained import log_softmax, output_logits
from stages.policy.lessons import Lessons

LONGEST = 32  # tokens of a title


class Pair(NamedTuple):
    """An item, and which of its two spellings is to be written behind the other."""

    item: int
    to_id: bool


@dataclass(frozen=True)
class ItemLessons:
    """Every item once per epoch, from title to id, held to the catalogue, and from id to title, as they have weight."""

    space: Catalogue
    titles: list[Ints]
    """[N] tokens of each item's title and a line break."""
    to_id: float
    to_title: float
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, space: Catalogue, tokenizer: PreTrainedTokenizerBase, titles: list[str], to_id: float, to_title: float
    ) -> "ItemLessons":
        """Spell the titles with the model's own tokens."""
        end = tokenizer.encode("\n", add_special_tokens=False)
        spelled = [tokenizer.encode(title, add_special_tokens=False, split_special_tokens=True) for title in titles]
        return cls(space, [np.array([*own[:LONGEST], *end], dtype=np.int64) for own in spelled], to_id, to_title)

    def epoch(self, number: int) -> list[Pair]:
        """All pairs; the order is drawn with that of the batches."""
        ways = [way for way, weight in ((True, self.to_id), (False, self.to_title)) if weight > 0]
        return [Pair(item, way) for way in ways for item in range(len(self.titles))]

    def size(self, example: Pair) -> int:
        """As many items as the pair's tokens would spell."""
        return 1 + -(-len(self.titles[example.item]) // self.space.trie.depth)

    def loss(self, model: PreTrainedModel, examples: list[Pair]) -> tuple[Tensor, Tensor]:
        """Weighted sum of the negative log-probabilities (nats) of what is written, and of its tokens' weights."""
        total = weight = torch.zeros((), device=model.device)
        for way, own_weight, losses in ((True, self.to_id, self._ids), (False, self.to_title, self._titles)):
            if items := [pair.item for pair in examples if pair.to_id == way]:
                nats, count = losses(model, items)
                total, weight = total + own_weight * nats, weight + own_weight * count
        return total, weight

    def _ids(self, model: PreTrainedModel, items: list[int]) -> tuple[Tensor, int]:
        """Ids behind titles: the softmax runs over the codes that lead to an item."""
        rows = [np.concatenate([self.titles[item], self.space.history(np.array([item]))]) for item in items]
        hidden = self._hidden(model, rows)
        trie, chosen = self.space.trie, torch.tensor(items, device=model.device)
        start = [len(self.titles[item]) + self.space.lead for item in items]  # START, or the mark behind it
        first = torch.tensor(start, device=model.device)
        row, total = torch.arange(len(items), device=model.device), hidden.new_zeros(())
        none = torch.full((len(items), 1), -1, device=model.device)
        for level, columns in enumerate(self.space.columns):
            open_ = trie.allowed(trie.node[chosen, level].long()[:, None], level, none)[:, 0]
            logits = output_logits(model, hidden[row, first + level], columns)
            total = total - log_softmax(logits, open_)[row, trie.codes[chosen, level].long()].sum()
        return total, len(items) * trie.depth

    def _titles(self, model: PreTrainedModel, items: list[int]) -> tuple[Tensor, int]:
        """Titles behind ids: the softmax runs over the whole vocabulary."""
        ids = [self.space.history(np.array([item])) for item in items]
        rows = [np.concatenate([own, self.titles[item]]) for own, item in zip(ids, items, strict=True)]
        tokens, mask = (tensor.to(model.device) for tensor in pad(rows, 0))
        before = len(ids[0])
        log_probs = torch.log_softmax(output_logits(model, self._hidden(model, rows)[:, before - 1 : -1], None), -1)
        written = mask[:, before:] == 1
        return -log_probs.gather(2, tokens[:, before:, None])[..., 0][written].sum(), int(written.sum())

    @staticmethod
    def _hidden(model: PreTrainedModel, rows: list[Ints]) -> Tensor:
        tokens, _ = pad(rows, 0)
        return model.get_decoder()(input_ids=tokens.to(model.device), use_cache=False).last_hidden_state


@dataclass(frozen=True)
class MixedLessons:
    """Several lessons as one: a batch may hold examples of each."""

    parts: list[Lessons]

    @property
    def counts(self) -> dict[str, int]:
        """Those of all parts."""
        return {name: count for part in self.parts for name, count in part.counts.items()}

    def epoch(self, number: int) -> list[tuple[int, Any]]:
        """The examples of all parts, each with its part's number."""
        return [(index, example) for index, part in enumerate(self.parts) for example in part.epoch(number)]

    def size(self, example: tuple[int, Any]) -> int:
        """As the part says."""
        return self.parts[example[0]].size(example[1])

    def loss(self, model: PreTrainedModel, examples: list[tuple[int, Any]]) -> tuple[Tensor, Tensor]:
        """Sums over the parts."""
        total = weight = torch.zeros((), device=model.device)
        for index, part in enumerate(self.parts):
            if own := [example for number, example in examples if number == index]:
                nats, count = part.loss(model, own)
                total, weight = total + nats, weight + count
        return total, weight
