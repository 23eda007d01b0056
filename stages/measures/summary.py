"""All measures of one decoder's lists on one split, with bootstrap intervals.

Measures ending in @k look at the first k slots; `invalid_share`, `null_share` and `duplicate_share` at whole lists.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.measures import accuracy, bootstrap, cold_start, diversity, popularity, validity

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Catalogue:
    """What the measures know of the N items."""

    shares: Floats  # [N, C] each item's share in each category
    cold: Bools  # [N]
    train_count: Ints  # [N] training interactions


@dataclass(frozen=True)
class Summary:
    """Measures by name: one value per user, and over all users a value with its bounds (NaN where it has none)."""

    per_user: dict[str, Floats]  # [U] each; NaN where a measure does not concern the user
    over_users: dict[str, tuple[float, float, float]]  # value, lower, upper bound


def per_user(lists: Ints, target: Ints, catalogue: Catalogue) -> dict[str, Floats]:
    """Measures that are means over users, [U] each: lists [U, L], target [U], an item for every user."""
    rank = accuracy.rank_of(lists, target)
    hits = np.arange(1, lists.shape[1] + 1) == rank[:, None]
    one = np.ones(len(lists), dtype=np.int64)
    third = popularity.thirds(catalogue.train_count)
    columns: dict[str, Floats] = {}
    for k in (5, 10):
        columns[f"ndcg@{k}"] = accuracy.ndcg_at_rank(rank, k)
        columns[f"recall@{k}"] = accuracy.recall_at_rank(rank, k)
        columns[f"hitrate@{k}"] = accuracy.hitrate(hits, one, k)
    columns["mrr@10"] = accuracy.reciprocal_rank(rank, 10)
    entropy = diversity.slate_entropy(lists[:, :10], catalogue.shares)
    columns["entropy_slate@10"] = entropy if catalogue.shares.any() else np.full(len(lists), np.nan)
    columns["cold_recall@10"] = cold_start.recall_of_cold(rank, catalogue.cold[target], 10)
    columns["cold_exposure@10"] = cold_start.cold_exposure(lists, catalogue.cold, 10)
    by_third = popularity.recall_by_third(rank, third[target], 10)
    for name, column in (("head", popularity.HEAD), ("middle", popularity.MIDDLE), ("tail", popularity.TAIL)):
        columns[f"recall_{name}@10"] = by_third[:, column]
    columns["tail_exposure@10"] = popularity.exposure_by_third(lists, third, 10)[:, popularity.TAIL]
    columns["log_popularity@10"] = popularity.mean_log_popularity(lists[:, :10], catalogue.train_count)
    columns["invalid_share"] = validity.invalid_share(lists)
    columns["null_share"] = validity.null_share(lists)
    columns["duplicate_share"] = validity.duplicate_share(lists)
    return columns


def summarise(
    lists: Ints,
    target: Ints,
    catalogue: Catalogue,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> Summary:
    """Measure lists [U, L] against the target [U]. Coverages come without bounds: see stages/measures/bootstrap.py."""
    columns = per_user(lists, target, catalogue)
    values = bootstrap.summands(np.stack(list(columns.values()), axis=1))
    mass = diversity.category_mass(lists[:, :10], catalogue.shares)  # [U, C], of the pooled entropy
    sums = bootstrap.resampled_sums(np.concatenate([values, mass], axis=1), resamples, generator)
    means, pooled = np.split(sums, [values.shape[1]], axis=1)
    statistics = np.column_stack([bootstrap.ratio(*np.split(means, 2, axis=1)), diversity.entropy_bits(pooled)])
    bounds = bootstrap.percentiles(statistics, confidence).T.tolist()
    found = [mean(own) for own in columns.values()] + [diversity.pooled_entropy(lists[:, :10], catalogue.shares)]
    over_users = {
        name: (value, low, high)
        for name, value, (low, high) in zip([*columns, "entropy_pooled@10"], found, bounds, strict=True)
    }
    nan = float("nan")
    lift = popularity.popularity_lift(np.array(over_users["log_popularity@10"]), catalogue.train_count).tolist()
    over_users["popularity_lift@10"] = lift[0], lift[1], lift[2]
    over_users["coverage@10"] = (diversity.coverage(lists, len(catalogue.shares), 10), nan, nan)
    over_users["cold_coverage@10"] = (cold_start.cold_coverage(lists, catalogue.cold, 10), nan, nan)
    return Summary(columns, over_users)


def mean(values: Floats) -> float:
    """Mean over the users that have a value; NaN when none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
