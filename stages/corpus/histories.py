"""A corpus in memory: every user's interactions as flat integer arrays, in time order."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.core.errors import InputError
from stages.core.schema import INTERACTIONS, ITEMS, USERS, read
from stages.core.seeding import numpy_generator

Ints = npt.NDArray[np.int64]


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
        return self.item[start : start + self.train_length[user] + (split == "test")]

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

    def category_shares(self) -> npt.NDArray[np.float64]:
        """[N, C] each item's share in each category: one over its number of categories; zeros where it has none."""
        lists: list[list[str]] = [list(dict.fromkeys(row or [])) for row in self.items["categories"].to_pylist()]
        names = sorted({name for row in lists for name in row})
        column: dict[str, int] = {name: index for index, name in enumerate(names)}
        shares = np.zeros((len(lists), max(1, len(names))))
        for row, own in enumerate(lists):
            for name in own:
                shares[row, column[name]] = 1 / len(own)
        return shares


def load(folder: Path) -> Histories:
    """Read the corpus that `prepare` wrote. Raises InputError where the tables do not fit together."""
    items = read(folder / "items.parquet", ITEMS)
    users = read(folder / "users.parquet", USERS)
    log = read(folder / "interactions.parquet", INTERACTIONS)
    user = log["user"].to_numpy().astype(np.int64)
    item = log["item"].to_numpy().astype(np.int64)
    split: Any = np.asarray(log["split"].to_pylist())
    if len(item) and (item.min() < 0 or item.max() >= items.num_rows):
        raise InputError(f"{folder}/interactions.parquet: an item is outside 0..{items.num_rows - 1}; rerun prepare")
    offsets = np.searchsorted(user, np.arange(users.num_rows + 1))
    train_length = np.bincount(user[split == "train"], minlength=users.num_rows)
    return Histories(
        item=item,
        tie=tie_groups(user, log["timestamp"]),
        offsets=offsets,
        train_length=train_length,
        valid=_held_out(user, item, split == "valid", users.num_rows),
        test=_held_out(user, item, split == "test", users.num_rows),
        feedback={
            name: log[name].to_numpy().astype(np.int8) for name in log.column_names if name not in INTERACTIONS.names
        },
        items=items,
        users=users,
    )


def _held_out(user: Ints, item: Ints, mask: npt.NDArray[np.bool_], users: int) -> Ints:
    held_out = np.full(users, -1, dtype=np.int64)
    held_out[user[mask]] = item[mask]
    return held_out


def tie_groups(user: Ints, timestamp: pa.ChunkedArray) -> Ints:
    """Number the runs of one user and one timestamp; an interaction of unknown time is one by itself."""
    stamp, known = timestamp.fill_null(0).to_numpy(), timestamp.is_valid().to_numpy()
    same = (user[1:] == user[:-1]) & (stamp[1:] == stamp[:-1]) & known[1:] & known[:-1]
    return np.concatenate([[0], np.cumsum(~same)])[: len(user)]
