"""Prompts in words as tokens of a model's tokenizer, cut so that they fit."""

import numpy as np
from transformers import PreTrainedTokenizerBase

from stages.core.errors import InputError
from stages.corpus.histories import Ints
from stages.rendering.chat import chat_form
from stages.rendering.prompts import Parts

WHERE = "text.policy, or the backbone's spaces.text.policy"  # the key that decides


class PromptTokens:
    """Turns texts into tokens; lines, which are met again and again, once each."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.chat = tuple(self.of(part, control=True) for part in chat_form(tokenizer))  # around a prompt
        self._known: dict[str, Ints] = {}

    def of(self, text: str, control: bool = False) -> Ints:
        """Tokens of a text; what looks like a control token in it, such as a title, is one where `control` says so."""
        found = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not control)
        return np.array(found, dtype=np.int64)

    def line(self, line: str) -> Ints:
        """Tokens of a line."""
        if line not in self._known:
            self._known[line] = self.of(line)
        return self._known[line]

    def fitted(self, parts: Parts, history_items: int, max_tokens: int, whose: str) -> Ints:
        """Tokens of a prompt with the last items of its history; the oldest are left out to keep to max_tokens.

        Raises InputError, with `whose` prompt it is, where it does not fit without any.
        """
        before = [self.of(line) for line in parts.head.splitlines(keepends=True)]
        behind = [self.line(line) for line in parts.tail.splitlines(keepends=True)]
        room = max_tokens - sum(map(len, (*self.chat, *before, *behind)))
        if room < 0:
            raise InputError(
                f"the prompt of {whose} has {max_tokens - room} tokens without any history, more than "
                f"max_tokens {max_tokens} ({WHERE}); raise that, or lower text.pool_size "
                "(of a task, text.tasks.pool_size)"
            )
        shown: list[Ints] = []
        for line in reversed(parts.history[-history_items:]):
            own = self.line(line)
            if (room := room - len(own)) < 0:
                break
            shown.append(own)
        return np.concatenate([self.chat[0], *before, *reversed(shown), *behind, self.chat[1]])
