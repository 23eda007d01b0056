"""Paired comparison of methods that were run for the same users: by how much each two differ, and whether by chance.

The test is Fisher's randomisation test (The Design of Experiments, 1935; for rankings Smucker et al., CIKM 2007): if
two methods do not differ, a user's difference is as likely to have the other sign. Its p-value holds for one pair; of
many pairs some fall below any level by chance, and `holm` corrects for their number. Users are all that is drawn: it
says nothing of another training seed.

U users, R methods, P = R (R - 1) / 2 pairs (i, j) with i < j in the order of np.triu_indices(R, 1).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.measures import bootstrap

Floats = npt.NDArray[np.float64]

CELLS = 2**21  # rounds x users, or rounds x pairs, that are held at once (16 MiB)
TIE = 1e-11  # of the summed sizes of both methods' values: above the rounding of sums over a million users


@dataclass(frozen=True)
class Comparison:
    """Every pair of methods, [P] each; all NaN where no user has a value by both."""

    difference: Floats  # mean over users of the first method's value less the second's
    low: Floats  # bounds of the difference
    high: Floats
    p: Floats  # two-sided, in [1 / (1 + rounds), 1], of one pair by itself


def compare(
    values: Floats, resamples: int, rounds: int, confidence: float, generator: np.random.Generator
) -> Comparison:
    """Compare all pairs of methods, values [U, R]; a NaN leaves its user out of the method's pairs.

    Bounds are a percentile bootstrap's over users, p-values are out of so many `rounds` of sign flips (10,000 give a
    p-value of .05 to within .005). All pairs share both draws.
    """
    columns, known, contrast = _columns(values)
    total, count = columns.sum(axis=0) @ contrast, known.sum(axis=0)
    difference = bootstrap.ratio(total, count)
    sums = bootstrap.resampled_sums(np.concatenate([columns, known], axis=1), resamples, generator)
    drawn, drawn_count = np.split(sums, [columns.shape[1]], axis=1)
    low, high = bootstrap.percentiles(bootstrap.ratio(drawn @ contrast, drawn_count), confidence)
    p = (1 + extremes(columns, contrast, rounds, generator)) / (1 + rounds)
    return Comparison(difference, low, high, np.where(count > 0, p, np.nan))


def extremes(columns: Floats, contrast: Floats, rounds: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """[P] in how many rounds of random signs the sum of a pair's differences is at least as far from 0 as without.

    columns [U, M] without NaN; contrast [M, P] makes them differences. A sum that is as far but for rounding counts.
    """
    users = len(columns)
    total = columns.sum(axis=0)
    slack = TIE * (np.abs(columns).sum(axis=0) @ np.abs(contrast))
    bar = np.abs(total @ contrast) - slack
    found = np.zeros(contrast.shape[1], dtype=np.int64)
    kept = np.empty((max(1, min(rounds, CELLS // max(users, len(found)))), users))
    for start in range(0, rounds, len(kept)):
        part = kept[: rounds - start]
        words = generator.integers(2**32, size=(len(part), -(-users // 32)), dtype=np.uint32)
        part[:] = np.unpackbits(words.view(np.uint8), axis=1, count=users)
        flipped = 2 * (part @ columns) - total  # signs of 1 where kept, -1 elsewhere
        found += (np.abs(flipped @ contrast) >= bar).sum(axis=0)
    return found


def holm(p: Floats) -> Floats:
    """[P] p-values [P] adjusted for their number by Holm's step-down procedure (Scand. J. Statist. 6, 1979).

    The i-th smallest of m is multiplied by m - i + 1, is no smaller than the one before it, and at most 1. Pairs below
    a level can be called different with at most that chance of any mistake among them all. NaN stay NaN, uncounted.
    """
    order = np.argsort(p, kind="stable")[: int((~np.isnan(p)).sum())]  # NaN sort last
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def _columns(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Columns [U, M] whose sums give those of all pairs by a contrast [M, P], and who counts: known [U, 1 or P].

    Where users have values by all methods or by none, the methods' own columns do: a difference of sums is the sum of
    differences, and R columns are far fewer than P.
    """
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    first, second = np.triu_indices(values.shape[1], 1)
    methods = np.eye(values.shape[1])
    contrast = methods[:, first] - methods[:, second]
    if np.array_equal(known.any(axis=1), known.all(axis=1)):
        return filled, known[:, :1].astype(np.float64), contrast
    both = (known[:, first] & known[:, second]).astype(np.float64)
    return (filled[:, first] - filled[:, second]) * both, both, np.eye(len(first))
