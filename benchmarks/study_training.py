"""The tables of docs/study.md of RL itself, from the curves of its cells.

- bounds: over the last half of the rollouts, by seed and in the mean: quantiles of r, the shares of rewarded slates
  that the upper bound stops and of rejected ones that the lower bound does (of SAGE's floor apart for lambda = 1 and
  lambda > 1), the cosine of SAGE's and GBPO's gradients with its least and largest. They are of a rollout's last pass.
- training: of the sampled slates of the first rollout, of the last half and of all, mean over seeds: rewards, by
  objective as well, and their correlation; entropy; probability of cold items; share at the upper bound.
- drift: what benchmarks/drift.py found, mean over seeds, where it is kept.
"""

import json

import pandas as pd

from benchmarks.study_cells import Cells, Frame

QUANTILES = ["ratio_min", "ratio_q05", "ratio_mean", "ratio_q95", "ratio_max"]
SHARES = ["at_upper_bound", "at_lower_bound", "at_floor_low_diversity", "at_floor_usual_diversity", "lambda_mean"]
BOUNDS = [*QUANTILES, *SHARES, "bounded_rewarded", "bounded_rejected", "bound_share_max", "kl", "gbpo_cosine"]
COURSE = ["reward", "entropy", "token_entropy", "cold_mass", "at_upper_bound"]
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
    """By row and figure: at the first rollout, over the last half, over all."""
    found = {}
    for row, own in cells.curves("curve-*.csv").groupby("row"):
        late = own["step"] > own["step"].max() / 2
        for name in own.columns:
            if (name in COURSE or name.startswith(OBJECTIVES)) and own[name].notna().any():
                parts = {"first": own["step"] == 1, "last half": late, "all": own["step"] > 0}
                found[row, name] = {part: own.loc[at, name].mean() for part, at in parts.items()}
    return pd.DataFrame(found).T


def drift(cells: Cells) -> Frame:
    """By list, mean over seeds: what benchmarks/drift.py printed last, kept as drift-<seed>.json."""
    kept = [json.loads(path.read_text()) for path in sorted(cells.folder.glob("drift-*.json"))]
    tables = [pd.DataFrame({name: row for name, row in told.items() if isinstance(row, dict)}).T for told in kept]
    return sum(tables[1:], tables[0]) / len(tables) if tables else pd.DataFrame()
