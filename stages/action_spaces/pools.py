"""Pools of candidates as tensors, for action spaces whose slates are picked from some."""

import numpy as np
import torch

from stages.action_spaces.base import Pool, pad
from stages.corpus.histories import Ints


def spelled_pool(pools: Ints, names: Ints) -> Pool:
    """Candidates [B, N], -1 for none, spelled by the tokens of their pool.

    names [items, D]: tokens of each item's name, -1 behind the last.
    """
    tokens = np.where(pools[..., None] >= 0, names[pools], -1)  # [B, N, D]
    tokens = tokens[..., : max(1, int((tokens >= 0).sum(2).max()))]
    columns, spelled = [], np.full(tokens.shape, -1, dtype=np.int64)
    for row, own in enumerate(tokens):
        distinct, number = np.unique(own[own >= 0], return_inverse=True)
        columns.append(distinct)
        spelled[row][own >= 0] = number
    return Pool(torch.from_numpy(pools), pad(columns, 0)[0], torch.from_numpy(spelled))


def with_wanted(pool: Ints, wanted: Ints, generator: np.random.Generator) -> Ints:
    """A pool [N] that holds the items `wanted` [J], -1 for none.

    Missing ones take the place of its last others, and stand anywhere: at the end they would give themselves away.
    """
    missing = np.setdiff1d(wanted[wanted >= 0], pool)
    if not len(missing):
        return pool
    here = pool[pool >= 0]
    spare = max(0, len(here) + len(missing) - len(pool))
    others = np.flatnonzero(~np.isin(here, wanted))
    assert spare <= len(others), "a pool has at least as many candidates as a slate has items"
    kept = np.delete(here, others[len(others) - spare :])
    place = np.concatenate([np.arange(len(kept)), generator.uniform(-1, len(kept), len(missing))])
    mixed = np.concatenate([kept, missing])[np.argsort(place, kind="stable")]
    return np.concatenate([mixed, np.full(len(pool) - len(mixed), -1)])
