"""Semantic IDs (TIGER, OneRec): an item is one code per level, and every level has its own tokens.

Tokens, behind those of the model's own tokenizer if it has one: padding, start of a history, request for a slate, then
level 0's codes, level 1's, ...

Ids that a corpus brings, which items may share, are written as published, `<s_a_17>`: a code has the token of that name
where the tokenizer knows it, and only those in use have one. Of the items of an id, one stands for all: histories, what
is offered and what is written have that one (see stages/semantic_ids/published.py).
"""

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.action_spaces.base import Asking, Prompts, Question, pad
from stages.action_spaces.shared_ids import in_use, named_columns, shared_trie, standing
from stages.action_spaces.task_words import COUNT, Words
from stages.action_spaces.trie import Trie
from stages.core.errors import InputError
from stages.core.sections import SemanticIdPolicy
from stages.corpus.histories import Histories, Ints
from stages.policy.constrained import output_logits
from stages.semantic_ids.table import read_alike, read_codes

PADDING, START, SLATE, FIRST_CODE = 0, 1, 2, 3


class Actions:
    """The action space of `data/<dataset>/actions/semantic_id`."""

    LABELS = ("history", "slate")
    put_target = unaided = False

    def __init__(
        self,
        folder: Path,
        histories: Histories,
        tokenizer: PreTrainedTokenizerBase | None = None,
        policy: SemanticIdPolicy | None = None,
    ) -> None:
        """Read the ids of a catalogue. Raises InputError where an item has none or shares its own."""
        self.histories, self.item_count = histories, histories.item_count
        codes = read_codes(folder / "ids.parquet", self.item_count)
        self.alike = read_alike(folder / "ids.parquet")
        self.first_token = 0 if tokenizer is None else len(tokenizer)
        if self.alike is None:
            self.trie = Trie(codes)
            new = self.first_token + FIRST_CODE + np.arange(self.trie.size * codes.shape[1])
            columns = new.reshape(codes.shape[1], -1)
        else:
            used, codes = in_use(codes)
            self.trie = shared_trie(codes, self.alike)
            self.histories = standing(histories, self.alike)
            columns = named_columns(used, tokenizer, self.first_token + FIRST_CODE)
        self.tokens = columns[np.arange(codes.shape[1]), codes]  # [N, D]
        self.new_tokens = max(FIRST_CODE, int(columns.max()) + 1 - self.first_token)
        self.words = None if self.alike is None else Words(self.first_token + self.new_tokens)
        self.new_tokens += 0 if self.words is None else COUNT
        self.answers = None if self.words is None else self.words.answers
        self.item_tokens = codes.shape[1]
        self.columns = torch.from_numpy(columns)  # [D, C] token of each code
        self.fingerprint = hashlib.sha256(self.tokens.tobytes()).hexdigest()[:16]

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors."""
        self.trie.to(device)
        self.columns = self.columns.to(device)
        return self

    def history(self, items: Ints) -> Ints:
        """START, then the items' codes: [1 + D * items]."""
        return np.concatenate([[self.first_token + START], self.tokens[items].ravel()])

    def free(self) -> Self:
        """Raises InputError: codes that are no item's are no text that could be read."""
        raise InputError(
            "rl.free is for native text; where other action spaces run as well, set it for text alone: "
            "-S +backbones.<name>.spaces.text.rl.free=true"
        )

    def prompts(self, contexts: Ints, asking: Asking, wanted: Ints | None = None) -> Prompts:
        """Prompts of contexts [B, 2]; the whole catalogue can be recommended, whatever is wanted."""
        known = self.histories.items_before(contexts)
        return self.prompts_of(known, asking.history_items, asking.label, asking.exclude_seen)

    def prompts_of(
        self, known: list[Ints], history_items: int, label: str, exclude_seen: bool, only: list[Ints] | None = None
    ) -> Prompts:
        """Prompts of known items, oldest first, cut to the last `history_items` of them.

        All known items, not only those shown, are banned where the data set excludes seen items. only: for each context
        the items that may be recommended at all, such as those of a category or new ones.
        """
        end = np.array([self.first_token + SLATE] if label == "slate" else [], dtype=np.int64)
        tokens, mask = pad([np.concatenate([self.history(items[-history_items:]), end]) for items in known], 0)
        seen = [np.unique(items) if exclude_seen else items[:0] for items in known]
        if only is None:
            return Prompts(tokens, mask, pad(seen, -1)[0])
        seen = [np.intersect1d(own, listed) for own, listed in zip(seen, only, strict=True)]
        return Prompts(tokens, mask, pad(seen, -1)[0], pad([np.unique(listed) for listed in only], -1)[0])

    def task_prompts(self, asked: list[Question]) -> Prompts:
        """Prompts of RecIF's tasks, of published ids. Nothing is banned."""
        assert self.words is not None, "tasks come with published ids"
        rows = [np.concatenate([self.history(own.shown), self.words.asking(own.task, own.condition)]) for own in asked]
        tokens, mask = pad(rows, 0)
        return Prompts(tokens, mask, torch.full((len(rows), 1), -1))

    def standing_for(self, items: Ints) -> Ints:
        """Items [n] as those that their ids stand for."""
        return items if self.alike is None else self.alike[items]

    def offered(self, contexts: Ints) -> None:
        """The whole catalogue."""

    def walk(self, prompts: Prompts, slates: int, length: int) -> "CodeWalk":
        """Begin slates of distinct items. Raises InputError where a user has fewer than `length` left."""
        offered = self.item_count if prompts.only is None else (prompts.only >= 0).sum(1)
        if int((offered - (prompts.banned >= 0).sum(1)).min()) < length:
            raise InputError(
                f"a user has fewer than {length} items left that may be recommended; shorten rl.slate_length"
            )
        return CodeWalk(self, prompts, slates, length)

    def logits(self, model: PreTrainedModel, hidden: Tensor, prompts: Prompts, first: int = 0) -> Tensor:
        """Logits [B, K, S, C] of a level's codes, level by level; S is 1 or whole items."""
        levels = [(first + step) % self.trie.depth for step in range(min(hidden.shape[2], self.trie.depth))]
        parts = [
            output_logits(model, hidden[:, :, step :: self.trie.depth], self.columns[level])
            for step, level in enumerate(levels)
        ]
        return torch.stack(parts, 3).flatten(2, 3)


