"""A corpus in memory: every user's interactions as flat integer arrays, in time order."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import tee
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.errors import InputError
from stages.core.schema import EVERY_SPLIT, INTERACTIONS, ITEMS, USERS, read
from stages.core.seeding import numpy_generator

Ints = npt.NDArray[np.int64]
COLUMNS = "columns"  # folder of a long log's columns, beside its table
CARRIED = "feedback-"  # prefix of the files of objectives
DENSE = 1 << 27  # cells of a table of items by categories (1 GiB)


@dataclass(frozen=True)
class Histories:
    """Interactions of user u are the slice offsets[u]:offsets[u + 1] of the flat arrays; U users, N items."""

    item: Ints  # [interactions]
    tie: Ints  # [interactions] equal for a user's neighbours of one timestamp
    offsets: Ints  # [U + 1]
    train_length: Ints  # [U] the user's first interactions that are the training part
    valid: Ints  # [U] the validation item; -1 for users with none
    test: Ints  # [U] the test item; -1 for users with none
    feedback: dict[str, npt.NDArray[np.int8]]  # objective -> [interactions]
    items: pa.Table  # schema.ITEMS, row i is item i
    users: pa.Table  # schema.USERS
    known_length: Ints | None = None  # [U] of users held out whole, the first interactions; nothing is learnt from them
    feedback_known: npt.NDArray[np.bool_] | None = None  # [interactions] where longview is, if a stage asked; None: all

    @property
    def user_count(self) -> int:
        return len(self.offsets) - 1

    @property
    def item_count(self) -> int:
        return int(self.items.num_rows)

    @cached_property
    def train_count(self) -> Ints:
        """[N] training interactions of each item."""
        return np.asarray(self.items["train_count"].to_numpy(), dtype=np.int64)

    @cached_property
    def cold(self) -> npt.NDArray[np.bool_]:
        """[N] whether an item is cold."""
        return np.asarray(self.items["cold"].to_numpy(zero_copy_only=False), dtype=bool)

    def in_training(self) -> npt.NDArray[np.bool_]:
        """[interactions] whether each is of its user's training part."""
        lengths = np.diff(self.offsets)
        place = np.arange(len(self.item)) - np.repeat(self.offsets[:-1], lengths)
        return np.asarray(place < np.repeat(self.train_length, lengths))

    def train(self, user: int) -> Ints:
        """Training items of a user, oldest first."""
        start = self.offsets[user]
        return self.item[start : start + self.train_length[user]]

    def train_ties(self, user: int) -> Ints:
        """Tie groups of `train`."""
        start = self.offsets[user]
        return self.tie[start : start + self.train_length[user]]

    def context(self, user: int, split: str) -> Ints:
        """Items known before the split's target: the training part; for `test` the validation item as well."""
        start = self.offsets[user]
        return self.item[start : start + int(self.contexts(np.array([user]), split)[0, 1])]

    def contexts(self, users: Ints, split: str) -> Ints:
        """[B, 2] of (user, position), before the target of a split of users [B]."""
        position = self.train_length[users] + (split == "test")
        if self.known_length is not None and split == "test":
            position = np.where(self.valid[users] < 0, self.known_length[users], position)
        return np.stack([users, position], 1)

    def items_before(self, contexts: Ints) -> list[Ints]:
        """The items of the user before each context [C, 2] of (user, position), oldest first."""
        start = self.offsets[contexts[:, 0]]
        return [self.item[first : first + position] for first, position in zip(start, contexts[:, 1], strict=True)]

    def target(self, split: str) -> Ints:
        """[U] the one held-out item of a split, `valid` or `test`; -1 for users with none."""
        return {"valid": self.valid, "test": self.test}[split]

    def judged(self, split: str, most: int | None, seed: int) -> Ints:
        """Users with a target in the split, ascending; of more than `most` so many, drawn by seed."""
        users = np.flatnonzero(self.target(split) >= 0)
        if most is None or len(users) <= most:
            return users
        return np.sort(numpy_generator(seed, "users", split).choice(users, most, replace=False))

    def category_shares(self) -> "npt.NDArray[np.float64] | Shares":
        """[N, C] each item's share in each category: one over its number of categories; zeros where it has none.

        Of a catalogue whose table would have more than DENSE cells, in a form that is looked up by item.
        """
        categories = self.items["categories"].combine_chunks()
        names = pc.unique(pc.list_flatten(categories)).sort()
        if self.item_count * len(names) > DENSE:
            return Shares.of(categories, names)
        lists: list[list[str]] = [list(dict.fromkeys(row or [])) for row in categories.to_pylist()]
        column: dict[str, int] = {name: index for index, name in enumerate(names.to_pylist())}
        shares = np.zeros((len(lists), max(1, len(column))))
        for row, own in enumerate(lists):
            for name in own:
                shares[row, column[name]] = 1 / len(own)
        return shares


