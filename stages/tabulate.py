"""Set every row of a data set side by side, with the paper's figures beside them, as a table and as a page to look at.

Reads exactly the cells that the axes of params.yaml name. Writes metrics/<dataset>.json ({row: {measure: mean over
seeds}}, for `dvc metrics diff`), metrics/rows/<dataset>.csv (for `dvc plots`), and the report as reports/<dataset>.md
and, with charts, reports/<dataset>.html, which needs no network. Trains nothing.

    python -m stages.tabulate --dataset ml-100k
"""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.core import params, paths, stage
from stages.core.curves import Curve
from stages.core.errors import InputError
from stages.core.files import fresh_file, rounded, write_json
from stages.core.params import Axes
from stages.core.schema import SLATES, read
from stages.core.sections import Evaluate
from stages.core.seeding import numpy_generator
from stages.corpus import histories
from stages.reporting.charts import gallery
from stages.reporting.examples import Example, choose, examples
from stages.reporting.page import page
from stages.reporting.report import Findings, build
from stages.reporting.results import Line, over_runs, over_seeds
from stages.reporting.significance import compare
from stages.reporting.tables import RL

COMPARED = ("ndcg@10", "entropy_slate@10")  # measures on which lines are told apart
PLOTTED = ("ndcg@10", "recall@10", "entropy_slate@10", "coverage@10", "cold_coverage@10", "cold_exposure@10")
JUDGED = ("slate", "list", "pool")  # decoders that rows are judged by, a policy, a baseline and a retriever
EXAMPLES = 6

Cells = dict[str, dict[int, dict[str, Any]]]  # row -> seed -> what `evaluate` wrote


def main(dataset: str) -> None:
    settings = params.load()
    axes, evaluation = settings.axes, settings.evaluate
    policies = [paths.row(space, optimizer) for space in axes.action_spaces for optimizer in axes.optimizers]
    cells: Cells = {
        row: {seed: read_json(paths.metrics(dataset, row, seed)) for seed in axes.seeds}
        for row in [*policies, *axes.baselines]
    }
    runs = {row: [read_json(paths.run_metrics(dataset, row, seed)) for seed in axes.seeds] for row in policies}
    lines = {split: lines_of(dataset, cells, split, evaluation) for split in ("test", "valid")}
    comparisons = {
        measure: compare(
            [line for line in lines["test"] if line.judged],
            measure,
            evaluation.resamples,
            evaluation.rounds,
            evaluation.confidence,
            numpy_generator(evaluation.seed, "tabulate", measure),
        )
        for measure in COMPARED
    }
    report = build(
        Findings(dataset, lines, comparisons, cells, runs),
        read_csv(Path("data/published.csv")),
        read_csv(Path("data/published_notes.csv")),
        evaluation,
    )
    write_text(paths.report(dataset), report.markdown())
    charts = gallery(lines["test"], curves_of(dataset, policies, axes.seeds), pd.read_csv(paths.figure_3()))
    shown = users_of(dataset, axes, policies, evaluation.seed)
    write_text(paths.page(dataset), page(report, charts, shown))
    Curve(paths.rows_curve(dataset)).restore([rounded(plotted(line)) for line in lines["test"]])
    summary = {row: scalars(own, row, lines) for row, own in cells.items()}
    for row, found in runs.items():
        summary[row]["rl"] = {name: mean for name in RL if (mean := over_runs(found, name)) is not None}
    write_json(paths.summary(dataset), summary)
    stage.log.info("%d rows: %s, and with charts %s", len(cells), paths.report(dataset), paths.page(dataset))


def read_json(path: Path) -> dict[str, Any]:
    """Read what `evaluate`, or `rl`, wrote for one row and seed."""
    try:
        cell: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the axes name this cell, so run its stage") from error
    return cell


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_text(path: Path, text: str) -> None:
    with fresh_file(path) as scratch:
        scratch.write_text(text)


