"""Candidate pools: a few items per context, drawn from several retrievers by quota."""

from collections.abc import Sequence

import numpy as np

from stages.corpus.histories import Ints

ROWS = 4096  # contexts mixed at once


def mix(lists: Sequence[Ints], quotas: Sequence[int]) -> Ints:
    """Pools [C, sum of quotas] from ranked lists [C, n] of items, -1 for none.

    Each list in turn gives its best items that the pool does not have yet, up to its quota; places that are left go to
    the best of the lists in the same order. Raises nothing: a pool short of items ends in -1.
    """
    size = sum(quotas)
    pools = np.full((len(lists[0]), size), -1, dtype=np.int64)
    for start in range(0, len(pools), ROWS):
        part = pools[start : start + ROWS]
        filled = np.zeros(len(part), dtype=np.int64)
        for quota, own in [*zip(quotas, lists, strict=True), *((size, own) for own in lists)]:
            filled = _take(part, filled, own[start : start + ROWS], np.minimum(quota, size - filled))
    return pools


def _take(pools: Ints, filled: Ints, items: Ints, most: Ints) -> Ints:
    """Put up to `most` [C] new ones of `items` [C, n] behind a pool's `filled` [C] first; how many it has then."""
    fresh = (items >= 0) & ~(items[:, :, None] == pools[:, None, :]).any(2)
    rank = fresh.cumsum(1) - 1
    row, column = np.nonzero(fresh & (rank < most[:, None]))
    pools[row, filled[row] + rank[row, column]] = items[row, column]
    return filled + np.bincount(row, minlength=len(pools))


def recall(pools: Ints, targets: Ints) -> float | None:
    """Share of targets [C] that are in their pool: the most that any slate of it can reach. None without a target."""
    return float((pools == targets[:, None]).any(1).mean()) if len(targets) else None
