"""One id per item: items that share all codes keep the prefix and take the nearest free last code."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from stages.core.errors import InputError
from stages.semantic_ids.rkmeans import Floats, Ints


def reassign_last_code(codes: Ints, vectors: Floats, codebooks: list[Floats]) -> Ints:
    """Give the items of each prefix different last codes, at the least total squared distance to their codewords.

    codes [N, D], vectors [N, width]. An item whose prefix has more items than last codes moves to the nearest
    last-but-one code that has room. Raises InputError where the items of one first code do not fit at all.
    """
    codes = _spread_full_prefixes(codes.copy(), vectors, codebooks)
    reach = vectors - sum(codebook[codes[:, level]] for level, codebook in enumerate(codebooks[:-1]))
    distance = _squared_distance(reach.astype(np.float32), codebooks[-1])  # [N, size]
    for members in _groups(codes[:, :-1]):
        if len(members) > 1:
            rows, columns = linear_sum_assignment(distance[members])
            codes[members[rows], -1] = columns
    return codes


def _spread_full_prefixes(codes: Ints, vectors: Floats, codebooks: list[Floats]) -> Ints:
    """Move the items farthest from their codeword out of prefixes that hold more items than there are last codes."""
    size = len(codebooks[-1])
    if codes.shape[1] == 1:
        if len(codes) > size:
            raise InputError(f"{len(codes)} items do not fit {size} codes; raise semantic_id.codebook_size or levels")
        return codes
    base = vectors - sum((book[codes[:, i]] for i, book in enumerate(codebooks[:-2])), np.float32(0))
    distance = _squared_distance(base.astype(np.float32), codebooks[-2])  # [N, size]
    for family in _groups(codes[:, :-2]):
        if len(family) > size * len(codebooks[-2]):
            raise InputError(
                f"{len(family)} items share the code {codes[family[0], :-2].tolist()}; "
                "raise semantic_id.codebook_size or levels"
            )
        room = size - np.bincount(codes[family, -2], minlength=len(codebooks[-2]))
        for item in family[np.argsort(-distance[family, codes[family, -2]], kind="stable")]:
            full = codes[item, -2]
            if room[full] < 0:
                nearest = np.argsort(distance[item], kind="stable")
                codes[item, -2] = nearest[room[nearest] > 0][0]
                room[full] += 1
                room[codes[item, -2]] -= 1
    return codes


def _groups(prefixes: Ints) -> list[Ints]:
    """Items [n] that share a row of `prefixes` [N, d], for each such row."""
    if prefixes.shape[1] == 0:
        return [np.arange(len(prefixes))]
    inverse = np.unique(prefixes, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.cumsum(np.bincount(inverse))[:-1])


def _squared_distance(vectors: Floats, codebook: Floats) -> Floats:
    """[N, size] squared distance of each vector to each codeword."""
    return (vectors**2).sum(1, keepdims=True) + (codebook**2).sum(1) - 2 * vectors @ codebook.T
