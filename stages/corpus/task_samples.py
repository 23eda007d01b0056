"""What the logs that are learnt from say of RecIF's tasks: what is shown, and what was done next.

Truncated as published: 512 videos; 100 videos watched for long before 200 advertisements or 100 products; 10 videos of
each behaviour. A cut is drawn in the list that is asked about: what is before it is shown, what is right and what is
judged are of the TARGETS behind it; of a keyword's items the first TARGETS behind it, wherever they are.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.schema import TASK_FILES, TASK_LESSONS, TASK_POOLS, read
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, Ints
from stages.corpus.recif_parts import BEHAVIOURS, BY_BEHAVIOUR, JUDGING, PARTS, SHOWN
from stages.corpus.tasks import Tasks

TARGETS = 10
CANDIDATES = 4
LESSONS, POOLS = TASK_FILES  # of an action space whose prompts have pools
NONE = np.empty(0, np.int64)


class Sample(NamedTuple):
    """A prompt and what is right. See Question."""

    task: str
    condition: str  # a behaviour or a keyword, or ""
    shown: Ints
    answer: Ints  # each once
    candidate: int = -1  # label_pred: the item that is judged, -1 for none
    label: bool | None = None
    user: int = -1  # whose log it is of; -1 for none
    pool: Ints | None = None  # candidates, best first, where there are any
    behaviours: Ints = NONE  # label_cond, label_pred: [n] of each item shown, see Question


@dataclass(frozen=True)
class Logs:
    """Logs of users, domain by domain, as far as they may be seen."""

    histories: Histories
    lengths: Ints  # [U] the users' first interactions that may be seen
    starts: Ints  # [U + 1] of the logs
    parts: np.ndarray  # [interactions] index into PARTS
    known: np.ndarray  # [interactions] whether it is known if a video was watched for long
    keywords: dict[int, list[tuple[str, Ints]]]  # user -> keywords and their items

    @classmethod
    def of(cls, histories: Histories, tasks: Tasks, lengths: Ints, standing: Callable[[Ints], Ints]) -> "Logs":
        """Logs of a corpus with tasks. Users that are held out, and what is behind `lengths`, are no part of them.

        standing: items -> the items that stand for them, as `histories` has them.
        """
        words = {user: [(word, standing(items)) for word, items in own] for user, own in tasks.keywords().items()}
        return cls(histories, lengths, histories.offsets, tasks.parts(), tasks.longviews_known(), words)

    def epoch(self, seed: int, number: int) -> Iterator[Sample]:
        """The samples of an epoch, drawn from (seed, epoch, user), user by user."""
        for user in np.flatnonzero(self.lengths).tolist():
            for sample in self.samples(user, numpy_generator(seed, "tasks", number, user)):
                yield sample._replace(user=user)

    def samples(self, user: int, generator: np.random.Generator) -> list[Sample]:
        """One sample of each task that a user's log has something for; of label_pred and keywords, several."""
        lists = self._lists(user)
        watched = self._watched(lists["video"])
        return [
            *self._next("video", lists["video"], None, generator),
            *self._next("ad", lists["ad"], watched[-SHOWN["longview"] :], generator),
            *self._next("goods", lists["goods"], watched[-SHOWN["longview"] :], generator),
            *self._conditions(lists["video"], generator),
            *self._keywords(user, self.histories.item[lists["video"]], generator),
        ]

    def _lists(self, user: int) -> dict[str, Ints]:
        """Places of the user's interactions that may be seen, by domain, oldest first."""
        places = np.arange(self.starts[user], self.starts[user] + self.lengths[user])
        part = self.parts[places]
        return {
            name: places[np.isin(part, [index for index, own in enumerate(PARTS) if own.endswith(name)])]
            for name in ("video", "ad", "goods")
        }

    def _watched(self, videos: Ints) -> Ints:
        return self.histories.item[videos[self.histories.feedback["longview"][videos] == 1]]

    def _next(self, domain: str, places: Ints, before: Ints | None, generator: np.random.Generator) -> list[Sample]:
        if len(places) < 2:
            return []
        cut = int(generator.integers(1, len(places)))
        items = self.histories.item[places]
        shown = items[:cut][-SHOWN[domain] :]
        shown = shown if before is None else np.concatenate([before, shown])
        return [Sample({"goods": "product"}.get(domain, domain), "", shown, _once(items[cut : cut + TARGETS]))]

    def _keywords(self, user: int, videos: Ints, generator: np.random.Generator) -> list[Sample]:
        """One of interactive for each of the user's keywords that has items behind the cut."""
        if len(videos) < 2:
            return []
        cut = int(generator.integers(1, len(videos)))
        shown, later = videos[:cut][-SHOWN["video"] :], videos[cut:]
        right = [(word, _once(later[np.isin(later, items)])[:TARGETS]) for word, items in self.keywords.get(user, [])]
        return [Sample("interactive", word, shown, own) for word, own in right if len(own)]

    def _conditions(self, videos: Ints, generator: np.random.Generator) -> list[Sample]:
        """One of label_cond, for a behaviour that comes after the cut; CANDIDATES of label_pred, all of known label."""
        if len(videos) < 2:
            return []
        cut = int(generator.integers(1, len(videos)))
        items, after = self.histories.item[videos], slice(cut, cut + TARGETS)
        flags = np.stack([self.histories.feedback[name][videos] for name in BEHAVIOURS], axis=1) == 1
        by_behaviour = [items[:cut][flags[:cut, place]][-SHOWN["behaviour"] :] for place in range(len(BEHAVIOURS))]
        shown = np.concatenate(by_behaviour)
        told = np.repeat(np.arange(len(BEHAVIOURS)), [len(own) for own in by_behaviour])
        found = []
        if len(there := np.flatnonzero(flags[after, :-1].any(axis=0))):
            chosen = int(generator.choice(there))
            right = _once(items[after][flags[after, chosen]])
            found.append(Sample("label_cond", BEHAVIOURS[chosen], shown, right, behaviours=told))
        candidates = cut + generator.permutation(np.flatnonzero(self.known[videos[after]]))[:CANDIDATES]
        judged = [
            Sample(JUDGING, "", shown, NONE, int(items[place]), bool(flags[place, 0]), behaviours=told)
            for place in candidates
        ]
        return [*found, *judged]


