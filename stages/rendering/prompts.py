"""A context as text: who the user is, what they did lately by topic, their history, and the candidates (Sec. 3.2).

Everything comes from what is before the context; names, candidates' lines and profiles are those of the whole corpus.
Left out: how much of it a model has room for. Whoever builds the prompt drops lines of the history, oldest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from stages.corpus.histories import Histories, Ints
from stages.rendering import templates as words
from stages.rendering.activity import Activity, feedback_words
from stages.rendering.table import Text

HEAD, TAIL = words.PROMPT.split("{history}\n")


class Parts(NamedTuple):
    """A prompt is head + "".join(history) + tail."""

    head: str
    history: list[str]  # a line per item, oldest first; line breaks included
    tail: str

    @property
    def whole(self) -> str:
        return self.head + "".join(self.history) + self.tail


@dataclass(frozen=True)
class Renderer:
    """Renders contexts of one corpus."""

    histories: Histories
    names: Sequence[str]
    lines: Sequence[str]
    """Each item as a candidate."""
    profiles: Sequence[str]
    activity: Activity

    @classmethod
    def over(cls, histories: Histories, text: Text, window_days: int) -> Self:
        """window_days: the days before a context's last interaction whose behaviour is told apart."""
        return cls(histories, text.names, text.lines, text.profiles, Activity(histories, text.times, window_days))

    def parts(self, user: int, position: int, pool: Ints, length: int) -> Parts:
        """The prompt of a user's first `position` interactions that asks for `length` items out of a pool [N], -1 for
        none, which is shown in its order.
        """
        start = int(self.histories.offsets[user])
        head = HEAD.format(
            profile=self.profiles[user] or words.NO_PROFILE,
            activity=self.activity.told(start, start + position) or words.NO_ACTIVITY,
        )
        shown = "\n".join([self.lines[item] for item in pool.tolist() if item >= 0])
        history = self._history[start : start + position] or [words.NO_HISTORY + "\n"]
        return Parts(head, history, TAIL.format(pool=shown, length=length))

    @cached_property
    def _history(self) -> list[str]:
        """The line of every interaction; what is the same line is one string."""
        item = self.histories.item
        feedback = feedback_words(self.histories.feedback)
        code = np.zeros(len(item), dtype=np.int64)  # a bit per word
        for bit, carried in enumerate(feedback.values()):
            code |= carried.astype(np.int64) << bit
        kinds, kind = np.unique(np.stack([item, code]), axis=1, return_inverse=True)
        lines = []
        for number, own in kinds.T.tolist():
            said = [word for bit, word in enumerate(feedback) if own >> bit & 1]
            told = words.HISTORY_FEEDBACK.format(words=", ".join(said)) if said else ""
            lines.append(words.HISTORY_LINE.format(name=self.names[number], feedback=told) + "\n")
        return [lines[place] for place in kind.tolist()]
