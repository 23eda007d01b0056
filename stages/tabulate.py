"""Set every row of a data set side by side, with the paper's figures beside them, as a table and as a page to look at.

Reads exactly the cells that the axes of params.yaml name. Writes metrics/<dataset>.json ({row: {measure: mean over
seeds}}, for `dvc metrics diff`), metrics/rows/<dataset>.csv (for `dvc plots`), and the report as reports/<dataset>.md
and, with charts, reports/<dataset>.html, which needs no network. Trains nothing.

    python -m stages.tabulate --dataset ml-100k
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.core import params, paths, stage
from stages.core.cells import STILL
from stages.core.curves import Curve
from stages.core.errors import InputError
from stages.core.files import fresh_file, rounded, write_json
from stages.core.params import Params
from stages.core.provenance import provenance
from stages.core.schema import SLATES, read
from stages.core.seeding import numpy_generator
from stages.corpus import histories
from stages.reporting.examples import Example, choose, examples
from stages.reporting.gallery import gallery
from stages.reporting.heldout import held_out, scalars_of
from stages.reporting.page import page
from stages.reporting.report import Findings, build
from stages.reporting.results import Line, lines_of, over_runs, scalars
from stages.reporting.significance import differences
from stages.reporting.tables import RL

COMPARED = ("ndcg@10", "entropy_slate@10")  # measures on which rows are told apart
PLOTTED = ("ndcg@10", "recall@10", "entropy_slate@10", "coverage@10", "cold_coverage@10", "cold_exposure@10")
EXAMPLES = 8  # users


def main(dataset: str) -> None:
    settings = params.load()
    axes, evaluation = settings.axes, settings.evaluate
    policies = [paths.row(space, optimizer) for space, optimizer in settings.policies(dataset)]
    rows = [*policies, *axes.baselines, *axes.sequential_baselines, *axes.generative_baselines]
    cells = {row: {seed: read_json(paths.metrics(dataset, row, seed)) for seed in axes.seeds} for row in rows}
    users = {row: {seed: read_table(paths.per_user(dataset, row, seed)) for seed in axes.seeds} for row in rows}
    runs = {row: [read_json(paths.run_metrics(dataset, row, seed)) for seed in axes.seeds] for row in policies}
    lines = {split: lines_of(cells, users, split, evaluation) for split in ("test", "valid")}
    told_apart = {}
    for measure in COMPARED:
        generator = numpy_generator(evaluation.seed, "tabulate", measure)
        told_apart[measure] = differences(
            lines["test"], measure, evaluation.resamples, evaluation.confidence, settings.tabulate, generator
        )
    rewards = held_out(heldout_of(dataset, policies, axes.seeds), sft_of(settings, dataset), evaluation)
    found = Findings(dataset, lines, told_apart, cells, runs, rewards)
    published = [read_csv(Path("data", f"{name}.csv")) for name in ("published", "published_notes")]
    report = build(found, *published, evaluation, settings.tabulate)
    charts = gallery(lines["test"], curves_of(dataset, policies, axes.seeds), pd.read_csv(paths.figure_3()))
    compared = [paths.row(axes.action_spaces[-1], axes.optimizers[place]) for place in (0, -1)]
    shown = users_of(dataset, compared, axes.seeds[0], evaluation.seed)
    write_text(paths.report(dataset), report.markdown())
    write_text(paths.page(dataset), page(report, charts, shown))
    Curve(paths.rows_curve(dataset)).restore([rounded(plotted(line)) for line in lines["test"]])
    summary: dict[str, Any] = {row: scalars(own, row, lines) for row, own in cells.items()}
    for row, own in runs.items():
        summary[row]["rl"] = {name: mean for name in RL if (mean := over_runs(own, name)) is not None}
        summary[row]["heldout"] = scalars_of(rewards, row)
    summary["provenance"] = provenance("tabulate", {"dataset": dataset})
    write_json(paths.summary(dataset), summary)
    stage.log.info("%d rows: %s, and with charts %s", len(cells), paths.report(dataset), paths.page(dataset))


def there(path: Path) -> Path:
    """The path of a cell's file. Raises InputError where it is missing."""
    if not path.exists():
        raise InputError(f"{path}: no such file; the axes name this cell, so run its stage")
    return path


def read_json(path: Path) -> dict[str, Any]:
    cell: dict[str, Any] = json.loads(there(path).read_text())
    return cell


def read_table(path: Path) -> pa.Table:
    return pq.read_table(there(path))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_text(path: Path, text: str) -> None:
    with fresh_file(path) as scratch:
        scratch.write_text(text)


def curves_of(dataset: str, policies: list[str], seeds: list[int]) -> dict[str, pd.DataFrame]:
    """Curves of RL and of the looks at the held-out reward, with columns row and seed."""
    found: dict[str, pd.DataFrame] = {}
    for name, path in (("training", paths.curve), ("heldout", paths.heldout_curve)):
        files = {(row, seed): there(path(dataset, row, seed)) for row in policies for seed in seeds}
        parts = [pd.read_csv(file).assign(row=row, seed=seed) for (row, seed), file in files.items()]
        found[name] = pd.concat(parts)
    return found


def heldout_of(dataset: str, policies: list[str], seeds: list[int]) -> dict[str, list[pd.DataFrame]]:
    """Rewards on the reserve, by policy and seed."""
    return {row: [read_table(paths.heldout(dataset, row, seed)).to_pandas() for seed in seeds] for row in policies}


def sft_of(settings: Params, dataset: str) -> dict[str, str]:
    """By policy, the row of the SFT policy of its action space."""
    return {paths.row(space, name): paths.row(space, STILL) for space, name in settings.policies(dataset)}


def users_of(dataset: str, rows: list[str], seed: int, draw: int) -> list[Example]:
    """Users of the test split with the slates of two policies, or of one that is named twice."""
    log, lists = histories.load(paths.corpus(dataset)), {}
    for row in dict.fromkeys(rows):
        table = read(paths.slates(dataset, row, seed), SLATES)
        table = table.filter((pc.field("split") == "test") & (pc.field("decoder") == "slate"))
        table = table.sort_by([("user", "ascending"), ("rank", "ascending")])
        users = np.unique(table["user"].to_numpy())
        lists[row] = table["item"].to_numpy().astype(np.int64).reshape(len(users), -1)
    chosen = choose(lists, users, log.test[users], EXAMPLES, numpy_generator(draw, "tabulate", "examples"))
    return examples(log, lists, users, chosen)


def plotted(line: Line) -> dict[str, float | int | str]:
    """A line for `dvc plots`."""
    return {"line": line.name, "row": line.row, "decoder": line.decoder} | {
        name: line.value(name)[0] for name in PLOTTED
    }


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset")
