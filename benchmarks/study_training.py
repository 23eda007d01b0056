"""The tables of docs/study.md of RL itself, from the curves of its cells.

- bounds: over the last half of the rollouts, by seed and in the mean: quantiles of r, the shares of rewarded slates
  that the upper bound stops and of rejected ones that the lower bound does (of SAGE's floor apart for lambda = 1 and
  lambda > 1), the cosine of SAGE's and GBPO's gradients with its least and largest. They are of a rollout's last pass.
- training: at the first rollout, over the last half and over all, mean over seeds: of sampled slates the rewards, by
  objective as well, with their correlation, and entropy; the share of rewarded slates at the upper bound; and after the
  step the probability of a cold item as the first.
- looks: at the reserve, mean over seeds: the greedy reward of the selecting half, by which the published look is chosen
  of those after the first, and of the reporting half, at SFT's policy and at the one that is published.
- drift: what benchmarks/drift.py found, mean over seeds, where it is kept.
"""

import json

import pandas as pd

from benchmarks.study_cells import Cells, Frame

QUANTILES = ["ratio_min", "ratio_q05", "ratio_mean", "ratio_q95", "ratio_max"]
SHARES = ["at_upper_bound", "at_lower_bound", "at_floor_low_diversity", "at_floor_usual_diversity", "lambda_mean"]
BOUNDS = [*QUANTILES, *SHARES, "bounded_rewarded", "bounded_rejected", "bound_share_max", "kl", "gbpo_cosine"]
COURSE = ["reward", "entropy", "token_entropy", "cold_mass", "at_upper_bound"]
HALVES = {"selecting": "selection_reward", "reporting": "heldout_greedy_reward"}
OBJECTIVES = ("reward_", "correlation_")


def bounds(cells: Cells) -> Frame:
    """By row and seed, and the mean of a row's seeds."""
    found = {}
    for row, seed, path in cells.kept("curve-*.csv"):
        curve = pd.read_csv(path)
        if len(curve) > 1:
            late = curve[curve["step"] > curve["step"].max() / 2].reindex(columns=BOUNDS)
            cosine = late["gbpo_cosine"]
            found[row, str(seed)] = pd.concat(
                [late.mean(), pd.Series({"cosine_min": cosine.min(), "cosine_max": cosine.max()})]
            )
    table = pd.DataFrame(found).T
    if not len(table):
        return table
    means = table.groupby(level=0).mean()
    means.index = pd.MultiIndex.from_product([means.index, ["mean"]])
    return pd.concat([table, means]).sort_index()


def training(cells: Cells) -> Frame:
    """By row and figure, mean over seeds: at the first rollout, over the last half, over all."""
    found = []
    for row, seed, path in cells.kept("curve-*.csv"):
        curve = pd.read_csv(path)
        figures = [name for name in curve if name in COURSE or name.startswith(OBJECTIVES)]
        if len(curve) > 1:
            late = curve[curve["step"] > curve["step"].max() / 2]
            parts = {"first": curve.iloc[0][figures], "last half": late[figures].mean(), "all": curve[figures].mean()}
            found.append(pd.DataFrame(parts).assign(row=row, seed=seed).rename_axis("figure").reset_index())
    if not found:
        return pd.DataFrame()
    means = pd.concat(found).groupby(["row", "figure"], sort=False)[["first", "last half", "all"]].mean()
    return means.dropna(how="all")


def looks(cells: Cells) -> Frame:
    """By row, mean over seeds: rewards of SFT's policy and of the published one."""
    curves, found = cells.curves("heldout-*.csv"), {}
    for row, own in curves.groupby("row"):
        before, after = own[own["step"] == 0], own[own["step"] > 0].sort_values("selection_reward")
        best = after.groupby("seed").tail(1)
        found[row] = {
            f"{half}, {when}": table[name].mean()
            for half, name in HALVES.items()
            for when, table in (("SFT", before), ("published", best))
        }
    return pd.DataFrame(found).T


def drift(cells: Cells) -> Frame:
    """By list, mean over the seeds that have it: the last line of benchmarks/drift.py, kept as drift-<seed>.json."""
    tables = []
    for path in sorted(cells.folder.glob("drift-*.json")):
        try:
            told = json.loads(path.read_text())
            rows = {name: row for name, row in told.items() if isinstance(row, dict)}
            tables.append(pd.DataFrame(rows).T.astype(float))
        except (ValueError, AttributeError) as error:
            raise SystemExit(f"{path}: not the last line of benchmarks.drift: {error}") from None
    if not tables:
        return pd.DataFrame()
    lists = pd.concat(tables).groupby(level=0, sort=False)
    return lists.mean().assign(seeds=lists.size())
