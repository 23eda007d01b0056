"""What a user did lately, in a line: behaviour counts by topic, recent ones told apart from those before (Sec. 3.2).

    last 30 days: Drama 12 (9 liked), Comedy 4; before: Comedy 31 (17 liked), Action 8

Topics are the items' categories. "Last" is counted from the context's last interaction, not from the log's end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.corpus.histories import Histories, Ints
from stages.rendering import templates as words
from stages.rendering.items import shortened

DAY = 86_400  # seconds
NO_TIME = np.iinfo(np.int64).min  # before every known time
MOST_TOPICS = 5  # of a window
NO_TOPIC = "other"  # of items without a category
SILENT = "click"  # an objective that every interaction carries


class Pairs(NamedTuple):
    """Interactions with each topic of their item, in the order of the interactions."""

    topic: Ints  # [pairs] number of the topic
    start: Ints  # [interactions + 1] first pair of each interaction
    names: list[str]  # of the topics, in alphabetical order


@dataclass(frozen=True)
class Activity:
    """The interactions of a corpus, ready to be counted. Counting a context takes no loop over its history."""

    histories: Histories
    times: Ints
    """[interactions] Unix seconds, NO_TIME where unknown."""
    window_days: int

    def told(self, start: int, end: int) -> str:
        """The line for interactions start:end of one user; "" for none. Without a last time there is one window."""
        if start == end:
            return ""
        if (last := int(self.times[end - 1])) == NO_TIME:
            return self._topics(start, end)
        older = np.flatnonzero(self.times[start:end] <= last - self.window_days * DAY)
        recent = start + int(older[-1]) + 1 if len(older) else start
        parts = [(words.WITHIN.format(days=self.window_days), recent, end), (words.EARLIER, start, recent)]
        return words.WINDOW_SEPARATOR.join(
            words.WINDOW.format(when=when, topics=self._topics(first, stop))
            for when, first, stop in parts
            if stop > first
        )

    def _topics(self, start: int, end: int) -> str:
        """Topics of interactions start:end, most frequent first, then by name."""
        pairs = self._pairs
        own = slice(int(pairs.start[start]), int(pairs.start[end]))
        count = np.bincount(pairs.topic[own])
        most = [topic for topic in np.argsort(-count, kind="stable")[:MOST_TOPICS].tolist() if count[topic]]
        carried = {
            word: np.bincount(pairs.topic[own], weights=each[own])[most].astype(int).tolist()
            for word, each in self._carried.items()
        }
        told = []
        for place, (topic, times) in enumerate(zip(most, count[most].tolist(), strict=True)):
            said = [
                words.FEEDBACK_COUNT.format(count=numbers[place], word=word)
                for word, numbers in carried.items()
                if numbers[place]
            ]
            feedback = words.TOPIC_FEEDBACK.format(words=", ".join(said)) if said else ""
            told.append(words.TOPIC.format(topic=pairs.names[topic], count=times) + feedback)
        return words.TOPIC_SEPARATOR.join(told)

    @cached_property
    def _pairs(self) -> Pairs:
        lists = self.histories.items["categories"].to_pylist()
        topics = [list(dict.fromkeys(filter(None, map(shortened, row or [])))) or [NO_TOPIC] for row in lists]
        names = sorted({name for row in topics for name in row})
        number = {name: place for place, name in enumerate(names)}
        flat = np.array([number[name] for row in topics for name in row], dtype=np.int64)
        length = np.array([len(row) for row in topics], dtype=np.int64)
        first = np.cumsum(length) - length
        item = self.histories.item
        start = np.concatenate([[0], np.cumsum(length[item])])
        place = np.arange(start[-1]) - np.repeat(start[:-1], length[item])
        return Pairs(flat[np.repeat(first[item], length[item]) + place], start, names)

    @cached_property
    def _carried(self) -> dict[str, npt.NDArray[np.float64]]:
        """Feedback word -> [pairs] 1 where the interaction carries it."""
        times = np.diff(self._pairs.start)
        found = feedback_words(self.histories.feedback)
        return {word: np.repeat(carried, times).astype(np.float64) for word, carried in found.items()}


def feedback_words(feedback: Mapping[str, npt.NDArray[np.int8]]) -> dict[str, npt.NDArray[np.int8]]:
    """The objectives that a prompt tells, by what they are called there: those of templates.FEEDBACK, then others."""
    known = [name for name in words.FEEDBACK if name in feedback]
    others = [name for name in feedback if name not in words.FEEDBACK and name != SILENT]
    return {words.FEEDBACK.get(name, name.replace("_", " ")): feedback[name] for name in known + others}
