"""Percentile bootstrap over users: how far a mean over these users would move for other users of the same kind.

A resample draws U users with replacement; its weight on a user is how often he was drawn. Statistics that are means or
ratios of sums need only the resampled sums. Coverage is neither: a resample lacks a third of the users (1/e), so its
bootstrap is biased downwards, and coverage has no interval here.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CELLS = 2**21  # resamples x users that are held at once (16 MiB)


def resampled_sums(values: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Sums over the users of each resample: values [U, M] -> [resamples, M]. Same generator state, same weights."""
    users = len(values)
    step = max(1, CELLS // users)
    sums = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(users, size=(rows, users)) + users * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        sums[start : start + rows] = weights.astype(np.float64) @ values
    return sums


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
    table = values.reshape(len(values), -1)
    known = ~np.isnan(table)
    stacked = np.concatenate([np.where(known, table, 0.0), known.astype(np.float64)], axis=1)
    total, count = np.split(resampled_sums(stacked, resamples, generator), 2, axis=1)
    means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return percentiles(means, confidence).reshape(2, *values.shape[1:])
