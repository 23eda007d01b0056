"""The table of ids: `item`, then one column per level, `code_0`, `code_1`, ..; metadata say how many codes each has.

Where items share ids (see published.py), `alike` is the item that each one's id stands for.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.errors import InputError
from stages.core.schema import read

SIZES = b"codes_per_level"  # key of the metadata
ALIKE = "alike"
IDS = pa.schema([("item", pa.int32()), ("code_0", pa.int32())])


def code_columns(table: pa.Table) -> list[str]:
    """Names of the code columns, level by level."""
    return [f"code_{level}" for level in range(sum(name.startswith("code_") for name in table.column_names))]


def id_table(codes: npt.NDArray[np.int64], sizes: Sequence[int] | None = None) -> pa.Table:
    """Codes [N, D] of items 0..N-1 as a table. sizes: codes of each level, by default up to the last one in use."""
    columns = {"item": pa.array(range(len(codes)), pa.int32())}
    columns |= {f"code_{level}": pa.array(codes[:, level], pa.int32()) for level in range(codes.shape[1])}
    sizes = sizes or (codes.max(0) + 1).tolist()
    return pa.table(columns, metadata={SIZES: ",".join(map(str, sizes))})


def read_codes(path: Path, items: int) -> npt.NDArray[np.int64]:
    """Codes [N, D] of a catalogue of `items` items.

    Raises InputError where an item has no id, or is not of the catalogue, or a code is not one of its level.
    """
    table = read(path, IDS)
    names = code_columns(table)
    if not np.array_equal(table["item"].to_numpy(), np.arange(items)):
        raise InputError(f"{path}: items have to be 0..{items - 1}, each once; rerun tokenize")
    sizes = (table.schema.metadata or {}).get(SIZES, b"").decode().split(",")
    if len(sizes) != len(names) or not all(size.isdigit() for size in sizes):
        raise InputError(f"{path}: does not say how many codes its {len(names)} levels have; rerun tokenize")
    for name, size in zip(names, map(int, sizes), strict=True):
        wrong = pc.fill_null(pc.invert(pc.and_(pc.greater_equal(table[name], 0), pc.less(table[name], size))), True)
        if pc.any(wrong).as_py():
            item = pc.index(wrong, True).as_py()
            code = table[name][item].as_py()
            raise InputError(f"{path}: item {item} has {name} {code}, it has to be in 0..{size - 1}; rerun tokenize")
    return np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.int64)


def read_alike(path: Path) -> npt.NDArray[np.int64] | None:
    """[N] the item that each item's id stands for; None where every item has an id of its own."""
    table = read(path, IDS)
    return table[ALIKE].to_numpy().astype(np.int64) if ALIKE in table.column_names else None