def lines_of(dataset: str, cells: Cells, split: str, settings: Evaluate) -> list[Line]:
    """Every row under every decoder that it has; a space's pool once, since all its optimizers have the same."""
    found: dict[tuple[str, str], Line] = {}
    for row, own in cells.items():
        tables = [pq.read_table(paths.per_user(dataset, row, seed)) for seed in own]
        decoders = next(iter(own.values()))["detail"][split]
        for decoder in sorted(decoders, reverse=True):  # slate before beam
            of = (pc.field("split") == split) & (pc.field("decoder") == decoder)
            values, users = over_seeds(
                [cell["detail"][split][decoder] for cell in own.values()],
                [by_measure(table.filter(of)) for table in tables],
                settings.resamples,
                settings.confidence,
                numpy_generator(settings.seed, "evaluate", "bootstrap"),
            )
            name = row.rsplit("-", 1)[0] if decoder == "pool" else row
            found.setdefault((name, decoder), Line(name, decoder, values, users, decoder in JUDGED))
    return list(found.values())


def by_measure(table: Any) -> dict[str, npt.NDArray[np.float64]]:
    """The values of each user [U], by measure."""
    return {
        name: table[name].to_numpy().astype(np.float64)
        for name in table.column_names
        if name not in ("user", "split", "decoder")
    }


def curves_of(dataset: str, policies: list[str], seeds: list[int]) -> dict[str, pd.DataFrame]:
    """Curves of RL and of the looks at the held-out reward, with columns row and seed; empty ones left out."""
    found: dict[str, pd.DataFrame] = {}
    for name, path in (("training", paths.curve), ("heldout", paths.heldout_curve)):
        parts = []
        for row in policies:
            for seed in seeds:
                text = path(dataset, row, seed).read_text()
                if text.strip():
                    parts.append(pd.read_csv(path(dataset, row, seed)).assign(row=row, seed=seed))
        if parts:
            found[name] = pd.concat(parts)
    return found


def users_of(dataset: str, axes: Axes, policies: list[str], seed: int) -> list[Example]:
    """Users of the test split with the slates of the first and of the last policy, at the first seed."""
    rows = list(dict.fromkeys([policies[0], policies[-1]]))
    log = histories.load(paths.corpus(dataset))
    lists = {}
    for row in rows:
        table = read(paths.slates(dataset, row, axes.seeds[0]), SLATES)
        table = table.filter((pc.field("split") == "test") & (pc.field("decoder") == "slate"))
        table = table.sort_by([("user", "ascending"), ("rank", "ascending")])
        users = np.unique(table["user"].to_numpy())
        lists[row] = table["item"].to_numpy().astype(np.int64).reshape(len(users), -1)
    chosen = choose(lists, users, log.test[users], EXAMPLES, numpy_generator(seed, "tabulate", "examples"))
    return examples(log, lists, users, chosen)


def plotted(line: Line) -> dict[str, float | int | str]:
    """A line for `dvc plots`."""
    return {"line": line.name, "row": line.row, "decoder": line.decoder} | {
        name: line.value(name)[0] for name in PLOTTED
    }


def scalars(cells: dict[int, dict[str, Any]], row: str, lines: dict[str, list[Line]]) -> dict[str, Any]:
    """The cells' scalars as means over seeds; as lists, bounds and, for several seeds, the least and the largest."""
    by_name = {(split, line.row, line.decoder): line for split in lines for line in lines[split]}
    first = next(iter(cells.values()))
    headline = "slate" if "slate" in first["detail"]["test"] else "list"
    summary: dict[str, Any] = {"intervals": {}}
    for name in [name for name, value in first.items() if value is None or isinstance(value, float)]:
        split = "valid" if name.startswith("valid.") else "test"
        decoder = "beam" if name.startswith("beam.") else headline
        measure = name.removeprefix("valid.").removeprefix("beam.")
        mean, *bounds = by_name[split, row, decoder].value(measure)
        summary[name] = mean
        if not math.isnan(bounds[0]):
            summary["intervals"][name] = bounds
        if len(cells) > 1 and not math.isnan(mean):
            values = [cell[name] for cell in cells.values()]
            summary.setdefault("spread", {})[name] = [min(values), max(values)]
    return summary


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset")
