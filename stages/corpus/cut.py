"""From a source's log to the corpus: time order, k-core, dense numbers, leave-one-out split, cold items, feedback.

Pure functions; the tables are those of stages/core/schema.py. Nothing vanishes uncounted: what came in is what is kept
plus what `Cut.dropped` lists by reason.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from stages.core import schema
from stages.core.errors import InputError
from stages.core.sections import Corpus, Feedback
from stages.core.seeding import numpy_generator
from stages.corpus.raw_log import RawLog

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """The corpus tables and what was left out of them, by reason."""

    items: pa.Table
    users: pa.Table
    interactions: pa.Table
    dropped: dict[str, int]


def cut(raw: RawLog, settings: Corpus) -> Cut:
    """Make the corpus tables. Raises InputError where nothing is left or a feedback rule names no column."""
    log = raw.interactions
    user = pd.Index(raw.users["user_id"]).get_indexer(pd.Index(log["user_id"])).astype(np.int64)
    item = pd.Index(raw.items["item_id"]).get_indexer(pd.Index(log["item_id"])).astype(np.int64)
    assert not len(log) or (user.min() >= 0 and item.min() >= 0), "the source let an unknown id through"
    rows = time_order(log, user, settings.tie_order)
    rows = rows[core(user[rows], item[rows], settings.k_core)]
    if not len(rows):
        raise InputError(f"k_core {settings.k_core} leaves none of the {len(log):,} interactions; lower it")
    users, user_number = np.unique(user[rows], return_inverse=True)  # in the order of the users table
    items, item_number = np.unique(item[rows], return_inverse=True)  # in the order of the items table
    split = leave_one_out(user_number)
    train_count = np.bincount(item_number[split == 0], minlength=len(items))
    carried = {
        name: feedback(rule, log.iloc[rows], item_number, train_count, name) for name, rule in settings.feedback.items()
    }
    return Cut(
        items=_items(raw.items.iloc[items], train_count, settings),
        users=_users(raw.users.iloc[users]),
        interactions=_interactions(log["timestamp"].iloc[rows], user_number, item_number, split, carried),
        dropped={
            "users: no interaction": len(raw.users) - len(np.unique(user)),
            "users: below k_core": len(np.unique(user)) - len(users),
            "items: no interaction": len(raw.items) - len(np.unique(item)),
            "items: below k_core": len(np.unique(item)) - len(items),
            "interactions: below k_core": len(log) - len(rows),
        },
    )


def time_order(log: pd.DataFrame, user: Ints, tie_order: str) -> Ints:
    """Rows of the log sorted by user, then by `position` where there is one, otherwise by timestamp.

    Equal keys stay in file order. With `shuffle`, neighbours of one user with the same timestamp change places by a
    fixed draw per row of the file, which does not depend on what is dropped later; unknown timestamps tie with none.
    """
    key = log["position" if "position" in log.columns else "timestamp"].to_numpy(dtype=np.int64)
    rows = np.lexsort((key, user))
    if tie_order == "file" or not len(rows):
        return rows
    known = log["timestamp"].notna().to_numpy()[rows]
    stamp = log["timestamp"].fillna(0).to_numpy(dtype=np.int64)[rows]
    owner = user[rows]
    tied = (owner[1:] == owner[:-1]) & (stamp[1:] == stamp[:-1]) & known[1:] & known[:-1]
    run = np.concatenate([[0], np.cumsum(~tied)])
    draw = numpy_generator("prepare", "tie_order").random(len(rows))
    return rows[np.lexsort((draw[rows], run))]


def core(user: Ints, item: Ints, least: int) -> Mask:
    """Which interactions remain once every user and item left has at least `least` of them."""
    keep = np.ones(len(user), dtype=bool)
    while True:
        of_user = np.bincount(user[keep], minlength=user.max(initial=-1) + 1)
        of_item = np.bincount(item[keep], minlength=item.max(initial=-1) + 1)
        remain = keep & (of_user[user] >= least) & (of_item[item] >= least)
        if remain.sum() == keep.sum():
            return keep
        keep = remain


def leave_one_out(user: Ints) -> npt.NDArray[np.int8]:
    """Index into schema.SPLITS of each interaction, sorted by user 0..U-1, then time: the last is test, the last but
    one valid. A user with fewer than 3 interactions is wholly train: nothing would be left to learn from.
    """
    length = np.bincount(user)
    end = np.cumsum(length)
    split = np.zeros(len(user), dtype=np.int8)
    split[end[length >= 3] - 1] = schema.SPLITS.index("test")
    split[end[length >= 3] - 2] = schema.SPLITS.index("valid")
    return split


def cold_items(train_count: Ints, share: float, ties: str) -> Mask:
    """Which items are cold: the `share` of the N items with the lowest training frequency (Sec. 4.1.3).

    n = floor(share * N) items are due. Where the n-th and the next have the same count, the cut falls inside a tie:
    `include` takes the whole tie, `exclude` none of it, `exact` its first items by number, so that n are cold.
    """
    due = math.floor(share * len(train_count) + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if not due:
        return np.zeros(len(train_count), dtype=bool)
    ranked = np.argsort(train_count, kind="stable")
    last = train_count[ranked[due - 1]]
    if ties == "exact":
        return np.isin(np.arange(len(train_count)), ranked[:due])
    inside_tie = due < len(ranked) and train_count[ranked[due]] == last
    cold: Mask = train_count < last if ties == "exclude" and inside_tie else train_count <= last
    return cold


def feedback(
    rule: Feedback, log: pd.DataFrame, item: Ints, train_count: Ints, name: str = "feedback"
) -> npt.NDArray[np.int8]:
    """R_m of each interaction, 0 or 1. An empty value of the rule's column is no feedback.

    `tail`: the item's training count is at most the median over items, so at least half of the items are tail items
    and all that tie with the median are among them.
    """
    if rule.rule == "any":
        return np.ones(len(item), dtype=np.int8)
    if rule.rule == "tail":
        return (train_count <= np.median(train_count))[item].astype(np.int8)
    have = [column for column in log.columns if column not in ("user_id", "item_id")]
    if rule.column not in have:
        raise InputError(
            f"feedback.{name}.column: the log has no numeric column '{rule.column}'; it has: {', '.join(have)}"
        )
    carries: npt.NDArray[np.int8] = log[rule.column].ge(rule.threshold).fillna(False).to_numpy(dtype=np.int8)
    return carries


def at_level(paths: list[list[str]], level: int | None) -> list[list[str]]:
    """The categories that diversity is measured on: all entries, or the n-th of each path; none where it is shorter."""
    chosen = paths if level is None else [path[level - 1 : level] for path in paths]
    return [list(dict.fromkeys(entry for entry in row if entry)) for row in chosen]


def _items(items: pd.DataFrame, train_count: Ints, settings: Corpus) -> pa.Table:
    columns = {
        "item": np.arange(len(items)),
        "item_id": items["item_id"],
        "title": items["title"],
        "text": items["text"],
        "categories": at_level(items["categories"].tolist(), settings.category_level),
        "train_count": train_count,
        "cold": cold_items(train_count, settings.cold_share, settings.cold_ties),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema.ITEMS], schema=schema.ITEMS)


def _users(users: pd.DataFrame) -> pa.Table:
    profile = [name for name in users.columns if name != "user_id"]
    names = ["user", "user_id", *profile]
    fields = pa.schema([*schema.USERS, *((name, pa.string()) for name in profile)])
    arrays = [pa.array(np.arange(len(users)), pa.int32()), *(pa.array(users[name], pa.string()) for name in names[1:])]
    return pa.table(arrays, schema=fields)


def _interactions(
    timestamp: pd.Series, user: Ints, item: Ints, split: npt.NDArray[np.int8], carried: dict[str, npt.NDArray[np.int8]]
) -> pa.Table:
    taken = [name for name in carried if name in schema.INTERACTIONS.names]
    if taken:
        raise InputError(f"feedback.{taken[0]}: the name is a column of the interactions; choose another")
    columns = {
        "user": user,
        "item": item,
        "position": np.arange(len(user)) - np.searchsorted(user, user),
        "timestamp": timestamp,
        "split": np.array(schema.SPLITS)[split],
        **carried,
    }
    fields = pa.schema([*schema.INTERACTIONS, *((name, pa.int8()) for name in carried)])
    return pa.table([pa.array(columns[field.name], field.type) for field in fields], schema=fields)
