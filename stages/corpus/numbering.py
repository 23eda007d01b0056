"""From a raw log's batches to integer arrays: the numbers that `cut` works on.

Per interaction 8 bytes of user and item, 8 of timestamp, 4 where that is finer than seconds, 8 of position where there
is one, and 1, 2, 4 or 8 for up to 8, 16, 32 or 64 objectives that a column gives: a log of 120 million takes 2 GB.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.corpora import Feedback
from stages.core.stage import progress
from stages.corpus.faults import where
from stages.corpus.raw_log import BEYOND, ROW, SPLIT, RawLog

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Bits = npt.NDArray[np.unsignedinteger[Any]]
UNKNOWN = np.iinfo(np.int64).min  # null as an int64
MOST = 64  # objectives that read a column: the bits of a number
WAITING = 1 << 20  # ids


@dataclass(frozen=True)
class NumberedLog:
    """n interactions in file order."""

    user: Codes  # [n] row of the users table
    item: Codes  # [n] row of the catalogue
    position: Ints | None  # [n] UNKNOWN where null, which is a fault
    timestamp: Ints  # [n] UNKNOWN where null
    carried: Bits  # [n] bit c is R_m, 0 or 1, of objective c of those that a column gives
    carriers: tuple[str, ...]  # those
    user_ids: pa.Array
    item_ids: pa.Array
    beyond: Codes | None = None  # [n] nanoseconds of the timestamp, if any has some
    split: npt.NDArray[np.int8] | None = None  # [n] index into schema.EVERY_SPLIT, where the source divides its users

    @property
    def order(self) -> Ints:
        """[n] what sorts a user's interactions."""
        return self.timestamp if self.position is None else self.position


def number(raw: RawLog, rules: dict[str, Feedback]) -> NumberedLog:
    """Read the batches. What is wrong with them, and a feedback rule that names no column of theirs, is added to
    raw.faults; a row of an unknown id has the number -1.
    """
    log_file, items_file, users_file = raw.names
    users = _Seen() if raw.users is None else _Listed(raw.users["user_id"].combine_chunks())
    items = _Seen() if raw.item_ids is None else _Listed(raw.item_ids)
    carriers = _carriers(raw, rules)
    carried = _Column(np.min_scalar_type((1 << len(carriers)) - 1))
    position, timestamp = _Column(np.int64), _Column(np.int64)
    beyond, split = _Column(np.int32), _Column(np.int8)  # as long as the others, or empty
    start, ordered = 0, False
    for batch in progress(raw.batches, f"batches of {log_file}"):
        rows = batch[ROW] if ROW in batch.column_names else pa.array(np.arange(start, start + batch.num_rows))
        for numbers, name, other in ((users, "user_id", users_file), (items, "item_id", items_file)):
            ids = batch[name].combine_chunks()
            unknown = pc.and_(pc.is_valid(ids), where(numbers.add(ids) < 0))
            raw.faults.rows(f"{log_file}: {name} that {other} does not have", unknown, rows, ids)
        timestamp.add(batch["timestamp"].fill_null(UNKNOWN).to_numpy())
        if BEYOND in batch.column_names:
            beyond.add(np.zeros(start - beyond.length, np.int32))
            beyond.add(batch[BEYOND].to_numpy())
        elif beyond.length:
            beyond.add(np.zeros(batch.num_rows, np.int32))
        if ordered := "position" in batch.column_names:
            position.add(batch["position"].fill_null(UNKNOWN).to_numpy())
        if SPLIT in batch.column_names:
            split.add(batch[SPLIT].to_numpy())
        bits = np.zeros(batch.num_rows, carried.room.dtype)
        for bit, name in enumerate(carriers):
            bits |= carries(rules[name], batch[rules[name].reads(name)]).astype(bits.dtype) << bit
        carried.add(bits)
        start += batch.num_rows
    if not start:
        raw.faults.add(f"{log_file}: holds no rows")
    (user, user_ids), (item, item_ids) = users.numbered(), items.numbered()
    return NumberedLog(
        user=user,
        item=item,
        position=position.whole if ordered else None,
        timestamp=timestamp.whole,
        carried=carried.whole,
        carriers=carriers,
        user_ids=user_ids,
        item_ids=item_ids,
        beyond=beyond.whole if beyond.length else None,
        split=split.whole if split.length else None,
    )


