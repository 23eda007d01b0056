"""Every figure of docs/study.md, from the cells that were kept for it.

    python -m benchmarks.study docs/study/ml-100k
    python -m benchmarks.study docs/study/ml-100k --keep semantic_id-sage --seed 1
    python -m benchmarks.study docs/study/ml-100k-belief --dataset ml-100k --keep semantic_id-sage --seed 1

With --keep, what the row's cells of the working tree left is copied there: lists, values per user, metrics, and of a
policy its curves and its rewards on the held-out contexts. A folder holds one setting. Without, the tables of
benchmarks/study_tables.py are printed: bounds, held-out, lists, pairs, coverage.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import study_tables
from stages.core import params, paths
from stages.corpus import histories


def keep(dataset: str, row: str, seed: int, folder: Path) -> None:
    """Copy what the cells of one row and seed left; a baseline has no curve of RL and no held-out reward."""
    lists = paths.slates(dataset, row, seed)
    every = {f"per_user-{seed}.parquet": paths.per_user(dataset, row, seed)}
    every |= {f"metrics-{seed}.json": paths.metrics(dataset, row, seed)}
    policy = {f"heldout-{seed}.parquet": paths.heldout(dataset, row, seed)}
    policy |= {f"curve-{seed}.csv": paths.curve(dataset, row, seed)}
    policy |= {f"heldout-{seed}.csv": paths.heldout_curve(dataset, row, seed)}
    policy |= {f"rl-{seed}.json": paths.run_metrics(dataset, row, seed)}
    learnt = paths.run_metrics(dataset, row, seed).exists()
    copied = every | policy if learnt else every
    for path in (lists, *copied.values()):
        if not path.exists():
            raise SystemExit(f"{path}: no such file; run the cells of row {row}, seed {seed} first")
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in copied.items():
        shutil.copyfile(path, folder / name)
    table, cold = pd.read_parquet(lists), histories.load(paths.corpus(dataset)).cold
    table = table[table["decoder"].isin(study_tables.DECODERS)].drop(columns="score")
    table["cold"] = np.where(table["item"] >= 0, cold[table["item"]], False)
    table.to_parquet(folder / f"lists-{seed}.parquet", compression="zstd", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="docs/study/<data set>, or another one of a setting")
    parser.add_argument("--keep", metavar="ROW", help="copy this row of the working tree there")
    parser.add_argument("--seed", type=int, default=1, help="of the row that is kept")
    parser.add_argument("--dataset", help="of the row that is kept; without it the folder's name")
    parser.add_argument("--against", default="semantic_id-sage", help="the row that others are compared with")
    parser.add_argument("--split", default="test", choices=["test", "valid"])
    given = parser.parse_args()
    if given.keep:
        keep(given.dataset or given.folder.name, given.keep, given.seed, given.folder / given.keep)
        return
    cells = study_tables.Cells(given.folder, given.split)
    if not any(cells.kept("per_user-*.parquet")):
        raise SystemExit(f"{given.folder}: nothing is kept there; name a folder of docs/study")
    settings = params.load()
    for title, table in (
        ("bounds", study_tables.bounds(cells)),
        ("held-out, less SFT", study_tables.held_out(cells, settings, study_tables.SFT)),
        (f"held-out, less {given.against}", study_tables.held_out(cells, settings, given.against)),
        ("lists", study_tables.lists(cells, settings)),
        ("pairs", study_tables.pairs(cells, settings, given.against)),
        ("coverage", study_tables.coverage(cells, settings, given.against)),
    ):
        print(f"{title}\n{table.to_string(float_format='{:.4f}'.format, na_rep='')}\n")


if __name__ == "__main__":
    main()
