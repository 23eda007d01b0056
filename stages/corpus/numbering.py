"""From a raw log's batches to integer arrays: the numbers that `cut` works on.

Per interaction 8 bytes of user and item, 8 of timestamp, 4 where that is finer than seconds, 8 of position where there
is one, and one per objective that a column gives: a log of 120 million with 5 objectives takes 2.5 GB.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.corpora import Feedback
from stages.core.stage import progress
from stages.corpus.faults import where
from stages.corpus.raw_log import BEYOND, ROW, RawLog

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
UNKNOWN = np.iinfo(np.int64).min  # null as an int64


@dataclass(frozen=True)
class NumberedLog:
    """n interactions in file order."""

    user: Codes  # [n] row of the users table
    item: Codes  # [n] row of the catalogue
    position: Ints | None  # [n] UNKNOWN where null, which is a fault
    timestamp: Ints  # [n] UNKNOWN where null
    feedback: dict[str, npt.NDArray[np.int8]]  # objective -> [n], those that a column gives
    user_ids: pa.Array
    item_ids: pa.Array
    beyond: Codes | None = None  # [n] nanoseconds of the timestamp, if any has some

    @property
    def order(self) -> Ints:
        """[n] what sorts a user's interactions."""
        return self.timestamp if self.position is None else self.position


def number(raw: RawLog, rules: dict[str, Feedback]) -> NumberedLog:
    """Read the batches. What is wrong with them, and a feedback rule that names no column of theirs, is added to
    raw.faults; a row of an unknown id has the number -1.
    """
    for name, rule in rules.items():
        column = rule.reads(name)
        if column is not None and column not in raw.columns:
            key = f"feedback.{name}" if rule.rule == "flag" else f"feedback.{name}.column"
            raw.faults.add(
                f"{key}: the log has no numeric column '{column}'; it has: {', '.join(raw.columns) or 'none'}"
            )
    log_file, items_file, users_file = raw.names
    users = _Numbers(raw.users["user_id"].combine_chunks() if raw.users is not None else None)
    items = _Numbers(raw.item_ids)
    user, item, position, timestamp = _Column(np.int32), _Column(np.int32), _Column(np.int64), _Column(np.int64)
    carried = {name: _Column(np.int8) for name, rule in rules.items() if rule.reads(name) in raw.columns}
    beyond = _Column(np.int32)  # as long as the others, or empty
    start, ordered = 0, False
    for batch in progress(raw.batches, f"batches of {log_file}"):
        rows = batch[ROW] if ROW in batch.column_names else pa.array(np.arange(start, start + batch.num_rows))
        for found, numbers, name, other in (
            (user, users, "user_id", users_file),
            (item, items, "item_id", items_file),
        ):
            ids = batch[name].combine_chunks()
            codes = numbers.of(ids)
            unknown = pc.and_(pc.is_valid(ids), where(codes < 0))
            raw.faults.rows(f"{log_file}: {name} that {other} does not have", unknown, rows, ids)
            found.add(codes)
        timestamp.add(batch["timestamp"].fill_null(UNKNOWN).to_numpy())
        if BEYOND in batch.column_names:
            beyond.add(np.zeros(start - len(beyond.whole), np.int32))
            beyond.add(batch[BEYOND].to_numpy())
        elif len(beyond.whole):
            beyond.add(np.zeros(batch.num_rows, np.int32))
        if ordered := "position" in batch.column_names:
            position.add(batch["position"].fill_null(UNKNOWN).to_numpy())
        for name, column in carried.items():
            column.add(carries(rules[name], batch[rules[name].reads(name)]))
        start += batch.num_rows
    if not start:
        raw.faults.add(f"{log_file}: holds no rows")
    return NumberedLog(
        user=user.whole,
        item=item.whole,
        position=position.whole if ordered else None,
        timestamp=timestamp.whole,
        feedback={name: column.whole for name, column in carried.items()},
        user_ids=users.ids(),
        item_ids=items.ids(),
        beyond=beyond.whole if len(beyond.whole) else None,
    )


def carries(rule: Feedback, column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    """R_m of each row, 0 or 1, by a rule that looks at a column; null and NaN are no feedback."""
    values = column.cast(pa.float64(), safe=False)
    if rule.rule == "flag":
        found = pc.and_(pc.not_equal(values, 0.0), pc.invert(pc.is_nan(values)))
    else:
        found = pc.greater_equal(values, rule.threshold)
    return np.asarray(found.fill_null(False).cast(pa.int8()).to_numpy())


class _Column:
    """An array that grows in place: a large one is moved by its pages, so that it is never in memory twice."""

    def __init__(self, kind: type[np.signedinteger[Any]]) -> None:
        self.whole = np.empty(0, dtype=kind)

    def add(self, values: npt.NDArray[Any]) -> None:
        start = len(self.whole)
        self.whole.resize(start + len(values), refcheck=False)
        self.whole[start:] = values


class _Numbers:
    """The number of each id: its row in a table, or the order of first appearance."""

    def __init__(self, table: pa.Array | None) -> None:
        self.table = table
        self.index = None if table is None else _index(table)
        self.seen: dict[Any, int] = {}
        self.kind: pa.DataType = pa.string()

    def of(self, ids: pa.Array) -> Codes:
        """[n] the numbers of ids, -1 where the table has none; null has none either."""
        self.kind = ids.type
        if self.index is not None:
            codes = self.index.get_indexer(_values(ids)).astype(np.int32)
            codes[ids.is_null().to_numpy(zero_copy_only=False)] = -1
            return codes
        encoded = ids.dictionary_encode()
        fresh = [self.seen.setdefault(each, len(self.seen)) for each in encoded.dictionary.to_pylist()]
        codes = encoded.indices.fill_null(len(fresh)).to_numpy()
        return np.array([*fresh, -1], dtype=np.int32)[codes]

    def ids(self) -> pa.Array:
        """Every id, by number."""
        return self.table if self.table is not None else pa.array(list(self.seen), self.kind)


def _index(table: pa.Array) -> "pd.Index[Any]":
    """Where each id stands. A table may have an id twice: that is a fault, told elsewhere."""
    index: pd.Index[Any] = pd.Index(_values(table))
    return index if index.is_unique else index.unique()


def _values(ids: pa.Array) -> npt.NDArray[Any]:
    """Ids as numpy has them, a null as what no id is."""
    return np.asarray(ids.fill_null(UNKNOWN if pa.types.is_integer(ids.type) else "").to_numpy(zero_copy_only=False))