def shown_last(task: str, shown: Ints, history_items: int) -> Ints:
    """What a prompt shows of it: the last `history_items`; of lists by behaviour all, as they are short."""
    return shown if task in BY_BEHAVIOUR else shown[-history_items:]


def drawn_samples(folder: Path) -> Callable[[int], Iterable[Sample]] | None:
    """What gives an epoch the samples that an action space's folder has with their pools, one draw after the other and
    again; None where it has none.
    """
    if not (folder / LESSONS).exists():
        return None
    table = read(folder / LESSONS, TASK_LESSONS)
    draws = int(pc.max(table["draw"]).as_py() or 0) + 1

    def epoch(number: int) -> Iterator[Sample]:
        own = table.filter(pc.equal(table["draw"], number % draws)).drop_columns("draw")
        names = own.column_names
        columns = [_arrays(own[name]) if pa.types.is_list(own[name].type) else own[name].to_pylist() for name in names]
        return (Sample(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))

    return epoch


def _arrays(lists: pa.ChunkedArray) -> list[Ints]:
    """A column of lists, none of them null, as views of one array."""
    return _split(pc.list_flatten(lists).to_numpy().astype(np.int64), pc.list_value_length(lists).to_numpy())


def _split(flat: Ints, lengths: Ints) -> list[Ints]:
    """Views of these lengths, one behind the other."""
    return np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else []


def pools_of(folder: Path, task: str) -> list[Ints] | None:
    """Pools of a task's test rows, where an action space's folder has them."""
    if not (folder / POOLS).exists():
        return None
    table = read(folder / POOLS, TASK_POOLS)
    own = table.filter(pc.equal(table["task"], task)).sort_by("sample")
    return _arrays(own["pool"])


def asked_samples(tasks: Tasks, task: str) -> list[Sample]:
    """A task's rows in order, with the items that what they show stands for; ids that no item has are not shown.

    Of label_pred the candidate, which the prompt names as well, is apart. What is right is left out: answers are ids,
    which several items may have.
    """
    table = tasks.table(task, ["condition", "shown", "behaviours", "candidate"])
    shown, candidate = _arrays(table["shown"]), table["candidate"].to_numpy().astype(np.int64)
    lengths = np.array([len(own) for own in shown], np.int64)
    owner, sid = np.repeat(np.arange(len(shown)), lengths), np.concatenate([*shown, candidate[:0]])
    item = tasks.ids.shown(sid)
    known = candidate[owner]
    asked = np.flatnonzero((known >= 0) & (sid == tasks.ids.sid[known]))
    last = np.r_[owner[asked][1:] != owner[asked][:-1], True][: len(asked)]
    item[asked[last]] = -1  # the question's own, which comes behind the history
    told = _arrays(table["behaviours"])
    rows = zip(table["condition"].to_pylist(), _split(item, lengths), told, candidate.tolist(), strict=True)
    return [
        Sample(task, condition, own[own >= 0], NONE, judged, behaviours=did[own >= 0] if len(did) else NONE)
        for condition, own, did, judged in rows
    ]


def in_order(sample: Sample) -> Ints:
    """What is shown as one list, oldest first, for whoever is told no behaviours. Lists by behaviour have no order in
    time: what was not wanted is left out, and what was watched for long, which most take for the newest, comes last.
    """
    if not len(sample.behaviours):
        return sample.shown
    wanted = np.flatnonzero(sample.behaviours != BEHAVIOURS.index("not_interested"))
    return sample.shown[wanted[np.argsort(-sample.behaviours[wanted], kind="stable")]]


def _once(items: Ints) -> Ints:
    """Each item at its first place."""
    return items[np.sort(np.unique(items, return_index=True)[1])]
