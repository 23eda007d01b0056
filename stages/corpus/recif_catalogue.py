"""RecIF's items: photos (videos and advertisements) and products, each with a Semantic ID.

An item's key is 2 * pid for a photo and 2 * iid + 1 for a product, as their numbers may be the same. A Semantic ID is
three codes of 0..8191, as one number c0 * 8192^2 + c1 * 8192 + c2: the key of the published counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.core.stage import progress
from stages.corpus.faults import Faults, where
from stages.corpus.raw_log import Ints
from stages.corpus.recif_files import (
    PHOTO_SIDS,
    PRODUCT_SIDS,
    demand_columns,
    demand_kind,
    opened,
)
from stages.corpus.recif_parts import CODES, LEVELS, PHOTO
from stages.corpus.tables import plain, unreadable

KINDS = ("photo", "product")  # by PHOTO, PRODUCT
BATCH = 1 << 18  # rows of a file
WIDEST = 1 << 62  # of a pid: an item's key is twice as large


@dataclass(frozen=True)
class Catalogue:
    """Every item that the files of Semantic IDs name, N of them: photos first, in the order of the files."""

    ids: Ints  # [N] pid or iid
    photos: int
    codes: npt.NDArray[np.uint16]  # [N, 3]

    @property
    def keys(self) -> pa.Array:
        """[N] what tells all items apart."""
        return pa.array(2 * self.ids + (np.arange(len(self.ids)) >= self.photos))

    @cached_property
    def _index(self) -> "tuple[pd.Index[Any], pd.Index[Any]]":
        return pd.Index(self.ids[: self.photos]), pd.Index(self.ids[self.photos :])

    def rows(self, kind: int, ids: Ints) -> npt.NDArray[np.int32]:
        """[n] rows of pids or iids, -1 where there is none."""
        found = self._index[kind].get_indexer(ids).astype(np.int32)
        return np.where(found < 0, found, found + kind * self.photos).astype(np.int32)

    def kind(self, rows: Ints) -> npt.NDArray[np.int8]:
        """[n] PHOTO or PRODUCT."""
        return (rows >= self.photos).astype(np.int8)


@dataclass(frozen=True)
class Kept:
    """What the corpus has of a catalogue: item i is its row item_rows[i]."""

    catalogue: Catalogue
    item_rows: Ints  # [items] ascending

    def items(self, kind: int, ids: Ints) -> Ints:
        """[n] item numbers of pids or iids [n], -1 where the corpus has none."""
        row = self.catalogue.rows(kind, ids).astype(np.int64)
        place = np.minimum(np.searchsorted(self.item_rows, row), len(self.item_rows) - 1)
        return np.where((row >= 0) & (self.item_rows[place] == row), place, -1)

    def bears(self, sids: Ints) -> npt.NDArray[np.bool_]:
        """[n] whether some item has each Semantic ID [n]."""
        place = np.minimum(np.searchsorted(self._sids, sids), len(self._sids) - 1)
        return np.asarray(self._sids[place] == sids)

    @cached_property
    def _sids(self) -> Ints:
        return np.unique(sid_of(self.catalogue.codes[self.item_rows]))


def sid_of(codes: npt.NDArray[Any]) -> Ints:
    """Semantic IDs [..] as one number each, from codes [.., 3]."""
    wide = codes.astype(np.int64)
    return np.asarray((wide[..., 0] * CODES + wide[..., 1]) * CODES + wide[..., 2])


def named(keys: pa.Array) -> pa.Array:
    """`photo 123`, `product 456`: keys of items as people are shown them."""
    numbers = keys.to_numpy()
    kinds = pa.array(KINDS).take(pa.array(numbers % 2))
    return pc.binary_join_element_wise(kinds, pa.array(numbers // 2).cast(pa.string()), " ")


def catalogue(raw: Path, faults: Faults, dropped: dict[str, int]) -> Catalogue:
    """Read both files of Semantic IDs. A code out of range and an item with two ids are faults."""
    parts = [_sids(raw / name, kind, faults, dropped) for kind, name in enumerate((PHOTO_SIDS, PRODUCT_SIDS))]
    faults.check()
    ids, codes = (np.concatenate(own) for own in zip(*parts, strict=True))
    return Catalogue(ids, len(parts[PHOTO][0]), codes)


def _sids(path: Path, kind: int, faults: Faults, dropped: dict[str, int]) -> tuple[Ints, npt.NDArray[np.uint16]]:
    """Ids [n] and codes [n, 3] of one file, each id once."""
    file = opened(path)
    kinds = demand_columns(file, path, ["pid", "sid"])
    demand_kind(path, "pid", kinds["pid"], pa.types.is_integer(kinds["pid"]), "whole numbers")
    whole = pa.types.is_list(kinds["sid"]) and pa.types.is_integer(kinds["sid"].value_type)
    demand_kind(path, "sid", kinds["sid"], whole, f"lists of {LEVELS} whole numbers")
    ids, codes, start = [np.empty(0, np.int64)], [np.empty((0, LEVELS), np.uint16)], 0
    for batch in progress(batches(file, path, ["pid", "sid"], BATCH), f"batches of {path.name}"):
        pid, sid = (plain(batch[name]) for name in ("pid", "sid"))
        rows = pa.array(np.arange(start, start + batch.num_rows))
        start += batch.num_rows
        lengths = pc.list_value_length(sid).fill_null(0).to_numpy()
        faults.rows(f"{path.name}: pid is empty", pc.is_null(pid), rows)
        faults.rows(f"{path.name}: a Semantic ID has to be {LEVELS} codes", where(lengths != LEVELS), rows, sid)
        if pid.null_count or (lengths != LEVELS).any():
            continue
        numbers = pid.to_numpy()
        large = (numbers < -WIDEST) | (numbers >= WIDEST)
        faults.rows(f"{path.name}: a pid is outside -2^62..2^62 - 1", where(large), rows, pid)
        flat = sid.flatten().fill_null(-1).to_numpy().astype(np.int64).reshape(-1, LEVELS)
        outside = ((flat < 0) | (flat >= CODES)).any(1)
        what = f"{path.name}: a code of a Semantic ID is outside 0..{CODES - 1}; this is no file of the published set"
        faults.rows(what, where(outside), rows, sid)
        ids.append(np.where(large, 0, numbers).astype(np.int64))
        codes.append(np.where(outside[:, None], 0, flat).astype(np.uint16))
    found, own = np.concatenate(ids), np.concatenate(codes)
    again = np.asarray(pd.Series(found).duplicated())
    if again.any():
        first = pd.Index(found[~again]).get_indexer(found[again])
        other = np.flatnonzero(again)[(own[~again][first] != own[again]).any(1)]
        faults.rows(
            f"{path.name}: a pid has two Semantic IDs", where(np.isin(np.arange(len(found)), other)),
            pa.array(np.arange(len(found))), pa.array(found),
        )  # fmt: skip
    dropped[f"items: a {KINDS[kind]} that stands there twice"] = int(again.sum())
    return found[~again], own[~again]


def batches(file: pq.ParquetFile, path: Path, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Columns of a file, so many rows at a time. Raises InputError where it is damaged further down."""
    try:
        yield from file.iter_batches(batch_size=rows, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
