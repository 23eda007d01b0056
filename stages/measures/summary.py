"""All measures of one decoder's lists on one split, with bootstrap intervals.

Measures ending in @k look at the first k slots; `invalid_share` and `duplicate_share` at whole lists.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.measures import accuracy, bootstrap, cold_start, diversity, validity

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Summary:
    """Measures by name: one value per user, and over all users a value with its bounds (NaN where it has none)."""

    per_user: dict[str, Floats]  # [U] each; NaN where a measure does not concern the user
    over_users: dict[str, tuple[float, float, float]]  # value, lower, upper bound


def per_user(lists: Ints, target: Ints, shares: Floats, cold: Bools) -> dict[str, Floats]:
    """Measures that are means over users, [U] each: lists [U, L], target [U], shares [N, C], cold [N]."""
    rank = accuracy.rank_of(lists, target)
    hits = np.arange(1, lists.shape[1] + 1) == rank[:, None]
    one = np.ones(len(lists), dtype=np.int64)
    columns: dict[str, Floats] = {}
    for k in (5, 10):
        columns[f"ndcg@{k}"] = accuracy.ndcg_at_rank(rank, k)
        columns[f"recall@{k}"] = accuracy.recall_at_rank(rank, k)
        columns[f"hitrate@{k}"] = accuracy.hitrate(hits, one, k)
    columns["entropy_slate@10"] = diversity.slate_entropy(lists[:, :10], shares)
    columns["cold_recall@10"] = cold_start.recall_of_cold(rank, cold[target], 10)
    columns["cold_exposure@10"] = cold_start.cold_exposure(lists, cold, 10)
    columns["invalid_share"] = validity.invalid_share(lists)
    columns["duplicate_share"] = validity.duplicate_share(lists)
    return columns


def summarise(
    lists: Ints,
    target: Ints,
    shares: Floats,
    cold: Bools,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> Summary:
    """Measure lists [U, L] against the target [U]; shares [N, C] and cold [N] describe the catalogue.

    Coverages come without bounds: see stages/measures/bootstrap.py.
    """
    columns = per_user(lists, target, shares, cold)
    mass = diversity.category_mass(lists[:, :10], shares)  # [U, C]
    state = generator.bit_generator.state
    bounds = bootstrap.interval(np.stack(list(columns.values()), axis=1), resamples, confidence, generator)
    generator.bit_generator.state = state  # the same resamples for the pooled entropy
    pooled = diversity.entropy_bits(bootstrap.resampled_sums(mass, resamples, generator))
    low, high = bootstrap.percentiles(pooled[:, None], confidence)[:, 0]
    over_users = {
        name: (mean(values), float(bounds[0, index]), float(bounds[1, index]))
        for index, (name, values) in enumerate(columns.items())
    }
    nan = float("nan")
    over_users["entropy_pooled@10"] = (diversity.pooled_entropy(lists[:, :10], shares), float(low), float(high))
    over_users["coverage@10"] = (diversity.coverage(lists, len(shares), 10), nan, nan)
    over_users["cold_coverage@10"] = (cold_start.cold_coverage(lists, cold, 10), nan, nan)
    return Summary(columns, over_users)


def mean(values: Floats) -> float:
    """Mean over the users that have a value; NaN when none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
