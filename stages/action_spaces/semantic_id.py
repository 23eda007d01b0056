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

from stages.action_spaces.base import Asking, Prompts, Walk, pad
from stages.action_spaces.code_walk import CodeWalk
from stages.action_spaces.messages import Messages
from stages.action_spaces.shared_ids import in_use, marks_of, named, named_columns, shared_trie, standing
from stages.action_spaces.task_words import COUNT, JUDGING, Words
from stages.action_spaces.tasked import Question
from stages.action_spaces.trie import Trie
from stages.core.errors import InputError
from stages.core.spelling_sections import SemanticIdPolicy
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
        self.item_tokens, self.marks = codes.shape[1], np.empty(0, np.int64)
        if policy is not None and policy.marks:
            if self.words is None:
                raise InputError(
                    "semantic_id.policy.marks is for ids that a corpus brings, as RecIF's; set it to false"
                )
            self.marks = marks_of(tokenizer, self.first_token + self.new_tokens)
            self.new_tokens = max(self.new_tokens, int(self.marks.max()) + 1 - self.first_token)
        self.lead, self.width = min(1, len(self.marks)), codes.shape[1] + len(self.marks)
        self.official = policy is not None and policy.prompts == "official"
        if self.official:
            self.messages = Messages(tokenizer, named(used, columns, self.marks), self.new_tokens)
            self.answers = self.messages.answers
        self.columns = torch.from_numpy(columns)  # [D, C] token of each code
        self.fingerprint = hashlib.sha256(self.tokens.tobytes() + self.marks.tobytes()).hexdigest()[:16]

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors."""
        self.trie.to(device)
        self.columns = self.columns.to(device)
        return self

    def history(self, items: Ints) -> Ints:
        """START, then the items' codes, in marks if there are any: [1 + W * items]."""
        return np.concatenate([[self.first_token + START], self._spelled(items)])

    def _spelled(self, items: Ints) -> Ints:
        before, behind = (np.broadcast_to(part, (len(items), len(part))) for part in np.split(self.marks, [self.lead]))
        return np.concatenate([before, self.tokens[items], behind], axis=1).ravel()

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
        end = np.concatenate([end, self.marks[: self.lead]])
        tokens, mask = pad([np.concatenate([self.history(items[-history_items:]), end]) for items in known], 0)
        seen = [np.unique(items) if exclude_seen else items[:0] for items in known]
        if only is None:
            return Prompts(tokens, mask, pad(seen, -1)[0])
        seen = [np.intersect1d(own, listed) for own, listed in zip(seen, only, strict=True)]
        return Prompts(tokens, mask, pad(seen, -1)[0], pad([np.unique(listed) for listed in only], -1)[0])

    def task_prompts(self, asked: list[Question]) -> Prompts:
        """Prompts of RecIF's tasks, of published ids. Nothing is banned."""
        assert self.words is not None, "tasks come with published ids"
        rows = [self._asked(own) for own in asked]
        tokens, mask = pad(rows, 0)
        return Prompts(tokens, mask, torch.full((len(rows), 1), -1))

    def _asked(self, own: Question) -> Ints:
        """History, with what was done with an item before it where that is told and is not what was done with the one
        before; task; and what comes before the answer: the candidate, or the mark that an id begins with.
        """
        end = self.marks[: self.lead] if own.task != JUDGING else self.marks[:0]
        if own.messages:
            return np.concatenate([self.messages.read(own.messages), end])
        if own.candidate >= 0:
            end = self._spelled(np.array([own.candidate]))
        runs = np.split(own.shown, np.flatnonzero(np.diff(own.behaviours)) + 1)
        heads = self.words.headings(own.behaviours)
        shown = [np.concatenate([head, self._spelled(run)]) for head, run in zip(heads, runs, strict=True)]
        start = [self.first_token + START]
        return np.concatenate([start, *shown, self.words.asking(own.task, own.condition), end])

    def standing_for(self, items: Ints) -> Ints:
        """Items [n] as those that their ids stand for."""
        return items if self.alike is None else self.alike[items]

    def offered(self, contexts: Ints) -> None:
        """The whole catalogue."""

    def walk(self, prompts: Prompts, slates: int, length: int) -> Walk:
        """Begin slates of distinct items. Raises InputError where a user has fewer than `length` left."""
        offered = self.item_count if prompts.only is None else (prompts.only >= 0).sum(1)
        if int((offered - (prompts.banned >= 0).sum(1)).min()) < length:
            raise InputError(
                f"a user has fewer than {length} items left that may be recommended; shorten rl.slate_length"
            )
        return CodeWalk(self, prompts, slates, length)

    def logits(self, model: PreTrainedModel, hidden: Tensor, prompts: Prompts, first: int = 0) -> Tensor:
        """Logits [B, K, S, C] of a level's codes, level by level; S is 1 or whole items, less the marks at their end.

        Marks are no choice: zeros.
        """
        count = hidden.shape[2]
        if count > 1 and len(self.marks):
            hidden = torch.nn.functional.pad(hidden, (0, 0, 0, len(self.marks)))
        parts = []
        for step in range(min(hidden.shape[2], self.width)):
            level, own = (first + step) % self.width, hidden[:, :, step :: self.width]
            if level < self.trie.depth:
                parts.append(output_logits(model, own, self.columns[level]))
            else:
                parts.append(own.new_zeros((*own.shape[:3], self.columns.shape[1]), dtype=torch.float32))
        return torch.stack(parts, 3).flatten(2, 3)[:, :, :count]
