"""Every figure of docs/study.md, from the cells that were kept for it.

    python -m benchmarks.study docs/study/ml-100k
    python -m benchmarks.study docs/study/ml-100k --keep semantic_id-sage --seed 1 [--called semantic_id-sage_scaled]

With --keep, what the row's cells of the working tree left is copied there first: values per user of the slates and of
the held-out contexts, curves, metrics. Without, the tables of the study are printed:

- bounds: over the last half of the rollouts, quantiles of r beside the shares that each bound stops (of SAGE's floor
  apart for lambda = 1 and lambda > 1), and the cosine of SAGE's and GBPO's gradients; means over seeds;
- held-out: rewards on the reporting half of the reserve, each policy at its own best temperature and its greedy slate,
  less SFT's: paired over users, whose values are means over contexts and then seeds;
- pairs: --against (SAGE) less every other row in each measure, paired over users, with p-values corrected by Holm over
  all pairs and measures of the table;
- coverage: figures that are no means over users, by seed.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core import params, paths
from stages.core.seeding import numpy_generator
from stages.measures import paired
from stages.reporting.heldout import DECODERS, bounds, of_users

SFT = "semantic_id-sft"
QUANTILES = ["ratio_q05", "ratio_mean", "ratio_q95"]
SHARES = ["at_upper_bound", "at_lower_bound", "at_floor_low_diversity", "at_floor_usual_diversity"]
BOUNDS = [*QUANTILES, *SHARES, "bounded_rewarded", "bounded_rejected", "bound_share_max", "kl", "gbpo_cosine"]
MEASURES = ["ndcg@10", "recall@10", "entropy_slate@10", "cold_recall@10"]  # of the greedy slate, means over users
COVERAGE = ["coverage@10", "cold_coverage@10", "entropy_pooled@10"]


def keep(dataset: str, row: str, seed: int, folder: Path) -> None:
    """Copy what the cells of one row and seed left."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, name in (
        (paths.per_user(dataset, row, seed), f"per_user-{seed}.parquet"),
        (paths.heldout(dataset, row, seed), f"heldout-{seed}.parquet"),
        (paths.curve(dataset, row, seed), f"curve-{seed}.csv"),
        (paths.heldout_curve(dataset, row, seed), f"heldout-{seed}.csv"),
        (paths.metrics(dataset, row, seed), f"metrics-{seed}.json"),
        (paths.run_metrics(dataset, row, seed), f"rl-{seed}.json"),
    ):
        if not path.exists():
            raise SystemExit(f"{path}: no such file; run the cells of row {row}, seed {seed} first")
        shutil.copyfile(path, folder / name)


def kept(folder: Path, kind: str) -> Iterator[tuple[str, int, Path]]:
    """Row, seed and file of everything of one kind that is kept: `curve-*.csv`."""
    for path in sorted(folder.glob(f"*/{kind}")):
        yield path.parent.name, int(path.stem.rsplit("-", 1)[1]), path


def bounds_table(folder: Path) -> pd.DataFrame:
    """Means over the last half of each run's rollouts, then over seeds."""
    runs = {}
    for row, seed, path in kept(folder, "curve-*.csv"):
        curve = pd.read_csv(path)
        if len(curve) > 1:
            late = curve[curve["step"] > curve["step"].max() / 2]
            runs[row, seed] = late.reindex(columns=BOUNDS).mean()
    return pd.DataFrame(runs).T.groupby(level=0).mean()


def held_out_table(folder: Path, settings: params.Params) -> pd.DataFrame:
    """What each row earned, less what SFT's policies of the same seeds earned."""
    tables: dict[str, dict[int, pd.DataFrame]] = {}
    for row, seed, path in kept(folder, "heldout-*.parquet"):
        tables.setdefault(row, {})[seed] = pd.read_parquet(path)
    found = []
    for row, own in tables.items():
        for decoder in DECODERS:
            rewards = of_users(list(own.values()), decoder)
            base = of_users([tables[SFT][seed] for seed in own], decoder)
            less = bounds(rewards - base, settings.evaluate)
            at = [float(table.loc[table["decoder"] == decoder, "temperature"].iloc[0]) for table in own.values()]
            found.append([row, decoder, len(own), len(rewards), at, bounds(rewards, settings.evaluate), less])
    return pd.DataFrame(found, columns=["row", "decoder", "seeds", "users", "temperatures", "reward", "less SFT"])


