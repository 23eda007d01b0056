"""Native text (TextRec, Sec. 3.2): a slate is item names, one per line, picked from the candidates in the prompt.

A name is spelled by the model's own tokens and the line break that ends it, so that no name begins another;
stages/action_spaces/name_walk.py writes slates of them, and line_walk.py those that a model writes unaided.
"""

import hashlib
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from stages.action_spaces.base import Asking, Pool, Prompts, Walk, pad
from stages.action_spaces.line_walk import LineWalk
from stages.action_spaces.name_walk import NameWalk
from stages.action_spaces.pools import spelled_pool, with_wanted
from stages.action_spaces.prompt_tokens import WHERE, PromptTokens
from stages.action_spaces.tasked import Question
from stages.core.errors import InputError
from stages.core.schema import TASK_FILES
from stages.core.spelling_sections import TextPolicy
from stages.corpus.histories import Histories, Ints
from stages.policy.backbone import output_rows
from stages.policy.constrained import output_logits
from stages.policy.weights import loading
from stages.rendering.names import SEPARATOR
from stages.rendering.prompts import Renderer
from stages.rendering.table import read_text
from stages.rendering.task_prompts import TaskRenderer


class Actions:
    """The action space of `data/<dataset>/actions/text`."""

    LABELS = ("slate",)
    held = True  # whether slates are held to the pool
    official = False  # messages show Semantic IDs, and no names

    def __init__(
        self, folder: Path, histories: Histories, tokenizer: PreTrainedTokenizerBase | None, policy: TextPolicy
    ) -> None:
        """Read names, lines and pools. Raises InputError where they are not this corpus's."""
        self.item_count, self.histories, self.policy = histories.item_count, histories, policy
        self.put_target, self.unaided = policy.put_target, policy.loss == "full"
        text = read_text(folder, histories)
        self.pools = text.pools
        shown = text if policy.candidates == "lines" else replace(text, lines=text.names)
        self.tasks = TaskRenderer(policy.tasks, shown.names, shown.lines)
        self.has_tasks = (folder / TASK_FILES[1]).exists()
        self.renderer = Renderer.over(histories, shown, policy.window_days)
        self.new_tokens = 0
        if tokenizer is None:
            with loading(folder / "tokenizer", "not a tokenizer that can be loaded", "render"):
                tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            self.new_tokens = len(tokenizer)
        self.tokenizer = tokenizer
        self.spelling = PromptTokens(tokenizer)
        self._check()
        self.fingerprint = hashlib.sha256(self.names.tobytes()).hexdigest()[:16]

    def _check(self) -> None:
        """Raise InputError where names cannot be told apart in tokens, or pools leave a prompt no room."""
        if not len(self.spelling.of(SEPARATOR)):
            raise InputError("the backbone's tokenizer has no token for a line break; take another backbone")
        _, first, twins = np.unique(self.names, axis=0, return_index=True, return_inverse=True)
        if len(first) < self.item_count:
            one = int(np.flatnonzero(first[twins.ravel()] != np.arange(self.item_count))[0])
            pair = [self.renderer.names[item] for item in (first[twins.ravel()[one]], one)]
            raise InputError(f"the backbone's tokenizer spells two names alike, {pair[0]!r} and {pair[1]!r}")
        lines = (f"{line}\n" for line in self.renderer.lines)
        length = np.array([*(len(self.spelling.line(line)) for line in lines), 0])  # the last for none
        longest = int(length[self.pools].sum(1).max())
        if longest > self.policy.max_tokens:
            raise InputError(
                f"a pool has {longest} tokens, more than max_tokens {self.policy.max_tokens} ({WHERE}); raise that "
                "further, for profile and history, or lower text.pool_size"
            )

    @cached_property
    def names(self) -> Ints:
        """[N, D] tokens of each item's name and the line break behind it, -1 behind the last."""
        end = self.spelling.of(SEPARATOR)
        rows = [np.concatenate([self.spelling.of(name), end]) for name in self.renderer.names]
        return pad(rows, -1)[0].numpy()

    def to(self, device: torch.device | str) -> Self:
        """Nothing lies on a device but what prompts bring there."""
        return self

    def free(self) -> Self:
        """The same with slates of any tokens, read as lines of names."""
        found = copy(self)
        found.held, found.line_breaks = False, self.line_breaks  # which is known to all copies from now on
        return found

    def offered(self, contexts: Ints) -> Ints:
        """The pools of contexts [C, 2] as the retriever ranks them: [C, N], -1 for none."""
        return self.pools[self.histories.offsets[contexts[:, 0]] + contexts[:, 1]]

    def prompts(self, contexts: Ints, asking: Asking, wanted: Ints | None = None) -> Prompts:
        """Prompts of contexts [B, 2] and their pools; items that are wanted take the place of a pool's last ones."""
        pools = self.offered(contexts)
        if wanted is not None:
            triples = zip(contexts, pools, wanted, strict=True)
            pools = np.stack([with_wanted(own, items, np.random.default_rng(at)) for at, own, items in triples])
        rows = [self._prompt(*context, own, asking) for context, own in zip(contexts.tolist(), pools, strict=True)]
        tokens, mask = pad(rows, 0)
        return Prompts(tokens, mask, torch.full((len(rows), 1), -1), pool=spelled_pool(pools, self.names))

    def walk(self, prompts: Prompts, slates: int, length: int) -> Walk:
        """Begin slates of candidates, or of lines. Raises InputError where a pool holds fewer than `length`."""
        assert prompts.pool is not None
        if (fewest := int((prompts.pool.items >= 0).sum(1).min())) < length:
            raise InputError(
                f"a pool holds {fewest} candidates, fewer than the {length} of a slate; "
                "raise text.pool_size or shorten rl.slate_length"
            )
        if self.held:
            return NameWalk(prompts.pool, slates, length)
        return LineWalk(prompts.pool, slates, length, self.line_breaks, self.end_of_turn, self.parse)

    def logits(self, model: PreTrainedModel, hidden: Tensor, prompts: Prompts, first: int = 0) -> Tensor:
        """Logits [B, K, S, V] of the tokens of each user's pool, or of the vocabulary."""
        assert prompts.pool is not None
        if not self.held:
            return output_logits(model, hidden, None)
        rows = output_rows(model, prompts.pool.columns)  # [B, V, h]
        return torch.einsum("bksh,bvh->bksv", hidden, rows).float()

    @cached_property
    def read_back(self) -> list[str]:
        """[N] each item's name as its tokens are read: a tokenizer may write letters another way."""
        spelled = [row[row >= 0].tolist() for row in self.names]
        return [text.strip() for text in self.tokenizer.batch_decode(spelled, skip_special_tokens=True)]

    @cached_property
    def line_breaks(self) -> Tensor:
        """[V] how many line breaks each token holds."""
        texts = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
        return torch.tensor([text.count(SEPARATOR) for text in texts])

    @property
    def end_of_turn(self) -> int:
        """The token that ends what a model writes, -1 where the tokenizer has none."""
        return -1 if self.tokenizer.eos_token_id is None else int(self.tokenizer.eos_token_id)

    def parse(self, tokens: Tensor, pool: Pool, length: int) -> Tensor:
        """The candidates that the first lines of tokens [B, K, T] name, blanks around them aside: [B, K, length].

        -1 where a line is no candidate's name, or is missing: the null action. A token -1 is none.
        """
        numbers = [{self.read_back[item]: item for item in items if item >= 0} for items in pool.items.tolist()]
        found = []
        for slates, number in zip(tokens.tolist(), numbers, strict=True):
            written = [[token for token in slate if token >= 0] for slate in slates]
            for text in self.tokenizer.batch_decode(written, skip_special_tokens=True):
                lines = [*text.split(SEPARATOR), *[""] * length][:length]
                found.append([number.get(line.strip(), -1) for line in lines])
        return torch.tensor(found, device=tokens.device).view(*tokens.shape[:2], length)

    def _prompt(self, user: int, position: int, pool: Ints, asking: Asking) -> Ints:
        """Tokens of a context's prompt."""
        parts = self.renderer.parts(user, position, pool[pool >= 0], asking.slate_length)
        return self.spelling.fitted(parts, asking.history_items, self.policy.max_tokens, f"user {user}")

    def task_prompts(self, asked: list[Question]) -> Prompts:
        """Prompts of RecIF's tasks and their pools. Nothing is banned."""
        rows = []
        for own in asked:
            parts = self.tasks.parts(own.task, own.condition, own.shown, own.pool, own.candidate, own.behaviours)
            whose = f"a sample of {own.task}"
            rows.append(self.spelling.fitted(parts, len(parts.history), self.policy.max_tokens, whose))
        tokens, mask = pad(rows, 0)
        pool = None
        if asked[0].pool is not None:
            pool = spelled_pool(pad([own.pool for own in asked], -1)[0].numpy(), self.names)
        return Prompts(tokens, mask, torch.full((len(rows), 1), -1), pool=pool)

    @cached_property
    def answers(self) -> Ints | None:
        """[2] tokens of yes and no, where the corpus has tasks. Raises InputError where they begin alike."""
        if not self.has_tasks:
            return None
        found = np.array([self.spelling.of(word)[0] for word in ("yes", "no")])
        if found[0] == found[1]:
            raise InputError("the backbone's tokenizer begins `yes` and `no` alike; take another backbone")
        return found

    @cached_property
    def item_tokens(self) -> float:
        """Tokens of a name in the mean."""
        return float((self.names >= 0).sum(1).mean())

    def standing_for(self, items: Ints) -> Ints:
        """Names are all different."""
        return items
