"""Which interactions of a log are kept, and in which order, on integer arrays.

Work goes by blocks of whole users: memory beyond the arrays is bounded by a block or by the longest history, and the
cost of an interaction does not depend on the length of the log.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stages.core.seeding import numpy_generator
from stages.corpus.faults import SHOWN, Faults
from stages.corpus.numbering import UNKNOWN, Codes, Ints, NumberedLog

Mask = npt.NDArray[np.bool_]
Value = TypeVar("Value", bound=np.generic)
BLOCK = 1 << 21  # interactions


def blocks(offsets: Ints) -> Iterator[tuple[int, int]]:
    """Ranges of interactions, sorted by user, that hold whole users: at most BLOCK, or one. offsets: [users + 1]."""
    first = 0
    while first < len(offsets) - 1:
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + BLOCK, side="right")) - 1)
        if offsets[last] > offsets[first]:
            yield int(offsets[first]), int(offsets[last])
        first = last


def owners(offsets: Ints, start: int, end: int) -> Ints:
    """The users of a range of interactions, sorted by user."""
    first, last = np.searchsorted(offsets, [start, end - 1], side="right") - 1
    bounds = np.clip(offsets[first : last + 2], start, end)
    return np.repeat(np.arange(first, last + 1), np.diff(bounds))


def counted(codes: Codes, count: int) -> Ints:
    """How often each code 0..count-1 occurs."""
    found = np.zeros(count, dtype=np.int64)
    for start in range(0, len(codes), 8 * BLOCK):  # bincount makes a copy of 8 bytes each
        found += np.bincount(codes[start : start + 8 * BLOCK], minlength=count)
    return found


def gathered(column: npt.NDArray[Value], rows: Codes) -> npt.NDArray[Value]:
    """column[rows], for rows from 0 on that the column has. By two threads, as it is memory that is waited for; in
    blocks, as a row's number is copied to 8 bytes; by `take`, which needs half of an index's time.
    """
    found = np.empty(len(rows), dtype=column.dtype)

    def block(start: int) -> None:
        np.take(column, rows[start : start + BLOCK], out=found[start : start + BLOCK], mode="clip")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(block, range(0, len(rows), BLOCK)))
    return found


def ordered(log: NumberedLog, tie_order: str, file: str, faults: Faults) -> tuple[Codes, Ints]:
    """Rows of the log in the corpus's order, [n]; and where each user begins, [users + 1]. This is where the faults of
    the data are told, those of positions with them.
    """
    rows, offsets = time_order(log)
    check_positions(log, rows, offsets, file, faults)
    faults.check()
    assert min(log.user.min(), log.item.min()) >= 0, "the source let an unknown id through"
    if tie_order == "shuffle":
        shuffle_ties(log, rows, offsets)
    return rows, offsets


def time_order(log: NumberedLog) -> tuple[Codes, Ints]:
    """Rows of the log sorted by user, then by position or timestamp, [n]; and where each user begins, [users + 1].

    A timestamp counts to its nanosecond. Equal keys stay in file order. Rows whose user is -1 lie behind the last user.
    """
    rows, offsets = _by_user(log.user, len(log.user_ids))
    for start, end in blocks(offsets):
        part = rows[start:end]
        owner, key = owners(offsets, start, end), gathered(log.order, part)
        if log.position is None and log.beyond is not None:
            part = part[np.lexsort((log.beyond[part], key, owner))]
        elif ((key[1:] < key[:-1]) & (owner[1:] == owner[:-1])).any():
            part = part[_by_key(owner - owner[0], key)]
        rows[start:end] = part
    return rows, offsets


def shuffle_ties(log: NumberedLog, rows: Codes, offsets: Ints) -> None:
    """Let neighbours of one user with the same timestamp change places, in place, by a fixed draw per row of the file,
    which does not depend on what is dropped later; unknown timestamps tie with none.
    """
    draw = numpy_generator("prepare", "tie_order").random(len(rows))
    for start, end in blocks(offsets):
        part = rows[start:end]
        rows[start:end] = part[np.lexsort((draw[part], _runs(log, part)))]


def check_positions(log: NumberedLog, rows: Codes, offsets: Ints, file: str, faults: Faults) -> None:
    """Add the rows whose user has their position before: two rows of one position have no order. rows: by position,
    before ties of time are drawn.
    """
    if log.position is None:
        return
    count, first = 0, np.empty(0, dtype=rows.dtype)
    for start, end in blocks(offsets):
        part = rows[start:end]
        owner, key = owners(offsets, start, end), gathered(log.position, part)
        twice = part[1:][(owner[1:] == owner[:-1]) & (key[1:] == key[:-1]) & (key[1:] != UNKNOWN)]
        count += len(twice)
        first = np.sort(np.concatenate([first, twice]))[:SHOWN]
    if count:
        shown = [(int(row), f" ({log.position[row]})") for row in first]
        faults.count(f"{file}: a user has the position before", count, shown)


def first_ones(log: NumberedLog, rows: Codes, offsets: Ints) -> Mask:
    """Which interactions are the first of their user with their item, [n] in file order."""
    keep = np.zeros(len(rows), dtype=bool)
    for start, end in blocks(offsets):
        part = rows[start:end]
        pair = log.user[part].astype(np.int64) * len(log.item_ids) + log.item[part]
        keep[part[np.unique(pair, return_index=True)[1]]] = True
    return keep


def latest(rows: Codes, offsets: Ints, keep: Mask, most: int) -> Mask:
    """Of the interactions that are kept so far, the last `most` of each user, [n] in file order."""
    found = np.zeros(len(rows), dtype=bool)
    left, begin = kept(rows, offsets, keep)
    length = np.diff(begin)
    parts = np.stack([np.maximum(length - most, 0), np.minimum(length, most)], axis=1)  # [users, (dropped, kept)]
    found[left[np.repeat(np.tile([False, True], len(length)), parts.ravel())]] = True
    return found


def core(user: Codes, item: Codes, least: int, keep: Mask | None = None) -> Mask:
    """Which interactions, of those in `keep`, remain once every user and item left has at least `least` of them."""
    keep = np.ones(len(user), dtype=bool) if keep is None else keep.copy()
    whole = bool(keep.all())
    of_user = counted(user if whole else user[keep], int(user.max(initial=-1)) + 1)
    of_item = counted(item if whole else item[keep], int(item.max(initial=-1)) + 1)
    while True:
        falls = gathered(of_user < least, user)
        falls |= gathered(of_item < least, item)
        falls &= keep
        gone = np.flatnonzero(falls)
        if not len(gone):
            return keep
        keep[gone] = False
        of_user -= counted(user[gone], len(of_user))
        of_item -= counted(item[gone], len(of_item))


def kept(rows: Codes, offsets: Ints, keep: Mask) -> tuple[Codes, Ints]:
    """The sorted rows that are kept, and where each user begins among them."""
    inside = gathered(keep, rows)
    length, users = np.zeros(len(offsets) - 1, dtype=np.int64), np.flatnonzero(np.diff(offsets))
    if len(users):
        length[users] = np.add.reduceat(inside, offsets[users], dtype=np.int64)
    return rows[inside], np.concatenate([[0], np.cumsum(length)])


def _by_user(user: Codes, users: int) -> tuple[Codes, Ints]:
    """Row numbers grouped by user, in file order within each: the counting sort of scipy's sparse matrices. Where each
    begins; those of user -1 come behind.
    """
    if user.min(initial=0) < 0:
        user = np.where(user < 0, np.int32(users), user)
    shape = (users + 1, len(user))
    marks = sparse.coo_array((np.ones(len(user), dtype=np.int8), (user, np.arange(len(user), dtype=np.int32))), shape)
    grouped = marks.tocsr()
    return grouped.indices.astype(np.int32, copy=False), grouped.indptr[:-1].astype(np.int64)


def _by_key(owner: Ints, key: Ints) -> Ints:
    """The stable order by owner, from 0, then key: by one number for both where 64 bits hold it, which is sorted many
    times faster where the keys all but are.
    """
    least, span = int(key.min()), int(key.max()) - int(key.min()) + 1
    if (int(owner[-1]) + 1) * span >= 1 << 63:
        return np.lexsort((key, owner))
    return np.argsort(owner * span + (key - least), kind="stable")


def _runs(log: NumberedLog, rows: Codes) -> Ints:
    """Number the runs of one user and one known timestamp."""
    owner, stamp = log.user[rows], log.timestamp[rows]
    tied = (owner[1:] == owner[:-1]) & (stamp[1:] == stamp[:-1]) & (stamp[1:] != UNKNOWN)
    if log.beyond is not None:
        tied &= np.diff(log.beyond[rows]) == 0
    return np.concatenate([[0], np.cumsum(~tied)])