def _carriers(raw: RawLog, rules: dict[str, Feedback]) -> tuple[str, ...]:
    """The objectives that read a column of the log. Those that name one that is not there are faults, and too many."""
    found = []
    for name, rule in rules.items():
        column = rule.reads(name)
        if column in raw.columns:
            found.append(name)
        elif column is not None:
            key = f"feedback.{name}" if rule.rule == "flag" else f"feedback.{name}.column"
            raw.faults.add(
                f"{key}: the log has no numeric column '{column}'; it has: {', '.join(raw.columns) or 'none'}"
            )
    if len(found) > MOST:
        raw.faults.add(f"feedback: {len(found)} objectives read a column of the log; at most {MOST} can")
    return tuple(found[:MOST])


def carries(rule: Feedback, column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    """R_m of each row, 0 or 1, by a rule that looks at a column; null and NaN are no feedback."""
    values = column.cast(pa.float64(), safe=False)
    if rule.rule == "flag":
        found = pc.and_(pc.not_equal(values, 0.0), pc.invert(pc.is_nan(values)))
    else:
        found = pc.greater_equal(values, rule.threshold)
    return np.asarray(found.fill_null(False).cast(pa.int8()).to_numpy())


class _Column:
    """An array that grows. Its room is doubled where it ends: what is not written to yet takes no memory on Linux."""

    def __init__(self, kind: npt.DTypeLike) -> None:
        self.room, self.length = np.empty(0, dtype=kind), 0

    def add(self, values: npt.NDArray[Any]) -> None:
        end = self.length + len(values)
        if end > len(self.room):
            wider = np.empty(max(end, 2 * len(self.room)), self.room.dtype)
            wider[: self.length] = self.whole
            self.room = wider
        self.room[self.length : end] = values
        self.length = end

    @property
    def whole(self) -> npt.NDArray[Any]:
        return self.room[: self.length]


class _Listed:
    """Numbers of ids that a table lists: their rows in it, which the source may give in the ids' place, as int32."""

    def __init__(self, table: pa.Array) -> None:
        self.table, self.codes = table, _Column(np.int32)

    @cached_property
    def index(self) -> "pd.Index[Any]":
        return _index(self.table)

    def add(self, ids: pa.Array) -> Codes:
        """[n] the numbers of ids, -1 where the table has none; null has none either."""
        if ids.type == pa.int32():
            codes = np.asarray(ids.to_numpy())
        else:
            codes = self.index.get_indexer(_values(ids)).astype(np.int32)
        if ids.null_count:
            codes[ids.is_null().to_numpy(zero_copy_only=False)] = -1
        self.codes.add(codes)
        return codes

    def numbered(self) -> tuple[Codes, pa.Array]:
        """The numbers of all that was added, and every id, by number."""
        return self.codes.whole, self.table


class _Seen:
    """Numbers of ids that no table lists: the order of first appearance. A batch's ids have numbers of their own until
    the table takes them up, once as many wait as it holds: a hash table of millions is made a few times, not per batch.
    """

    def __init__(self) -> None:
        self.codes, self.table = _Column(np.int32), None
        self.parts = list[tuple[int, pa.Array]]()  # where in `codes` a batch begins, and its ids

    def add(self, ids: pa.Array) -> Codes:
        """[n] the numbers of ids among the batch's, -1 where null."""
        encoded = ids.dictionary_encode()
        codes = np.asarray(encoded.indices.fill_null(-1).to_numpy())
        self.parts.append((self.codes.length, encoded.dictionary))
        self.codes.add(codes)
        if sum(len(part) for _, part in self.parts) > max(WAITING, 0 if self.table is None else len(self.table)):
            self._take_up()
        return codes

    def numbered(self) -> tuple[Codes, pa.Array]:
        """The numbers of all that was added, and every id, by number."""
        self._take_up()
        return self.codes.whole, pa.array([], pa.string()) if self.table is None else self.table

    def _take_up(self) -> None:
        if not self.parts:
            return
        ids = pa.concat_arrays([part for _, part in self.parts])
        self.table = pc.unique(ids if self.table is None else pa.chunked_array([self.table, ids]))
        numbers = np.asarray(pc.index_in(ids, self.table).to_numpy())
        ends, first = [*(start for start, _ in self.parts[1:]), self.codes.length], 0
        for (start, part), end in zip(self.parts, ends, strict=True):
            codes = self.codes.whole[start:end]
            codes[:] = np.append(numbers[first : first + len(part)], -1)[codes]
            first += len(part)
        self.parts.clear()


def _index(table: pa.Array) -> "pd.Index[Any]":
    """Where each id stands. A table may have an id twice: that is a fault, told elsewhere."""
    index: pd.Index[Any] = pd.Index(_values(table))
    return index if index.is_unique else index.unique()


def _values(ids: pa.Array) -> npt.NDArray[Any]:
    """Ids as numpy has them, a null as what no id is."""
    return np.asarray(ids.fill_null(UNKNOWN if pa.types.is_integer(ids.type) else "").to_numpy(zero_copy_only=False))