def user_values(folder: Path, split: str, measures: list[str]) -> dict[str, pd.DataFrame]:
    """[U, measures] of each row's greedy slates: every user's mean over seeds."""
    seeds: dict[str, list[pd.DataFrame]] = {}
    for row, _, path in kept(folder, "per_user-*.parquet"):
        table = pd.read_parquet(path)
        chosen = table[(table["split"] == split) & (table["decoder"] == "slate")]
        seeds.setdefault(row, []).append(chosen.set_index("user")[measures].astype(np.float64))
    return {row: sum(own[1:], own[0]) / len(own) for row, own in seeds.items()}


def pairs_table(folder: Path, settings: params.Params, against: str, split: str) -> pd.DataFrame:
    """`against` less every other row in every measure; `p` is corrected over the whole table."""
    values = user_values(folder, split, MEASURES)
    if against not in values:
        raise SystemExit(f"{folder}: no row '{against}' is kept; there are: {', '.join(values)}")
    found = []
    for other in values:
        for measure in MEASURES if other != against else ():
            both = np.stack([values[against][measure], values[other][measure]], 1)
            generator = numpy_generator(settings.evaluate.seed, "study", measure, other)
            tests = (settings.evaluate.resamples, settings.tabulate.rounds, settings.evaluate.confidence)
            pair = paired.compare(both, *tests, generator)
            users = int((~np.isnan(both).any(axis=1)).sum())
            found.append([other, measure, users, both[:, 1], *(v[0] for v in vars(pair).values())])
    table = pd.DataFrame(found, columns=["less", "measure", "users", "mean", "difference", "low", "high", "p"])
    table["mean"] = [float(np.nanmean(own)) for own in table["mean"]]  # of the other row
    table["p"] = paired.holm(table["p"].to_numpy())
    return table


def coverage_table(folder: Path, split: str) -> pd.DataFrame:
    """Figures over all users' slates, mean over seeds with the least and the largest."""
    found: dict[str, list[dict[str, float]]] = {}
    for row, _, path in kept(folder, "metrics-*.json"):
        detail = json.loads(path.read_text())["detail"][split]["slate"]
        found.setdefault(row, []).append({name: detail[name][0] for name in COVERAGE})
    spread = {
        row: {name: (np.mean(own := [cell[name] for cell in cells]), min(own), max(own)) for name in COVERAGE}
        for row, cells in found.items()
    }
    return pd.DataFrame(spread).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="docs/study/<data set>")
    parser.add_argument("--keep", metavar="ROW", help="copy this row of the working tree there")
    parser.add_argument("--seed", type=int, default=1, help="of the row that is kept")
    parser.add_argument("--called", help="under this name, where one row is kept in several settings")
    parser.add_argument("--against", default="semantic_id-sage", help="the row that pairs are made with")
    parser.add_argument("--split", default="test", choices=["test", "valid"])
    given = parser.parse_args()
    if given.keep:
        keep(given.folder.name, given.keep, given.seed, given.folder / (given.called or given.keep))
        return
    settings = params.load()
    if not any(kept(given.folder, "curve-*.csv")):
        raise SystemExit(f"{given.folder}: nothing is kept there; name a folder of docs/study")
    for title, table in (
        ("bounds", bounds_table(given.folder)),
        ("held-out", held_out_table(given.folder, settings)),
        ("pairs", pairs_table(given.folder, settings, given.against, given.split)),
        ("coverage", coverage_table(given.folder, given.split)),
    ):
        print(f"{title}\n{table.to_string(float_format='{:.4f}'.format)}\n")


if __name__ == "__main__":
    main()
