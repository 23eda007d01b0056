"""Columns of a user's table as the numbers they have to be; what is none is a fault with its row.

The columns of a CSV are strings, those of a parquet file have a type.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stages.corpus.faults import Faults

WHOLE = r"^[+-]?[0-9]{1,18}(\.0*)?$"  # pandas writes a column with gaps as 1700000000.0
DRESS = r"^\+|\.0*$"  # what pyarrow's cast to integers does not take
MILLISECONDS = 10**11  # as seconds, in the year 5138
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
TRUTH = {"true": "1", "false": "0"}


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def is_plain(kind: pa.DataType) -> bool:
    """Whether a column can be told as strings."""
    return is_number(kind) or bool(pa.types.is_string(kind))


def is_date(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def may_be_whole(kind: pa.DataType, name: str, is_csv: bool) -> bool:
    """Whether a column can hold whole numbers, or dates where it is the timestamp. The strings of a CSV can: their
    values decide.
    """
    if is_csv or (name == "timestamp" and is_date(kind)):
        return True
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def whole(piece: pa.Table, name: str, file: str, faults: Faults) -> pa.Array:
    """Whole numbers as int64."""
    column = piece[name].combine_chunks()
    numbers, good = _whole(column)
    _refuse_rest(piece, name, good, file, faults)
    return numbers


@dataclass
class Times:
    """The timestamps of a table, batch by batch: whole numbers, or dates."""

    file: str
    faults: Faults
    dated: bool | None = None
    """Whether the first of a CSV is a date; the others have to be alike."""

    def of(self, piece: pa.Table) -> tuple[pa.Array, pa.Array | None]:
        """Unix seconds, int64, and the nanoseconds beyond them, int32, if there are any."""
        column = piece["timestamp"].combine_chunks()
        if is_date(column.type):
            return _seconds(column)
        seconds, good = _whole(column)
        beyond = None
        if pa.types.is_string(column.type):
            dates = _dates(column, good)
            if dates.null_count < len(dates):
                stamps, beyond = _seconds(dates)
                seconds, good = pc.coalesce(seconds, stamps), pc.or_(good, pc.is_valid(dates))
            self._hold_to_one_kind(piece, good, pc.is_valid(dates))
        _refuse_rest(piece, "timestamp", good, self.file, self.faults)
        if (pc.max(seconds).as_py() or 0) > MILLISECONDS:
            what = (
                f"column 'timestamp' goes beyond {MILLISECONDS:.0e} and counts as seconds; if it is in milliseconds, "
            )
            self.faults.note(f"{self.file}: {what}divide it by 1,000")
        return seconds, beyond

    def _hold_to_one_kind(self, piece: pa.Table, good: pa.Array, dates: pa.Array) -> None:
        if self.dated is None and (first := pc.index(good, True).as_py()) >= 0:
            self.dated = dates[first].as_py()
        other = pc.and_(good, pc.not_equal(dates, bool(self.dated)))
        what = f"{self.file}: column 'timestamp' holds plain numbers and dates"
        self.faults.rows(what, other, piece["row"], piece["timestamp"])


def numbers(piece: pa.Table, name: str, file: str, faults: Faults) -> pa.Array:
    """Numbers or booleans; the strings of a CSV become float64, `true` and `false` 1 and 0."""
    column = piece[name].combine_chunks()
    if not pa.types.is_string(column.type):
        return column
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    for word, digit in TRUTH.items():
        lower = pc.if_else(pc.equal(lower, word), digit, lower)
    good = pc.match_substring_regex(lower, NUMBER)
    bad = pc.and_(pc.is_valid(column), pc.invert(good.fill_null(True)))
    faults.rows(f"{file}: column '{name}' gives feedback and has to hold numbers", bad, piece["row"], column)
    return pc.if_else(good, lower, pa.scalar(None, pa.string())).cast(pa.float64())


def duplicated(ids: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which values stand before them already."""
    kind: Any = 0 if pa.types.is_integer(ids.type) else ""
    return np.asarray(pd.Series(ids.fill_null(kind).to_numpy()).duplicated())


def _whole(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Whole numbers as int64, null elsewhere, and where they are."""
    if pa.types.is_integer(column.type) and column.type != pa.uint64():
        return column.cast(pa.int64()), pc.is_valid(column)
    if pa.types.is_string(column.type):
        good, column = pc.match_substring_regex(column, WHOLE), pc.replace_substring_regex(column, DRESS, "")
    else:
        value = column.cast(pa.float64(), safe=False)
        good = pc.and_(pc.equal(value, pc.floor(value)), pc.less(pc.abs(value), 2.0**63))
    return pc.if_else(good, column, pa.scalar(None, column.type)).cast(pa.int64()), good.fill_null(False)


def _refuse_rest(piece: pa.Table, name: str, good: pa.Array, file: str, faults: Faults) -> None:
    """Add the rows that are neither good nor null."""
    bad = pc.and_(pc.is_valid(piece[name]), pc.invert(good))
    what = f"{file}: column '{name}' ({piece[name].type}) has to hold whole numbers"
    faults.rows(what, bad, piece["row"], piece[name])


def _dates(column: pa.Array, whole: pa.Array) -> pa.Array:
    """ISO dates and times as timestamps, null elsewhere."""
    rest = pc.if_else(whole, pa.scalar(None, pa.string()), column)
    if rest.null_count == len(rest):
        return pa.nulls(len(rest), pa.timestamp("us"))
    known = pd.to_datetime(rest.to_pandas(), format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
    return pa.array(known, from_pandas=True)


def _seconds(dates: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Dates as Unix seconds, int64, and the nanoseconds beyond them, int32, if there are any."""
    if pa.types.is_date(dates.type):
        dates = dates.cast(pa.timestamp("ms"))
    per_second = PER_SECOND[dates.type.unit]
    seconds, beyond = np.divmod(dates.cast(pa.int64()).fill_null(0).to_numpy(), per_second)
    unknown = dates.is_null().to_numpy(zero_copy_only=False)
    nanoseconds = (beyond * (10**9 // per_second)).astype(np.int32)
    return pa.array(seconds, mask=unknown), pa.array(nanoseconds) if beyond.any() else None
