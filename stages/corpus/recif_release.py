"""RecIF's log: onerec_bench_release.parquet, one row per user, to batches of interactions.

Lists of items, oldest first, without times, in three domains: video (with five behaviours), ad, product (`goods`). How
the domains interleave is not known, so a user's log has them one after the other, videos last:

split 0, learnt from   ads, products, videos, each history before its targets; the last interaction is `valid`
other, held out        ads, products, videos of the history: `known`; then target videos, the first of which is `test`,
                       products and ads: `later`. Nothing is learnt from these users

Handled: nulls; lists of floating-point numbers, NaN where padded; a list of behaviours that is null, whose videos then
carry none and are kept apart as not known. All of it and what names no Semantic ID is counted. A behaviour list of
another length than its videos is a fault.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.core.schema import EVERY_SPLIT
from stages.core.stage import progress
from stages.corpus.faults import Faults, where
from stages.corpus.raw_log import ROW, SPLIT, Ints
from stages.corpus.recif_catalogue import Catalogue, batches
from stages.corpus.recif_files import RELEASE, demand_columns, demand_kind, opened
from stages.corpus.recif_parts import BEHAVIOURS, LARGEST, PARTS, PHOTO, PLACES, PRODUCT, VIDEOS
from stages.corpus.tables import plain

KIND = {"ad": PHOTO, "goods": PRODUCT, "video": PHOTO}
DOMAIN = {"ad": "ad", "goods": "product", "video": "video"}
USERS = 1 << 11  # read at once
TRAIN, VALID, TEST, KNOWN, LATER = range(len(EVERY_SPLIT))


@dataclass(frozen=True)
class Parted:
    """A part of a batch's users, item by item."""

    owner: Ints  # [n] row in the batch
    row: npt.NDArray[np.int32]  # [n] of the catalogue
    carried: npt.NDArray[np.int8]  # [n, 5] by BEHAVIOURS
    known: npt.NDArray[np.bool_]  # [users] whether no behaviour's list is null beside items


