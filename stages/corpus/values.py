"""Columns of a user's table as the numbers they have to be; what is none is a fault with its row.

The columns of a CSV are strings, those of a parquet file have a type.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stages.corpus.faults import Faults, where

WHOLE = r"^[+-]?[0-9]{1,18}$"
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
    """Whole numbers as int64; a date becomes Unix seconds."""
    column = piece[name].combine_chunks()
    if is_date(column.type):
        return column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    if pa.types.is_integer(column.type) and column.type != pa.uint64():
        return column.cast(pa.int64())
    if pa.types.is_string(column.type):
        good = pc.match_substring_regex(column, WHOLE)
    else:
        value = column.cast(pa.float64(), safe=False)
        good = pc.and_(pc.equal(value, pc.floor(value)), pc.less(pc.abs(value), 2.0**63))
    kept = pc.if_else(good, column, pa.scalar(None, column.type))
    if name == "timestamp" and pa.types.is_string(column.type):
        dates, is_date_ = _dates(column, good)
        good = pc.or_(good, where(is_date_))
        numbers = pc.coalesce(kept.cast(pa.int64()), dates)
    else:
        numbers = kept.cast(pa.int64())
    bad = pc.and_(pc.is_valid(column), pc.invert(good.fill_null(True)))
    faults.rows(f"{file}: column '{name}' ({column.type}) has to hold whole numbers", bad, piece["row"], column)
    return numbers


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


def _dates(column: pa.Array, whole: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """ISO dates and times as Unix seconds, null elsewhere, and where they are."""
    rest = pc.if_else(pc.invert(whole.fill_null(True)), column, pa.scalar(None, pa.string()))
    if rest.null_count == len(rest):
        return pa.nulls(len(rest), pa.int64()), np.zeros(len(rest), dtype=bool)
    known = pd.to_datetime(rest.to_pandas(), format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
    stamps = pa.array(known.to_numpy(dtype="datetime64[s]"), pa.timestamp("s")).cast(pa.int64())
    found = known.notna().to_numpy()
    return pc.if_else(where(found), stamps, pa.scalar(None, pa.int64())), found