class CodeWalk:
    """Slates while they are written, code by code."""

    def __init__(self, space: Actions, prompts: Prompts, slates: int, length: int) -> None:
        self.space, self.prompts, self.written = space, prompts, 0
        self.shape = len(prompts.tokens), slates
        self.items = torch.full((*self.shape, length), -1, device=prompts.tokens.device)
        self._begin()

    @property
    def level(self) -> int:
        """Whose code comes next."""
        return self.written % self.space.trie.depth

    @property
    def place(self) -> Tensor:
        """[B, K] the item that is being written."""
        place = min(self.written // self.space.trie.depth, self.items.shape[2] - 1)
        return torch.full(self.shape, place, device=self.items.device)

    @property
    def writing(self) -> Tensor:
        """[B, K] whether there is more to write: the same for all."""
        whole = self.written == self.items.shape[2] * self.space.trie.depth
        return torch.full(self.shape, not whole, device=self.items.device)

    def open(self) -> Tensor:
        """[B, K, C] codes that lead to an item which may be named and is not in the slate."""
        return self.space.trie.allowed(self.node, self.level, self.prompts.banned, self.items, self.prompts.only)

    def towards(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The code [B, K] of the slates' next items at this level; there is one wherever there is an item."""
        item = items[:, :, self.written // self.space.trie.depth]
        return self.space.trie.codes[item, self.level].long(), item >= 0

    def take(self, choice: Tensor) -> Tensor:
        """Write a code of each slate; the tokens [B, K]."""
        trie, level = self.space.trie, self.level
        self.node = trie.advance(self.node, choice)
        self.written += 1
        if level == trie.depth - 1:
            self.items[:, :, self.written // trie.depth - 1] = trie.item_at(self.node)
            self._begin()
        return self.space.columns[level, choice]

    def _begin(self) -> None:
        self.node = self.space.trie.start(*self.shape)
