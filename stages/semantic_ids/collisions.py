"""One id per item: what becomes of items that share all their codes. The rules, by their name in params.yaml."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from stages.core.errors import InputError
from stages.semantic_ids.quantised import Floats, Ints, Quantised, codeword_sum, squared_distance

SINKHORN_STEPS, SINKHORN_SHARPNESS = 50, 20.0


def suffix(found: Quantised) -> Ints:
    """Add a level that numbers the items of each id, 0 for one that had it alone: codes [N, D + 1] (TIGER)."""
    number = np.zeros(len(found.codes), dtype=np.int64)
    for members in _groups(found.codes):
        number[members] = np.arange(len(members))
    return np.column_stack([found.codes, number])


def reassign(found: Quantised) -> Ints:
    """Where items collide, give those of their prefix different last codes, at the least total squared distance.

    An item whose prefix has more items than last codes moves to the nearest last-but-one code that has room. Raises
    InputError where the items of one first code do not fit at all.
    """
    codes = _spread_full_prefixes(found)
    distance = _distance(found, codes, codes.shape[1] - 1)
    moved = (codes != found.codes).any(1)
    codes[moved, -1] = distance[moved].argmin(1)
    return _distinct(codes, distance)


def sinkhorn(found: Quantised) -> Ints:
    """Spread the items evenly over the last level's codes, and let each go to the one that takes most of it.

    Optimal transport from the items' last residuals to the last codebook with uniform margins on both sides,
    regularised by entropy (Sinkhorn; LC-Rec, arXiv 2311.09049). Where the heaviest codes of a prefix collide, its items
    get different ones, at the greatest total log mass.
    """
    codes = _spread_full_prefixes(found)
    distance = _distance(found, codes, codes.shape[1] - 1).astype(np.float64)
    plan = -SINKHORN_SHARPNESS * distance / max(distance.mean(), np.finfo(np.float64).tiny)
    for _ in range(SINKHORN_STEPS):
        plan -= logsumexp(plan, axis=0, keepdims=True)  # every code the same mass
        plan -= logsumexp(plan, axis=1, keepdims=True)  # every item one
    codes[:, -1] = plan.argmax(1)
    return _distinct(codes, -plan)


RULES: dict[str, Callable[[Quantised], Ints]] = {"suffix": suffix, "reassign": reassign, "sinkhorn": sinkhorn}


def _distinct(codes: Ints, cost: Floats) -> Ints:
    """Codes [N, D] with other last codes where two are the same: those of least total cost [N, size] in the prefix."""
    for members in _groups(codes[:, :-1]):
        if len(np.unique(codes[members, -1])) < len(members):
            rows, columns = linear_sum_assignment(cost[members])
            codes[members[rows], -1] = columns
    return codes


def _spread_full_prefixes(found: Quantised) -> Ints:
    """Codes in which no prefix holds more items than there are last codes: those farthest from their codeword move."""
    codes, size = found.codes.copy(), len(found.codebooks[-1])
    if codes.shape[1] == 1:
        if len(codes) > size:
            raise InputError(f"{len(codes)} items do not fit {size} codes; raise semantic_id.codebook_size or levels")
        return codes
    distance = _distance(found, codes, codes.shape[1] - 2)
    for family in _groups(codes[:, :-2]):
        if len(family) > size * len(found.codebooks[-2]):
            shared = codes[family[0], :-2].tolist()
            raise InputError(
                f"{len(family)} items {f'share the code {shared} and ' if shared else ''}do not fit the "
                f"{size * len(found.codebooks[-2])} ids of two codes; raise semantic_id.codebook_size or levels"
            )
        room = size - np.bincount(codes[family, -2], minlength=len(found.codebooks[-2]))
        for item in family[np.argsort(-distance[family, codes[family, -2]], kind="stable")]:
            full = codes[item, -2]
            if room[full] < 0:
                nearest = np.argsort(distance[item], kind="stable")
                codes[item, -2] = nearest[room[nearest] > 0][0]
                room[full] += 1
                room[codes[item, -2]] -= 1
    return codes


def _distance(found: Quantised, codes: Ints, level: int) -> Floats:
    """Squared distance of what the levels before `level` have left of each item to its codewords: [N, size]."""
    left = found.points - codeword_sum(codes[:, :level], found.codebooks) if level else found.points
    return squared_distance(left, found.codebooks[level])


def _groups(prefixes: Ints) -> list[Ints]:
    """Items [n] that share a row of `prefixes` [N, d], for each such row."""
    if prefixes.shape[1] == 0:
        return [np.arange(len(prefixes))]
    inverse = np.unique(prefixes, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.cumsum(np.bincount(inverse))[:-1])
