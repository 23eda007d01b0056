"""What the language-model stages ask of an action space whose corpus has tasks (RecIF's)."""

from typing import NamedTuple, Protocol

import numpy as np

from stages.action_spaces.base import ActionSpace, Prompts
from stages.corpus.histories import Ints


class Question(NamedTuple):
    """What a task's prompt says."""

    task: str
    condition: str
    """label_cond: a behaviour | interactive: a keyword | ""."""
    shown: Ints
    """Items, oldest first."""
    candidate: int = -1
    """label_pred: the item that is judged, -1 for none."""
    pool: Ints | None = None
    """Candidates, best first, where slates are picked from some."""
    messages: str = ""
    """The official prompt, JSON, where that is to be read in the place of all this."""
    behaviours: Ints = np.empty(0, np.int64)
    """label_cond, label_pred: [n] of each item shown the number in recif_parts.BEHAVIOURS of what the user did with it,
    -1 for none; empty where it is not told of any."""


class Tasked(ActionSpace, Protocol):
    """An action space whose corpus has tasks (RecIF's), where `answers` is not None."""

    official: bool
    """Whether test rows are asked by their messages."""
    item_tokens: float
    """Tokens that an item has, in the mean: how heavy a lesson of one answer, yes or no, is."""

    def task_prompts(self, asked: list[Question]) -> Prompts:
        """Prompts of tasks. Nothing is banned."""

    def standing_for(self, items: Ints) -> Ints:
        """Items [n] as those that their spelling stands for."""