@dataclass(frozen=True)
class Release:
    """The file, and what was counted of it, complete once the batches have been read."""

    path: Path
    catalogue: Catalogue
    faults: Faults
    dropped: dict[str, int]
    users: pa.Table
    """user_id: uid."""
    held_out: npt.NDArray[np.bool_]  # [users]
    counts: dict[str, int] = field(default_factory=dict)
    """Lists, by what is odd about them; nothing of these is lost."""
    lengths: list[Ints] = field(default_factory=list)
    """Of each batch [users, 6]: items of PARTS that are kept."""
    known: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    """Of each batch [users, 2]: whether it is known of all VIDEOS if they were watched for long."""

    def batches(self) -> Iterator[pa.Table]:
        """The batches of RawLog."""
        first, file = 0, _open(self.path)
        columns = [f"{part}_pid" for part in PARTS] + [f"{part}_{name}" for part in VIDEOS for name in BEHAVIOURS]
        for reason in ("padding", *(f"{name} without a Semantic ID" for name in DOMAIN.values())):
            self.dropped[f"interactions: {reason}"] = 0
        for batch in progress(batches(file, self.path, columns, USERS), f"batches of {RELEASE}"):
            rows = np.arange(first, first + batch.num_rows)
            yield self._log(batch, rows)
            first += batch.num_rows

    def _log(self, batch: pa.RecordBatch, rows: Ints) -> pa.Table:
        parts = [self._part(batch, rows, part) for part in PARTS]
        self.lengths.append(np.stack([np.bincount(part.owner, minlength=len(rows)) for part in parts], 1))
        self.known.append(np.stack([part.known for part in parts[-len(VIDEOS) :]], 1))
        owner = np.concatenate([part.owner for part in parts])
        held_out = self.held_out[rows]
        place = np.concatenate([PLACES[held_out[part.owner].astype(int), at] for at, part in enumerate(parts)])
        order = np.argsort(owner * len(PARTS) + place, kind="stable")
        owner, place = owner[order], place[order]
        carried = np.concatenate([part.carried for part in parts])[order]
        split = _split(owner, place, held_out[owner])
        return pa.table(
            {
                ROW: rows[owner],
                "user_id": pa.array(rows[owner], pa.int32()),
                "item_id": np.concatenate([part.row for part in parts])[order],
                "timestamp": pa.nulls(len(owner), pa.int64()),
                SPLIT: split,
                **{name: carried[:, column] for column, name in enumerate(BEHAVIOURS)},
            }
        )

    def _part(self, batch: pa.RecordBatch, rows: Ints, part: str) -> Parted:
        domain = part.partition("_")[2]
        lists = plain(batch[f"{part}_pid"])
        ids, real = self._numbers(lists, f"{part}_pid", rows)
        length = _lengths(lists)
        owner = np.repeat(np.arange(len(rows)), length)
        carried, known = np.zeros((len(ids), len(BEHAVIOURS)), np.int8), np.ones(len(rows), bool)
        if part in VIDEOS:
            for column, name in enumerate(BEHAVIOURS):
                flags = plain(batch[f"{part}_{name}"])
                carried[:, column] = self._flags(flags, f"{part}_{name}", length, rows)
                if name == "longview":
                    known = _whole(flags) | (length == 0)
        row = self.catalogue.rows(KIND[domain], ids)
        self.dropped["interactions: padding"] += int((~real).sum())
        self.dropped[f"interactions: {DOMAIN[domain]} without a Semantic ID"] += int((real & (row < 0)).sum())
        keep = real & (row >= 0)
        return Parted(owner[keep], row[keep], carried[keep], known)

    def _numbers(self, lists: pa.Array, name: str, rows: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Ids [n] of all lists, and which are real [n]: neither null nor NaN."""
        if lists.null_count:
            self._count(f"{name} is null", lists.null_count)
        flat = lists.flatten() if pa.types.is_list(lists.type) else pa.array([], pa.int64())
        if not pa.types.is_floating(flat.type):
            return flat.cast(pa.int64()).fill_null(-1).to_numpy(), flat.is_valid().to_numpy(False)
        values = flat.cast(pa.float64()).to_numpy(zero_copy_only=False)  # null becomes NaN
        real = ~np.isnan(values)
        self._count(f"{name} of floating-point numbers", len(lists) - lists.null_count)
        values = np.where(real, values, -1.0)
        broken = (values != np.floor(values)) | (np.abs(values) >= LARGEST)
        owner = np.repeat(rows, _lengths(lists))
        what = f"{RELEASE}: {name} holds no whole number, or one that floating point cannot tell from the next"
        self.faults.rows(what, where(broken), pa.array(owner), pa.array(values))
        return np.where(broken, -1.0, values).astype(np.int64), real

    def _flags(self, lists: pa.Array, name: str, length: Ints, rows: Ints) -> npt.NDArray[np.int8]:
        """One behaviour of the videos, 0 or 1 [n]; 0 where it is null."""
        own, null = _lengths(lists), lists.is_null().to_numpy(False)
        self._count(f"{name} is null beside videos", int((null & (length > 0)).sum()))
        wrong = ~null & (own != length)
        self.faults.rows(f"{RELEASE}: {name} is not as long as its videos", where(wrong), pa.array(rows), lists)
        found = np.zeros(int(length.sum()), np.int8)
        if not pa.types.is_list(lists.type) or wrong.any():
            return found
        flat = lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
        self._count(f"{name} holds nulls", int(np.isnan(flat).sum()))
        strange = ~(np.isnan(flat) | (flat == 0) | (flat == 1))
        owner = np.repeat(rows, own)
        self.faults.rows(f"{RELEASE}: {name} has to be 0 or 1", where(strange), pa.array(owner), pa.array(flat))
        found[np.repeat(~null, length)] = flat == 1
        return found

    def _count(self, what: str, count: int) -> None:
        if count:
            self.counts[f"lists: {what}"] = self.counts.get(f"lists: {what}", 0) + count


def _whole(lists: pa.Array) -> npt.NDArray[np.bool_]:
    """[lists] whether each is there and holds no null."""
    there = np.asarray(lists.is_valid().to_numpy(False))
    if not pa.types.is_list(lists.type) or not lists.flatten().null_count:
        return there
    owner = np.repeat(np.arange(len(lists)), _lengths(lists))
    there[owner[lists.flatten().is_null().to_numpy(False)]] = False
    return there


def release(path: Path, catalogue: Catalogue, faults: Faults, dropped: dict[str, int]) -> Release:
    """Open the file and read its users. A uid that is empty or stands there twice is a fault, and a split without a
    number.
    """
    file = _open(path)
    users = pa.Table.from_batches(list(batches(file, path, ["uid", "split"], 1 << 20)))
    if not users.num_rows:
        faults.add(f"{RELEASE}: holds no rows")
        faults.check()
    uid, split = (users[name].combine_chunks() for name in ("uid", "split"))
    rows = pa.array(np.arange(len(uid)))
    faults.rows(f"{RELEASE}: uid is empty", pc.is_null(uid), rows)
    faults.rows(f"{RELEASE}: split is empty", pc.is_null(split), rows)
    order = np.argsort(uid.fill_null(0).to_numpy(), kind="stable")
    ordered = uid.fill_null(0).to_numpy()[order]
    twice = np.zeros(len(uid), bool)
    twice[order[1:]] = ordered[1:] == ordered[:-1]
    faults.rows(f"{RELEASE}: uid stands there twice", where(twice), rows, uid)
    faults.check()
    return Release(path, catalogue, faults, dropped, pa.table({"user_id": uid}), split.to_numpy() != 0)


def _open(path: Path) -> pq.ParquetFile:
    """The file, held to the columns that are read."""
    file = opened(path)
    lists = [f"{part}_pid" for part in PARTS] + [f"{part}_{name}" for part in VIDEOS for name in BEHAVIOURS]
    kinds = demand_columns(file, path, ["uid", "split", *lists])
    for name in ("uid", "split"):
        demand_kind(path, name, kinds[name], pa.types.is_integer(kinds[name]), "whole numbers")
    for name in lists:
        kind = kinds[name]
        inner = kind.value_type if pa.types.is_list(kind) else kind
        number = pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)
        fits = pa.types.is_null(kind) or (pa.types.is_list(kind) and (number or inner == pa.string()))
        demand_kind(path, name, kind, fits, "a list of numbers")
    return file


def _lengths(lists: pa.Array) -> Ints:
    """Of each list; null, and a column of nulls alone, has none."""
    if not pa.types.is_list(lists.type):
        return np.zeros(len(lists), np.int64)
    return np.asarray(pc.list_value_length(lists).fill_null(0).to_numpy(), dtype=np.int64)


def _split(owner: Ints, place: Ints, held_out: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """[n] index into EVERY_SPLIT of interactions sorted by user, then place. A user of one has no valid."""
    known = held_out & (place < 3)
    split = np.where(known, KNOWN, np.where(held_out, LATER, TRAIN)).astype(np.int8)
    starts = np.r_[True, np.diff(owner) > 0][: len(owner)]
    ends = np.r_[starts[1:], True][: len(owner)]
    split[ends & ~starts & ~held_out] = VALID
    behind = held_out & ~known
    first = behind & np.r_[True, ~(behind[:-1] & (owner[1:] == owner[:-1]))][: len(owner)]
    split[first] = TEST
    return split
