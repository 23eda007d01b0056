"""A context as text: who the user is, what they did lately by topic, their history, and the candidates."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.corpus.histories import Histories, Ints
from stages.rendering import templates as words

DAY = 86_400  # seconds


@dataclass(frozen=True)
class Renderer:
    """Renders contexts of one corpus. Item statistics and feedback come from what is before a context alone."""

    histories: Histories
    names: Sequence[str]
    tags: Sequence[Sequence[str]]
    """Categories of each item, as shown."""
    statistics: Sequence[str]
    """Popularity of each item in words, "" for none."""
    profiles: Sequence[str]
    timestamps: Ints | None
    """[interactions] Unix seconds, -1 where unknown; None: the log has none."""
    window_days: int
    """Days before a context's last interaction that count as recent."""

    def prompt(self, user: int, position: int, shown: int, pool: Sequence[int], length: int) -> str:
        """The prompt of a context (user, position): its last `shown` items, and the pool in the order given."""
        start = int(self.histories.offsets[user])
        return words.PROMPT.format(
            profile=self.profiles[user] or words.NO_PROFILE,
            activity=self._activity(start, start + position) or words.NO_ACTIVITY,
            history="\n".join(self._history(start + max(0, position - shown), start + position)) or words.NO_HISTORY,
            pool="\n".join(self._candidate(item) for item in pool),
            length=length,
        )

    def _history(self, start: int, end: int) -> list[str]:
        return [
            words.HISTORY_LINE.format(name=self.names[self.histories.item[at]], feedback=self._feedback(at))
            for at in range(start, end)
        ]

    def _feedback(self, at: int) -> str:
        said = [word for name, word in words.FEEDBACK.items() if self._carries(name, at)]
        return words.HISTORY_FEEDBACK.format(words=", ".join(said)) if said else ""

    def _carries(self, objective: str, at: int) -> bool:
        return objective in self.histories.feedback and bool(self.histories.feedback[objective][at])

    def _candidate(self, item: int) -> str:
        tags, statistics = self.tags[item], self.statistics[item]
        return words.POOL_LINE.format(
            name=self.names[item],
            tags=words.POOL_TAGS.format(categories=", ".join(tags)) if tags else "",
            statistics=words.POOL_STATISTICS.format(words=statistics) if statistics else "",
        )

    def _activity(self, start: int, end: int) -> str:
        """Behaviour counts by topic, recent and earlier, most frequent topic first."""
        recent = end
        if self.timestamps is not None and end > start and self.timestamps[end - 1] >= 0:
            since = self.timestamps[end - 1] - self.window_days * DAY
            known = self.timestamps[start:end]
            recent = start + int(np.argmax(known > since))  # in time order: the first within the window
        else:
            recent = start
        parts = [(words.WITHIN.format(days=self.window_days), recent, end), (words.EARLIER, start, recent)]
        told = [(when, self._topics(first, last)) for when, first, last in parts if last > first]
        return words.WINDOW_SEPARATOR.join(words.WINDOW.format(when=when, topics=topics) for when, topics in told)

    def _topics(self, start: int, end: int) -> str:
        items = self.histories.item[start:end]
        count = Counter(topic for item in items for topic in self.tags[item])
        told = []
        for topic, times in sorted(count.items(), key=lambda pair: (-pair[1], pair[0])):
            carried = {
                word: sum(
                    topic in self.tags[self.histories.item[at]] and self._carries(name, at) for at in range(start, end)
                )
                for name, word in words.FEEDBACK.items()
            }
            said = [words.FEEDBACK_COUNT.format(count=number, word=word) for word, number in carried.items() if number]
            feedback = words.TOPIC_FEEDBACK.format(words=", ".join(said)) if said else ""
            told.append(words.TOPIC.format(topic=topic, count=times) + feedback)
        return words.TOPIC_SEPARATOR.join(told)