@dataclass(frozen=True)
class Shares:
    """The table [N, C] of category_shares by its entries, which many items and categories have too few of."""

    starts: Ints  # [N + 1]
    category: Ints  # [entries] of one item after the other
    shape: tuple[int, int]
    __array_ufunc__ = None  # `counts @ shares` is ours

    @classmethod
    def of(cls, lists: pa.ListArray, names: pa.Array) -> "Shares":
        """Lists of categories, each once, and all of them."""
        length = pc.list_value_length(lists).fill_null(0).to_numpy()
        entries = pc.index_in(lists.flatten(), names).to_numpy().astype(np.int64)
        return cls(np.r_[0, np.cumsum(length)].astype(np.int64), entries, (len(lists), len(names)))

    def __len__(self) -> int:
        return self.shape[0]

    def any(self) -> bool:
        """Whether any item has a category."""
        return bool(len(self.category))

    def __getitem__(self, items: Ints) -> npt.NDArray[np.float64]:
        """Rows of items [..]: [.., C]."""
        flat = np.asarray(items).ravel()
        length = self.starts[flat + 1] - self.starts[flat]
        row = np.repeat(np.arange(len(flat)), length)
        place = (
            np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length) + np.repeat(self.starts[flat], length)
        )
        found = np.zeros((len(flat), self.shape[1]))
        found[row, self.category[place]] = 1 / np.repeat(length, length)
        return found.reshape(*np.shape(items), self.shape[1])

    def __rmatmul__(self, counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """[C] counts [N] of items, spread over their categories."""
        length = np.diff(self.starts)
        weights = np.repeat(counts / np.maximum(length, 1), length)
        spread: npt.NDArray[np.float64] = np.bincount(self.category, weights, self.shape[1]).astype(np.float64)
        return spread


def load(folder: Path) -> Histories:
    """Read the corpus that `prepare` wrote. The columns of a long log are mapped into memory: a process reads the pages
    that it looks at, and processes share them. Raises InputError where the tables do not fit together.
    """
    items = read(folder / "items.parquet", ITEMS)
    users = read(folder / "users.parquet", USERS)
    if (folder / COLUMNS).is_dir():
        columns = {file.stem: np.asarray(np.load(file, mmap_mode="r")) for file in (folder / COLUMNS).iterdir()}
    else:
        table, bounds = read(folder / "interactions.parquet", INTERACTIONS), Bounds(users.num_rows)
        (columns,) = _pieces([table], bounds)
        item = columns["item"]
        if len(item) and (item.min() < 0 or item.max() >= items.num_rows):
            raise InputError(
                f"{folder}/interactions.parquet: an item is outside 0..{items.num_rows - 1}; rerun prepare"
            )
        columns |= bounds.columns()
    carried = sorted(name for name in columns if name.startswith(CARRIED))
    return Histories(
        **{name: values for name, values in columns.items() if name not in carried},
        feedback={name.removeprefix(CARRIED): columns[name] for name in carried},
        items=items,
        users=users,
    )


def map_columns(pieces: Iterable[pa.Table], folder: Path, count: int, users: int) -> Iterator[pa.Table]:
    """Unpack the columns of a log, on its way to its table, as arrays beside it for `load` to map into memory. count:
    its interactions.
    """
    bounds, into = Bounds(users), folder / COLUMNS
    into.mkdir()
    passed, unpacked = tee(pieces)
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for piece, columns in zip(passed, _pieces(unpacked, bounds), strict=True):
            for name, values in columns.items():
                if name not in files:
                    files[name] = stack.enter_context((into / f"{name}.npy").open("wb"))
                    shape = {"descr": values.dtype.str, "fortran_order": False, "shape": (count,)}
                    np.lib.format.write_array_header_1_0(files[name], shape)
                files[name].write(values.tobytes())
            yield piece
    for name, values in bounds.columns().items():
        np.save(into / f"{name}.npy", values)


class Bounds:
    """Where each user's parts begin, and what is held out, gathered piece by piece."""

    def __init__(self, users: int) -> None:
        self.length, self.train_length = np.zeros(users, np.int64), np.zeros(users, np.int64)
        self.known_length = np.zeros(users, np.int64)
        self.held_out = {name: np.full(users, -1, np.int64) for name in ("valid", "test")}

    def add(self, user: Ints, item: Ints, split: pa.ChunkedArray) -> None:
        part = pc.index_in(split, pa.array(EVERY_SPLIT)).to_numpy()
        self.length += np.bincount(user, minlength=len(self.length))
        self.train_length += np.bincount(user[part == EVERY_SPLIT.index("train")], minlength=len(self.length))
        self.known_length += np.bincount(user[part == EVERY_SPLIT.index("known")], minlength=len(self.length))
        for name, values in self.held_out.items():
            mask = part == EVERY_SPLIT.index(name)
            values[user[mask]] = item[mask]

    def columns(self) -> dict[str, Ints]:
        offsets = np.concatenate([[0], np.cumsum(self.length)])
        known = {"known_length": self.known_length} if self.known_length.any() else {}
        return {"offsets": offsets, "train_length": self.train_length, **self.held_out, **known}


def _pieces(tables: Iterable[pa.Table], bounds: Bounds) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The columns of one value per interaction, for each table of a log that is cut into some."""
    last = pa.table({"user": pa.array([], pa.int32()), "timestamp": pa.array([], pa.int64())})  # row before a table
    group = 0  # of that row
    for table in tables:
        user, item = (table[name].to_numpy().astype(np.int64) for name in ("user", "item"))
        bounds.add(user, item, table["split"])
        reach = pa.concat_tables([last, table.select(last.column_names)])
        tie = group + tie_groups(reach["user"].to_numpy(), reach["timestamp"])[last.num_rows :]
        objectives = [name for name in table.column_names if name not in INTERACTIONS.names]
        carried = {f"{CARRIED}{name}": table[name].to_numpy().astype(np.int8) for name in objectives}
        yield {"item": item, "tie": tie, **carried}
        if len(user):
            last, group = reach.slice(reach.num_rows - 1), int(tie[-1])


def tie_groups(user: Ints, timestamp: pa.ChunkedArray) -> Ints:
    """Number the runs of one user and one timestamp; an interaction of unknown time is one by itself."""
    stamp, known = timestamp.fill_null(0).to_numpy(), timestamp.is_valid().to_numpy()
    same = (user[1:] == user[:-1]) & (stamp[1:] == stamp[:-1]) & known[1:] & known[:-1]
    return np.concatenate([[0], np.cumsum(~same)])[: len(user)]
