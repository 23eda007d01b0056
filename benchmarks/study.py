"""Every figure of docs/study.md, from the cells that were kept for it.

    python -m benchmarks.study docs/study/ml-100k
    python -m benchmarks.study docs/study/ml-100k --keep semantic_id-sage --seed 1
    python -m benchmarks.study docs/study/beauty --keep semantic_id-gbpo --seed 1 --called semantic_id-gbpo_slow
    python -m benchmarks.study docs/study/beauty --draw docs/study/beauty.png

With --keep, what the row's cells of the working tree left is kept there: metrics, values per user of the test split,
the cold items of its lists, and of a policy its curves and its rewards on the held-out contexts. A folder holds one
setting of one data set. Without, its tables are printed (benchmarks/study_training.py: bounds, training, looks, drift;
study_tables.py: held-out, lists, pairs, coverage). With --draw the curves are drawn: the two panels of the paper's
Figure 4, and the held-out reward of greedy slates.
"""

import argparse
import shutil
from pathlib import Path

import altair as alt
import pandas as pd

from benchmarks import study_cells, study_tables, study_training
from stages.core import params, paths
from stages.core.errors import InputError
from stages.corpus import histories
from stages.reporting import charts
from stages.reporting.gallery import FIGURE_4, LOOKS


def keep(dataset: str, row: str, seed: int, folder: Path) -> None:
    """Keep what the cells of one row and seed left.

    A baseline has no curve of RL and no held-out reward; a policy that has no lists yet is kept without.
    """
    lists, per_user = paths.slates(dataset, row, seed), paths.per_user(dataset, row, seed)
    copied, small = {}, {}
    if (learnt := paths.run_metrics(dataset, row, seed)).exists():
        copied |= {f"rl-{seed}.json": learnt, f"heldout-{seed}.parquet": paths.heldout(dataset, row, seed)}
        copied |= {f"curve-{seed}.csv": paths.curve(dataset, row, seed)}
        copied |= {f"heldout-{seed}.csv": paths.heldout_curve(dataset, row, seed)}
    if judged := lists.exists() or not copied:
        copied |= {f"metrics-{seed}.json": paths.metrics(dataset, row, seed)}
    for path in (*copied.values(), *([lists, per_user] if judged else [])):
        if not path.exists():
            raise SystemExit(f"{path}: no such file; run the cells of row {row}, seed {seed} first")
    if judged:
        cold = histories.load(paths.corpus(dataset)).cold
        small[f"per_user-{seed}.parquet"] = study_cells.judged(pd.read_parquet(per_user))
        small[f"cold-{seed}.parquet"] = study_cells.cold_items(pd.read_parquet(lists), cold)
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in copied.items():
        shutil.copyfile(path, folder / name)
    for name, table in small.items():
        table.to_parquet(folder / name, compression="zstd", compression_level=19, index=False)


def draw(cells: study_cells.Cells, path: Path) -> None:
    """Curves of RL, every step and every look at the reserve, as a picture."""
    steps, looks = cells.curves("curve-*.csv"), cells.curves("heldout-*.csv")
    if not (rows := sorted(set(steps["row"]))):
        raise SystemExit(f"{cells.folder}: no curve of RL is kept there")
    greedy = {"heldout_greedy_reward": LOOKS["heldout_greedy_reward"]}
    panels = (charts.training(steps, FIGURE_4, rows), charts.training(looks, greedy, rows))
    alt.hconcat(*(panel for panel in panels if panel is not None)).save(path, scale_factor=1.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="docs/study/<data set>, or another one of a setting")
    parser.add_argument("--keep", metavar="ROW", help="keep this row of the working tree there")
    parser.add_argument("--seed", type=int, default=1, help="of the row that is kept")
    parser.add_argument("--called", metavar="NAME", help="what the kept row is called there, if not ROW")
    parser.add_argument("--dataset", help="of the row that is kept; without it the folder's name")
    parser.add_argument("--against", default="semantic_id-sage", help="the row that others are compared with")
    parser.add_argument("--draw", type=Path, metavar="PICTURE", help="draw the curves there: .png or .svg")
    given = parser.parse_args()
    if given.keep:
        name = given.called or given.keep
        if "/" in name:
            parser.error(f"--called {name}: a row's name, without a folder")
        try:
            keep(given.dataset or given.folder.name, given.keep, given.seed, given.folder / name)
        except InputError as error:
            raise SystemExit(error) from None
        return
    cells = study_cells.Cells(given.folder)
    if not any(cells.kept("per_user-*.parquet")):
        raise SystemExit(f"{given.folder}: nothing is kept there; name a folder of docs/study")
    cells.check()
    if given.draw:
        if given.draw.suffix not in (".png", ".svg") or not given.draw.parent.is_dir():
            parser.error(f"--draw {given.draw}: a .png or .svg in a folder that exists")
        draw(cells, given.draw)
        return
    if given.against not in cells.details:
        raise SystemExit(f"{given.folder}: no row '{given.against}' is kept; there are: {', '.join(cells.details)}")
    settings = params.load()
    tables = {
        "bounds": lambda: study_training.bounds(cells),
        "training": lambda: study_training.training(cells),
        "looks": lambda: study_training.looks(cells),
        "drift": lambda: study_training.drift(cells),
        "held-out, less SFT": lambda: study_tables.held_out(cells, settings, study_cells.SFT),
        f"held-out, less {given.against}": lambda: study_tables.held_out(cells, settings, given.against),
        "lists": lambda: study_tables.lists(cells, settings),
        f"pairs: {given.against} less each": lambda: study_tables.pairs(cells, settings, given.against),
        f"coverage, and {given.against} less each": lambda: study_tables.coverage(cells, settings, given.against),
    }
    for title, made in tables.items():
        table = made()
        shown = table.to_string(float_format="{:.6f}".format, na_rep="") if len(table) else "none is kept"
        print(f"{title}\n{shown}\n", flush=True)


if __name__ == "__main__":
    main()
