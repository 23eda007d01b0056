"""The tables of native text: what `render` writes, and what it reads back as, checked against the corpus."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.core import schema
from stages.core.errors import InputError
from stages.core.schema import ITEM_TEXT, USER_TEXT, conform, read
from stages.corpus.histories import Histories, Ints
from stages.rendering.activity import NO_TIME


@dataclass(frozen=True)
class Text:
    """Everything that prompts of one corpus are made of, beside the corpus itself."""

    names: list[str]
    """[N] of the items, no two the same."""
    lines: list[str]
    """[N] the items as candidates."""
    profiles: list[str]
    """[U] of the users, "" where nothing is known."""
    times: Ints
    """[interactions] Unix seconds, NO_TIME where unknown."""
    pools: Ints
    """[interactions, size] candidates for what the user does there, -1 behind the last."""


def item_table(names: list[str], lines: list[str]) -> pa.Table:
    return _table(ITEM_TEXT, range(len(names)), names, lines)


def user_table(profiles: list[str]) -> pa.Table:
    return _table(USER_TEXT, range(len(profiles)), profiles)


def pool_table(timestamps: pa.ChunkedArray, pools: Ints) -> pa.Table:
    """Pools [interactions, size] beside the corpus's timestamps, null where unknown."""
    flat = pa.array(pools.ravel().astype(np.int32))
    column = pa.FixedSizeListArray.from_arrays(flat, pools.shape[1])
    return pa.table([timestamps, column], schema=schema.pools(pools.shape[1]))


def _table(columns: pa.Schema, *values: Any) -> pa.Table:
    return pa.table([pa.array(each, kind) for each, kind in zip(values, columns.types, strict=True)], schema=columns)


def known_times(timestamps: pa.ChunkedArray) -> Ints:
    """[interactions] Unix seconds, NO_TIME where null."""
    return np.asarray(pc.fill_null(timestamps, NO_TIME).to_numpy(), dtype=np.int64)


def read_text(folder: Path, histories: Histories) -> Text:
    """Read what `render` wrote. Raises InputError where it is damaged or of another corpus."""
    items = _numbered(folder / "items.parquet", ITEM_TEXT, histories.item_count)
    users = _numbered(folder / "users.parquet", USER_TEXT, histories.user_count)
    names = items["name"].to_pylist()
    if len(set(names)) < len(names):
        raise InputError(f"{folder / 'items.parquet'}: two items have the same name; rerun render")
    times, pools = _pools(folder / "pools.parquet", histories)
    return Text(names, items["line"].to_pylist(), users["profile"].to_pylist(), times, pools)


def _numbered(path: Path, columns: pa.Schema, count: int) -> pa.Table:
    """A table whose first column numbers its rows, without empty fields."""
    table = read(path, columns)
    key = columns.names[0]
    if not np.array_equal(table[key].to_numpy(), np.arange(count)):
        raise InputError(f"{path}: {key}s have to be 0..{count - 1} of the corpus, each once; rerun render")
    for name in columns.names:
        if table[name].null_count:
            raise InputError(f"{path}: column '{name}' has {table[name].null_count} empty fields; rerun render")
    return table


def _pools(path: Path, histories: Histories) -> tuple[Ints, Ints]:
    """Times and pools, as in Text."""
    table = read(path, pa.schema([]))
    kind = table.schema.field("pool").type if "pool" in table.column_names else None
    size = kind.list_size if kind is not None and pa.types.is_fixed_size_list(kind) else 1
    conform(table, schema.pools(size), str(path))
    if table.num_rows != (count := len(histories.item)):
        raise InputError(f"{path}: {table.num_rows:,} rows for the corpus's {count:,} interactions; rerun render")
    flat = pc.list_flatten(table["pool"]).to_numpy()
    if flat.size != count * size or (flat.size and not -1 <= flat.min() <= flat.max() < histories.item_count):
        raise InputError(f"{path}: a candidate is no item of the corpus, 0..{histories.item_count - 1}; rerun render")
    return known_times(table["timestamp"]), flat.astype(np.int64).reshape(count, size)
