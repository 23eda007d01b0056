"""Some users with their history and the slates of two rows side by side, for people to look at."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.corpus.histories import Histories

Ints = npt.NDArray[np.int64]

SHOWN = 8  # items of a history, the newest


@dataclass(frozen=True)
class Example:
    """One user of the test split."""

    user: str  # the source's name for him
    history: list[str]  # titles, the newest last
    target: str
    slates: dict[str, list[tuple[str, bool]]]
    """By row: titles in order, and whether each is the target."""


def choose(lists: Mapping[str, Ints], users: Ints, target: Ints, count: int, generator: np.random.Generator) -> Ints:
    """Users [count] to show, ascending: of each way in which two rows can hit or miss, equally many where there are.

    lists: slates [U, L] of two rows; users [U], target [U]. Drawn, so that nobody picks the flattering ones.
    """
    hits = [(own == target[:, None]).any(1) for own in lists.values()]
    ways = [hits[0] & ~hits[-1], ~hits[0] & hits[-1], hits[0] & hits[-1], ~hits[0] & ~hits[-1]]
    queues = [generator.permutation(np.flatnonzero(way)).tolist() for way in ways]
    chosen: list[int] = []
    while len(chosen) < count and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    return np.sort(users[chosen[:count]])


def examples(histories: Histories, lists: Mapping[str, Ints], users: Ints, chosen: Ints) -> list[Example]:
    """The chosen users in words; lists [U, L] of users [U] by row."""
    titles = histories.items["title"].to_pylist()
    names = histories.users["user_id"].to_pylist()
    found = []
    for user in chosen.tolist():
        target, at = int(histories.test[user]), int(np.searchsorted(users, user))
        slates = {
            row: [(titles[item] if item >= 0 else "(no item)", item == target) for item in own[at].tolist()]
            for row, own in lists.items()
        }
        history = [titles[item] for item in histories.context(user, "test")[-SHOWN:]]
        found.append(Example(names[user], history, titles[target], slates))
    return found
