"""Columns of a user's table as the numbers they have to be; what is none is a fault with its row.

The columns of a CSV are strings, those of a parquet file have a type.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stages.corpus.faults import Faults
from stages.corpus.raw_log import ROW

WHOLE = r"^[+-]?[0-9]{1,19}(\.0*)?$"  # pandas writes a column with gaps as 1700000000.0
LARGEST = str(2**63 - 1)
DATE = r"^[0-9]{4}-[0-9]"  # pandas takes `now` and `today` as well, and the time of the run for it
DRESS = r"^\+|\.0*$"  # what pyarrow's cast to integers does not take
MILLISECONDS = 10**11  # as seconds, in the year 5138
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
TRUTH = {"true": "1", "false": "0"}


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def may_be_numbers(kind: pa.DataType) -> bool:
    """Also a column of nulls alone, which has no other type."""
    return is_number(kind) or bool(pa.types.is_null(kind))


def is_plain(kind: pa.DataType) -> bool:
    """Whether a column can be told as strings."""
    return may_be_numbers(kind) or bool(pa.types.is_string(kind))


def is_date(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def may_be_whole(kind: pa.DataType, name: str, is_csv: bool) -> bool:
    """Whether a column can hold whole numbers, or dates where it is the timestamp. The strings of a CSV can: their
    values decide.
    """
    if is_csv or (name == "timestamp" and is_date(kind)):
        return True
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def demanded(name: str, is_csv: bool) -> str:
    """What a column that orders a log has to hold: for errors."""
    if name != "timestamp":
        return "has to hold whole numbers"
    return f"has to hold whole Unix seconds or {'ISO dates' if is_csv else 'be of a date or timestamp type'}"


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
        if (pc.max(seconds).as_py() or 0) > MILLISECONDS:
            what = f"column 'timestamp' goes beyond {MILLISECONDS:.0e} and counts as seconds; if it is in milliseconds"
            better = "ISO dates" if pa.types.is_string(column.type) else "a timestamp column"
            self.faults.note(f"{self.file}: {what} or finer, convert it to {better}")
        beyond = None
        if pa.types.is_string(column.type):
            dates = _dates(column, good)
            if dates.null_count < len(dates):
                stamps, beyond = _seconds(dates)
                seconds, good = pc.coalesce(seconds, stamps), pc.or_(good, pc.is_valid(dates))
            self._hold_to_one_kind(piece, good, pc.is_valid(dates))
        _refuse_rest(piece, "timestamp", good, self.file, self.faults)
        return seconds, beyond

    def _hold_to_one_kind(self, piece: pa.Table, good: pa.Array, dates: pa.Array) -> None:
        if self.dated is None and (first := pc.index(good, True).as_py()) >= 0:
            self.dated = dates[first].as_py()
        other = pc.and_(good, pc.not_equal(dates, bool(self.dated)))
        what = f"{self.file}: column 'timestamp' holds plain numbers and dates"
        self.faults.rows(what, other, piece[ROW], piece["timestamp"])


def numbers(piece: pa.Table, name: str, file: str, faults: Faults) -> pa.Array:
    """Numbers or booleans; the strings of a CSV become float64, `true` and `false` 1 and 0."""
    column = piece[name].combine_chunks()
    if not pa.types.is_string(column.type):
        return column.cast(pa.float64()) if pa.types.is_null(column.type) else column
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    for word, digit in TRUTH.items():
        lower = pc.if_else(pc.equal(lower, word), digit, lower)
    good = pc.match_substring_regex(lower, NUMBER)
    bad = pc.and_(pc.is_valid(column), pc.invert(good.fill_null(True)))
    faults.rows(f"{file}: column '{name}' gives feedback and has to hold numbers", bad, piece[ROW], column)
    return pc.if_else(good, lower, pa.scalar(None, pa.string())).cast(pa.float64())


def duplicated(ids: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which values stand before them already; null is none."""
    if not ids.null_count:
        return np.asarray(pd.Series(ids.to_numpy()).duplicated())
    found = np.zeros(len(ids), dtype=bool)
    found[ids.is_valid().to_numpy()] = duplicated(ids.drop_null())
    return found


def _whole(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Whole numbers as int64, null elsewhere, and where they are."""
    if (pa.types.is_integer(column.type) and column.type != pa.uint64()) or pa.types.is_null(column.type):
        return column.cast(pa.int64()), pc.is_valid(column)
    if pa.types.is_string(column.type):
        good, column = pc.match_substring_regex(column, WHOLE), pc.replace_substring_regex(column, DRESS, "")
        digits = pc.utf8_ltrim(column, "-")
        fits = pc.or_(pc.less(pc.binary_length(digits), len(LARGEST)), pc.less_equal(digits, LARGEST))
        good = pc.and_(good, fits)
    else:
        value = column.cast(pa.float64(), safe=False)
        good = pc.and_(pc.equal(value, pc.floor(value)), pc.less(pc.abs(value), 2.0**63))
    return pc.if_else(good, column, pa.scalar(None, column.type)).cast(pa.int64()), good.fill_null(False)


def _refuse_rest(piece: pa.Table, name: str, good: pa.Array, file: str, faults: Faults) -> None:
    """Add the rows that are neither good nor null."""
    bad = pc.and_(pc.is_valid(piece[name]), pc.invert(good))
    kind = piece[name].type
    what = f"{file}: column '{name}' ({kind}) {demanded(name, is_csv=pa.types.is_string(kind))}"
    faults.rows(what, bad, piece[ROW], piece[name])


def _dates(column: pa.Array, whole: pa.Array) -> pa.Array:
    """ISO dates and times as timestamps, null elsewhere."""
    may_be = pc.and_(pc.invert(whole), pc.match_substring_regex(column, DATE))
    rest = pc.if_else(may_be, column, pa.scalar(None, pa.string()))
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
