"""Tokens for RecIF's tasks, for a policy that writes Semantic IDs and has no words: one per task, behaviour and answer.

A prompt is a history, then the task's token; for `interactive` the keyword's, one of BUCKETS by its hash. These are
forms of our own: official prompts are for models that read Chinese. The Semantic IDs that they show are the same.
"""

import hashlib

import numpy as np

from stages.corpus.histories import Ints
from stages.corpus.recif_parts import BEHAVIOURS, JUDGING

YES, NO = "yes", "no"
WORDS = ("video", "ad", "product", "interactive", "label_cond", *BEHAVIOURS, JUDGING, YES, NO)
BUCKETS = 256  # of keywords
COUNT = len(WORDS) + BUCKETS


class Words:
    """The tokens from `first` on."""

    def __init__(self, first: int) -> None:
        self.first = first

    def token(self, word: str) -> int:
        """Of one of WORDS."""
        return self.first + WORDS.index(word)

    def keyword(self, words: str) -> int:
        """Of a keyword, which it may share with others."""
        digest = hashlib.sha256(words.encode()).digest()
        return self.first + len(WORDS) + int.from_bytes(digest[:8], "little") % BUCKETS

    def asking(self, task: str, condition: str) -> Ints:
        """What stands behind a history to ask for a task: [1 or 2]. condition: a behaviour, a keyword, or ""."""
        found = [self.token(task)]
        if condition and task == "interactive":
            found.append(self.keyword(condition))
        elif condition:
            found.append(self.token(condition))
        return np.array(found, dtype=np.int64)

    def headings(self, behaviours: Ints) -> list[Ints]:
        """What stands before each run of items with one behaviour [n]: [0 or 1] each; one, empty, of no items."""
        runs = behaviours[np.r_[True, np.diff(behaviours) != 0]] if len(behaviours) else np.array([-1])
        return [np.array([self.token(BEHAVIOURS[run])] if run >= 0 else [], dtype=np.int64) for run in runs]

    @property
    def answers(self) -> Ints:
        """Yes and no: [2]."""
        return np.array([self.token(YES), self.token(NO)])
