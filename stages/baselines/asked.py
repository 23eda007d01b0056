"""What baselines are asked for: lists behind contexts, of the histories' users and of RecIF's tasks alike.

Every baseline answers through `Ranker`. Nothing here needs torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stages.corpus.histories import Histories, Ints

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Lists = tuple[Ints, Floats]
"""Items [B, n], best first, -1 where there is none, and their scores [B, n], 0 where there is none."""


@dataclass(frozen=True)
class Asked:
    """Lists behind B contexts; or, where there are candidates, the score of one item behind each."""

    split: str
    """Of the slates."""
    contexts: Sequence[Ints]
    """B times the items that are known, oldest first. A task's sample may have none."""
    length: int
    """n, items per list."""
    users: Ints | None = None
    """[B] whose contexts these are; None where nobody is told, as in tasks."""
    exclude_seen: bool = False
    """Whether lists leave out the items of their context."""
    among: Ints | None = None
    """The items that it is about, ascending; None: the whole catalogue."""
    candidates: Ints | None = None
    """[B] the items to score in the place of lists, -1 for one that the corpus does not have."""

    def __post_init__(self) -> None:
        assert self.among is None or not self.exclude_seen, "lists of tasks may hold what is shown"

    def part(self, rows: Ints) -> "Asked":
        """The same of some contexts, by their numbers."""
        users = None if self.users is None else self.users[rows]
        candidates = None if self.candidates is None else self.candidates[rows]
        return replace(self, contexts=[self.contexts[row] for row in rows], users=users, candidates=candidates)

    def parts(self, size: int) -> "list[Asked]":
        """The same, so many contexts at a time."""
        every = np.arange(len(self.contexts))
        return [self.part(every[start : start + size]) for start in range(0, len(every), size)]

    @property
    def hidden(self) -> list[Ints]:
        """B times the items that a list leaves out."""
        return [own if self.exclude_seen else own[:0] for own in self.contexts]

    def named(self, place: Ints) -> Ints:
        """The items at places [..] among those that it is about, -1 for none."""
        return place if self.among is None else np.where(place >= 0, self.among[place], -1)

    def answered(self, ranker: "Ranker") -> Lists:
        """What a baseline says: lists; or the candidates as lists of one item, with NaN where there is no score."""
        if self.candidates is None:
            if not len(self.contexts) or (self.among is not None and not len(self.among)):
                return np.full((len(self.contexts), self.length), -1), np.zeros((len(self.contexts), self.length))
            return ranker.ranked(self)
        known, scores = np.flatnonzero(self.candidates >= 0), np.full(len(self.candidates), np.nan)
        if len(known):
            scores[known] = ranker.judged(self.part(known))
        return self.candidates[:, None], scores[:, None]


class Ranker(Protocol):
    """A baseline that is ready to recommend."""

    def ranked(self, asked: Asked) -> Lists:
        """The best items behind each context. Equal scores: lower item number first, unless the baseline says more."""

    def judged(self, asked: Asked) -> Floats:
        """[B] the score of each candidate, all of them items; NaN where the baseline has none."""


def of_users(histories: Histories, split: str, users: Ints, exclude_seen: bool, length: int) -> Asked:
    """Lists for users [B] of the histories, before their targets in the split."""
    contexts = histories.items_before(histories.contexts(users, split))
    return Asked(split, contexts, length, users, exclude_seen)
