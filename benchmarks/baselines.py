"""The table of docs/baselines.md, from the cells of learnt baselines that were kept for it.

    python -m benchmarks.baselines docs/baselines
    python -m benchmarks.baselines docs/baselines --keep beauty sasrec 1 [--called sasrec_long]

With --keep, the metrics of a cell of the working tree and its curve are copied to docs/baselines/<data set>/<row>
first, seed-<n>.json and seed-<n>.csv. Without, one line per row is printed: means of the test list's measures over the
seeds, of N@10 also the 95% interval over users (each seed's, bounds averaged) and the range over seeds, and the epoch
that was the best by validation, of how many.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core import paths

MEASURES = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")


def keep(dataset: str, row: str, seed: int, folder: Path) -> None:
    """Copy the metrics and the curve of a cell."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics, curve = paths.metrics(dataset, row, seed), paths.curve(dataset, row, seed)
    if not metrics.exists():
        raise SystemExit(f"{metrics}: no such file; run the cell of {row}, seed {seed} first")
    shutil.copyfile(metrics, folder / f"seed-{seed}.json")
    if curve.exists():  # what counts has none
        shutil.copyfile(curve, folder / f"seed-{seed}.csv")


def line(folder: Path) -> dict[str, str | int]:
    """A row of the table, from the seeds that are kept in its folder."""
    files = sorted(folder.glob("seed-*.json"))
    lists = [json.loads(path.read_text())["detail"]["test"]["list"] for path in files]
    values = {name: np.array([own[name] for own in lists]) for name in MEASURES}  # [seeds, (mean, lower, upper)]
    found = {name: f"{own[:, 0].mean():.4f}" for name, own in values.items()}
    ndcg = values["ndcg@10"]
    users = f"{ndcg[:, 1].mean():.4f}, {ndcg[:, 2].mean():.4f}"
    curves = [pd.read_csv(path.with_suffix(".csv")) for path in files if path.with_suffix(".csv").exists()]
    epochs = (f"{int(own['valid_ndcg@10'].idxmax()) + 1} of {len(own)}" for own in curves)
    return {
        "data set": folder.parent.name,
        "row": folder.name,
        "seeds": len(files),
        **found,
        "users": f"[{users}]",
        "over seeds": f"{ndcg[:, 0].min():.4f} to {ndcg[:, 0].max():.4f}",
        "epochs": ", ".join(epochs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="docs/baselines")
    parser.add_argument("--keep", nargs=3, metavar=("DATASET", "ROW", "SEED"), help="copy this cell there")
    parser.add_argument("--called", help="under this name, where one row is kept in several settings")
    given = parser.parse_args()
    if given.keep:
        dataset, row, seed = given.keep
        keep(dataset, row, int(seed), given.folder / dataset / (given.called or row))
        return
    rows = sorted(path for path in given.folder.glob("*/*") if any(path.glob("seed-*.json")))
    if not rows:
        raise SystemExit(f"{given.folder}: nothing is kept there")
    print(pd.DataFrame(map(line, rows)).to_string(index=False))


if __name__ == "__main__":
    main()
