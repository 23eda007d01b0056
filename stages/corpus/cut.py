"""From a source's log to the corpus: time order, k-core, dense numbers, leave-one-out split, cold items, feedback.

No file is known here; the tables are those of stages/core/schema.py. Nothing vanishes uncounted: what came in is what
is kept plus what `Cut.dropped` lists by reason.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.core import schema
from stages.core.corpora import Corpus, Feedback
from stages.core.errors import InputError
from stages.corpus.item_text import at_level
from stages.corpus.numbering import UNKNOWN, Bits, Codes, Ints, NumberedLog, number
from stages.corpus.ordering import Mask, core, counted, first_ones, gathered, kept, latest, ordered, owners
from stages.corpus.raw_log import RawLog

ROWS = 1 << 20  # of a table: the row groups that pyarrow writes


@dataclass(frozen=True)
class Cut:
    """The corpus as arrays, and what was left out of it, by reason. U users, N items, n interactions."""

    raw: RawLog
    rules: dict[str, Feedback]
    category_level: int | None
    rows: Codes  # [n] of the log, sorted by user, then time
    offsets: Ints  # [U + 1] where each user begins among them
    item: Codes  # [n]
    timestamp: Ints  # [n] UNKNOWN where null
    bits: Bits  # [n] bit c is R_m of objective c of those that a column gives
    carriers: tuple[str, ...]  # those
    user_ids: pa.Array  # [U]
    user_rows: Ints  # [U] of the users table
    item_ids: pa.Array  # [N]
    item_rows: Ints  # [N] of the catalogue
    split: npt.NDArray[np.int8]  # [n] index into schema.EVERY_SPLIT
    train_count: Ints  # [N]
    cold: Mask  # [N]
    dropped: dict[str, int]

    @cached_property
    def tail(self) -> Mask:
        """[N] training count at most the median: at least half of the items, with all that tie with it."""
        return np.asarray(self.train_count <= np.median(self.train_count))

    def user(self, start: int, end: int) -> Ints:
        """Users of a range of interactions."""
        return owners(self.offsets, start, end)

    def carried(self, objective: str, start: int, end: int) -> npt.NDArray[np.int8]:
        """R_m of a range of interactions, 0 or 1."""
        rule = self.rules[objective].rule
        if rule == "any":
            return np.ones(end - start, dtype=np.int8)
        if rule == "tail":
            return self.tail[self.item[start:end]].astype(np.int8)
        return (self.bits[start:end] >> self.carriers.index(objective) & 1).astype(np.int8)

    @property
    def is_long(self) -> bool:
        """Whether the interactions are more than one row group."""
        return len(self.rows) > ROWS

    @property
    def interactions_schema(self) -> pa.Schema:
        return pa.schema([*schema.INTERACTIONS, *((name, pa.int8()) for name in self.rules)])

    def interactions(self) -> Iterator[pa.Table]:
        """The table, ROWS rows at a time."""
        names = pa.array(schema.EVERY_SPLIT)
        for start in range(0, len(self.rows), ROWS):
            end = min(start + ROWS, len(self.rows))
            user, stamp = self.user(start, end), self.timestamp[start:end]
            columns = {
                "user": user,
                "item": self.item[start:end],
                "position": np.arange(start, end) - self.offsets[user],
                "timestamp": pa.array(stamp, mask=stamp == UNKNOWN),
                "split": pa.DictionaryArray.from_arrays(pa.array(self.split[start:end]), names).cast(pa.string()),
                **{name: self.carried(name, start, end) for name in self.rules},
            }
            kinds = self.interactions_schema
            arrays = [_as(columns[field.name], field.type) for field in kinds]
            yield pa.table(arrays, schema=kinds)

    def items(self) -> Iterator[pa.Table]:
        """The table, ROWS rows at a time."""
        start = 0
        for told in _pieces(self.raw.describe(self.item_rows, self.item_ids)):
            end = start + told.num_rows
            columns = {
                "item": np.arange(start, end),
                "item_id": self.raw.named(self.item_ids[start:end]),
                "title": told["title"],
                "text": told["text"],
                "categories": at_level(told["categories"].combine_chunks(), self.category_level),
                "train_count": self.train_count[start:end],
                "cold": self.cold[start:end],
            }
            yield pa.table([_as(columns[field.name], field.type) for field in schema.ITEMS], schema=schema.ITEMS)
            start = end
        assert start == len(self.item_rows), "the source described other items than those asked for"

    def users(self) -> pa.Table:
        """The table."""
        profile = [] if self.raw.users is None else [name for name in self.raw.users.column_names if name != "user_id"]
        rows = pa.array(self.user_rows)
        columns = [self.user_ids, *(self.raw.users[name].take(rows) for name in profile)]
        fields = pa.schema([*schema.USERS, *((name, pa.string()) for name in profile)])
        numbers = pa.array(np.arange(len(rows)), pa.int32())
        return pa.table([numbers, *(_as(column, pa.string()) for column in columns)], schema=fields)


def cut(raw: RawLog, settings: Corpus) -> Cut:
    """Number, order and cut a log. Raises InputError that lists every fault of the data, or where nothing is left, or
    where an objective has the name of a column.
    """
    taken = [name for name in settings.feedback if name in schema.INTERACTIONS.names]
    if taken:
        raise InputError(f"feedback.{taken[0]}: the name is a column of the interactions; choose another")
    log = number(raw, settings.feedback)
    pa.default_memory_pool().release_unused()  # what reading took, twice the numbers of a long log
    rows, offsets = ordered(log, settings.tie_order, raw.names[0], raw.faults)
    keep, dropped = _kept_rows(log, rows, offsets, settings)
    rows, offsets = kept(rows, offsets, keep)
    if not len(rows):
        raise InputError(f"k_core {settings.k_core} leaves none of the {len(log.user):,} interactions; lower it")
    length = np.diff(offsets)
    seen_users, user_rows = int((counted(log.user, len(log.user_ids)) > 0).sum()), np.flatnonzero(length)
    seen_items = int((counted(log.item, len(log.item_ids)) > 0).sum())
    present = np.zeros(len(log.item_ids), dtype=bool)
    present[log.item[keep]] = True
    item_rows, item_number = np.flatnonzero(present), (np.cumsum(present) - 1).astype(np.int32)
    item = gathered(item_number, gathered(log.item, rows))
    split = leave_one_out(length[user_rows]) if log.split is None else gathered(log.split, rows)
    train_count = counted(item[split == 0], len(item_rows))
    return Cut(
        raw=raw,
        rules=settings.feedback,
        category_level=settings.category_level,
        rows=rows,
        offsets=np.concatenate([[0], np.cumsum(length[user_rows])]),
        item=item,
        timestamp=gathered(log.timestamp, rows),
        bits=gathered(log.carried, rows),
        carriers=log.carriers,
        user_ids=log.user_ids.take(pa.array(user_rows)),
        user_rows=user_rows,
        item_ids=log.item_ids.take(pa.array(item_rows)),
        item_rows=item_rows,
        split=split,
        train_count=train_count,
        cold=cold_items(train_count, settings.cold_share, settings.cold_ties),
        dropped={
            "users: no interaction": 0 if raw.users is None else raw.users.num_rows - seen_users,
            "users: below k_core": seen_users - len(user_rows),
            "items: no interaction": len(log.item_ids) - seen_items,
            "items: below k_core": seen_items - len(item_rows),
            **raw.dropped,
            **dropped,
        },
    )


def _kept_rows(log: NumberedLog, rows: Codes, offsets: Ints, settings: Corpus) -> tuple[Mask, dict[str, int]]:
    """Which interactions are kept, [n] in file order, and how many are not, by reason."""
    keep, dropped = np.ones(len(rows), dtype=bool), {}
    left = len(rows)
    if settings.repeats == "first":
        keep = first_ones(log, rows, offsets)
        dropped["interactions: an item that the user had before"] = left - (left := int(keep.sum()))
    if settings.max_history is not None:
        keep = latest(rows, offsets, keep, settings.max_history)
        dropped["interactions: before the last max_history"] = left - (left := int(keep.sum()))
    keep = core(log.user, log.item, settings.k_core, keep)
    return keep, {**dropped, "interactions: below k_core": left - int(keep.sum())}


def leave_one_out(length: Ints) -> npt.NDArray[np.int8]:
    """Index into schema.SPLITS of each interaction, sorted by user, then time, of users with so many: the last is test,
    the last but one valid. A user with fewer than 3 interactions is wholly train: nothing would be left to learn from.
    """
    end = np.cumsum(length)
    split = np.zeros(length.sum(), dtype=np.int8)
    split[end[length >= 3] - 1] = schema.SPLITS.index("test")
    split[end[length >= 3] - 2] = schema.SPLITS.index("valid")
    return split


def cold_items(train_count: Ints, share: float, ties: str) -> Mask:
    """Which items are cold: the `share` of the N items with the lowest training frequency (Sec. 4.1.3).

    n = floor(share * N) items are due. Where the n-th and the next have the same count, the cut falls inside a tie:
    `include` takes the whole tie, `exclude` none of it, `exact` its first items by number, so that n are cold.
    """
    due = math.floor(share * len(train_count) + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if not due:
        return np.zeros(len(train_count), dtype=bool)
    ranked = np.argsort(train_count, kind="stable")
    last = train_count[ranked[due - 1]]
    if ties == "exact":
        cold: Mask = np.zeros(len(train_count), dtype=bool)
        cold[ranked[:due]] = True
        return cold
    inside_tie = due < len(ranked) and train_count[ranked[due]] == last
    return np.asarray(train_count < last if ties == "exclude" and inside_tie else train_count <= last)


def _pieces(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, ROWS at a time."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(part.num_rows for part in waiting) >= ROWS:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, ROWS).combine_chunks()
            waiting = [whole.slice(ROWS)]
    if rest := [part for part in waiting if part.num_rows]:
        yield pa.concat_tables(rest).combine_chunks()


def _as(column: pa.Array | pa.ChunkedArray | npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    """One array of a type."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.cast(kind) if isinstance(column, pa.Array) else pa.array(column, kind)
