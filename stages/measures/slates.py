"""The slates file as arrays: every fault that would make a measure wrong is refused by name."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.errors import InputError

Ints = npt.NDArray[np.int64]

DECODERS = ("slate", "free", "beam", "pool", "list")
TASK_DECODERS = ("slate", "sample", "beam", "list", "label")
TARGET_SPLITS = ("test", "valid")


@dataclass(frozen=True)
class Lists:
    """The lists of one decoder on one split."""

    user: Ints  # [U] ascending
    items: Ints  # [U, n] best first


def headline(found: dict[tuple[str, str], Lists]) -> str:
    """The decoder that a row is judged by: `slate` for policies, `list` for baselines."""
    decoders = {decoder for _, decoder in found}
    return "slate" if "slate" in decoders else "list"


def parse(table: pa.Table, target: dict[str, Ints], item_count: int, where: str) -> dict[tuple[str, str], Lists]:
    """Slates (schema.SLATES) by (split, decoder); target[split] [U] holds -1 for users without one.

    Raises InputError, with `where` as the file's name, on: missing values, NaN scores, unknown splits, decoders, items
    or users, a rank or user that stands twice, ranks that are not 1..n, users who have a target and no list, and where
    the headline decoder lacks a split.
    """
    _check_values(table, item_count, where, TARGET_SPLITS, DECODERS)
    found: dict[tuple[str, str], Lists] = {}
    for split in TARGET_SPLITS:
        for decoder in DECODERS:
            part = table.filter(pc.and_(pc.equal(table["split"], split), pc.equal(table["decoder"], decoder)))
            if part.num_rows:
                found[split, decoder] = _lists(part, target[split], f"{where}: split {split}, decoder {decoder}")
    for split in TARGET_SPLITS:
        if (split, headline(found)) not in found:
            raise InputError(f"{where}: no rows of split {split} with decoder slate or list; make the slates again")
    return found


def parse_task(table: pa.Table, samples: int, item_count: int, split: str, where: str) -> dict[str, Lists]:
    """Lists of one of RecIF's tasks by decoder; a list for every one of its samples, 0 to samples - 1.

    Raises InputError as `parse` does. Of decoder `label`, samples may be left out.
    """
    _check_values(table, item_count, where, (split,), TASK_DECODERS)
    found, everyone = {}, np.zeros(samples, dtype=np.int64)
    for decoder in TASK_DECODERS:
        part = table.filter(pc.equal(table["decoder"], decoder))
        if part.num_rows:
            asked = everyone
            if decoder == "label":
                asked = np.where(np.isin(np.arange(samples), part["user"].to_numpy()), 0, -1)
            found[decoder] = _lists(part, asked, f"{where}: split {split}, decoder {decoder}")
    return found


def _check_values(
    table: pa.Table, item_count: int, where: str, splits: tuple[str, ...], decoders: tuple[str, ...]
) -> None:
    for name in table.column_names:
        if table[name].null_count:
            raise InputError(f"{where}: column '{name}' has {table[name].null_count} missing values")
    for name, allowed in (("split", splits), ("decoder", decoders)):
        strange = sorted(set(pc.unique(table[name]).to_pylist()) - set(allowed))
        if strange:
            raise InputError(f"{where}: unknown {name} '{strange[0]}' (allowed: {', '.join(allowed)})")
    bad_scores = int(np.isnan(table["score"].to_numpy()).sum())
    if bad_scores:
        raise InputError(f"{where}: {bad_scores} scores are NaN; the model diverged or its output was cut off")
    items = table["item"].to_numpy()
    strange_items = items[(items < -1) | (items >= item_count)]
    if len(strange_items):
        raise InputError(
            f"{where}: item {strange_items[0]} is outside -1..{item_count - 1}; are these another corpus's slates?"
        )


def _lists(part: pa.Table, target: Ints, where: str) -> Lists:
    """Bring rows into [U, n] order by user and rank, and hold them to one list of ranks 1..n per user with a target."""
    user = part["user"].to_numpy().astype(np.int64)
    rank = part["rank"].to_numpy().astype(np.int64)
    order = np.lexsort((rank, user))
    user, rank = user[order], rank[order]
    twin = (user[1:] == user[:-1]) & (rank[1:] == rank[:-1])
    if twin.any():
        at = int(twin.argmax())
        raise InputError(f"{where}: user {user[at]} has rank {rank[at]} twice; one list per user, each rank once")
    wanted = np.flatnonzero(target >= 0)
    users = np.unique(user)
    if extra := np.setdiff1d(users, wanted)[:1].tolist():
        raise InputError(f"{where}: user {extra[0]} has no target in this split, or is unknown")
    if len(missing := np.setdiff1d(wanted, users)):
        raise InputError(
            f"{where}: {len(missing)} of {len(wanted)} users with a target have no list, first {missing[0]}"
        )
    length, rest = divmod(len(user), len(users))
    if rest or not np.array_equal(rank.reshape(len(users), length), np.tile(np.arange(1, length + 1), (len(users), 1))):
        raise InputError(
            f"{where}: {_first_bad_ranks(user, rank)}; every user needs ranks 1..n of one n, -1 for no item"
        )
    return Lists(users, part["item"].to_numpy().astype(np.int64)[order].reshape(len(users), length))


def _first_bad_ranks(user: Ints, rank: Ints) -> str:
    """Name a user whose ranks are not 1..n, n being the most frequent length."""
    users, count = np.unique(user, return_counts=True)
    length = int(np.bincount(count).argmax())
    for one in users:
        own = rank[user == one]
        if not np.array_equal(own, np.arange(1, length + 1)):
            return f"user {one} has ranks {own.tolist()[:12]}, not 1..{length}"
    raise AssertionError("called for ranks that are in order")
