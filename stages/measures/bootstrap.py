"""Percentile bootstrap over users: how far a mean over these users would move for other users of the same kind.

A resample draws U users with replacement; its weight on a user is how often he was drawn. Statistics that are means or
ratios of sums need only the resampled sums. Coverage is neither: a resample lacks a third of the users (1/e), so its
bootstrap is biased downwards, and coverage has no interval here.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CELLS = 2**21  # resamples x users that are held at once (16 MiB)


def resampled_weights(users: int, resamples: int, generator: np.random.Generator) -> Iterator[Floats]:
    """How often each user is drawn in each resample, [n, U] at a time, which is written over: n sums to `resamples`."""
    weights = np.empty((max(1, min(resamples, CELLS // users)), users))  # fresh memory is slow
    for start in range(0, resamples, len(weights)):
        part = weights[: resamples - start]
        for row in part:
            row[:] = np.bincount(generator.integers(users, size=users, dtype=np.int32), minlength=users)
        yield part


def resampled_sums(values: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Sums over the users of each resample: values [U, M] -> [resamples, M]. Same generator state, same weights."""
    return np.concatenate([weights @ values for weights in resampled_weights(len(values), resamples, generator)])


def percentiles(statistics: Floats, confidence: float) -> Floats:
    """[2, M] the bounds that hold `confidence` of the resamples [resamples, M]; NaN where every resample is NaN."""
    bounds = np.full((2, statistics.shape[1]), np.nan)
    known = ~np.isnan(statistics).all(axis=0)
    if known.any():
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        bounds[:, known] = np.nanquantile(statistics[:, known], tails, axis=0)
    return bounds


def interval(values: Floats, resamples: int, confidence: float, generator: np.random.Generator) -> Floats:
    """Interval of the mean over users: values [U] -> [2], values [U, M] -> [2, M].

    A NaN leaves its user out of that measure: the statistic is then the ratio of two resampled sums, the values and the
    number of users that have one (cold recall). A resample without any such user does not count.
    """
    sums = resampled_sums(summands(values.reshape(len(values), -1)), resamples, generator)
    return percentiles(ratio(*np.split(sums, 2, axis=1)), confidence).reshape(2, *values.shape[1:])


def summands(values: Floats) -> Floats:
    """[U, 2M] whose sums give means by `ratio`: the values [U, M], 0 for NaN, beside 1 for a value, 0 for NaN."""
    known = ~np.isnan(values)
    return np.concatenate([np.where(known, values, 0.0), known.astype(np.float64)], axis=1)


def ratio(total: Floats, count: Floats) -> Floats:
    """[..., M] sums over the number of users that they are over, [..., M] or [..., 1]; NaN where there is none."""
    count = np.broadcast_to(count, total.shape)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
