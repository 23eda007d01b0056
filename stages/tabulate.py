"""Set every row of a data set side by side, with the paper's figures beside them.

Reads exactly the cells that the axes of params.yaml name. Writes metrics/<dataset>.json ({row: {measure: mean over
seeds}}, for `dvc metrics diff`) and the report reports/<dataset>.md. Trains nothing.
"""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.core import params, paths, stage
from stages.core.errors import InputError
from stages.core.files import fresh_file, write_json
from stages.core.sections import Evaluate
from stages.core.seeding import numpy_generator
from stages.core.tables import RL, Value, over_runs, report
from stages.measures.bootstrap import interval

Results = dict[tuple[str, str], dict[str, Value]]  # (row, decoder) -> measure -> mean over seeds and bounds

PUBLISHED = Path("data/published.csv")


def main(dataset: str) -> None:
    settings = params.load()
    axes = settings.axes
    policies = [paths.row(space, optimizer) for space in axes.action_spaces for optimizer in axes.optimizers]
    results: dict[str, Results] = {"test": {}, "valid": {}}
    summary: dict[str, dict[str, Any]] = {}
    per_seed: dict[str, dict[int, float]] = {}
    for row in [*policies, *axes.baselines]:
        cells = [read_cell(paths.metrics(dataset, row, seed)) for seed in axes.seeds]
        users = [pq.read_table(paths.per_user(dataset, row, seed)) for seed in axes.seeds] if len(cells) > 1 else []
        for split, decoders in cells[0]["detail"].items():
            for decoder in sorted(decoders, reverse=True):  # slate before beam
                own = [table.filter((pc.field("split") == split) & (pc.field("decoder") == decoder)) for table in users]
                details = [cell["detail"][split][decoder] for cell in cells]
                of = row.rsplit("-", 1)[0] if decoder == "pool" else row  # the same pools for every optimizer
                results[split][of, decoder] = over_seeds(details, own, settings.evaluate)
        summary[row] = scalars(cells, row, results)
        per_seed[row] = {seed: cell["ndcg@10"] for seed, cell in zip(axes.seeds, cells, strict=True)}
    counts = cells[0]["counts"]
    runs = {row: [read_cell(paths.run_metrics(dataset, row, seed)) for seed in axes.seeds] for row in policies}
    for row, own in runs.items():
        summary[row]["rl"] = {name: mean for name in RL if (mean := over_runs(own, name)) is not None}
    with PUBLISHED.open(newline="") as file:
        published = list(csv.DictReader(file))
    text = report(dataset, results, per_seed, counts, published, settings.evaluate.confidence, runs)
    with fresh_file(paths.report(dataset)) as scratch:
        scratch.write_text(text)
    write_json(paths.summary(dataset), summary)
    stage.log.info("the table of %d rows is in %s", len(summary), paths.report(dataset))


def read_cell(path: Path) -> dict[str, Any]:
    """Read what `evaluate`, or `rl`, wrote for one row and seed."""
    try:
        cell: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the axes name this cell, so run its stage") from error
    return cell


def over_seeds(details: list[dict[str, Any]], users: list[pa.Table], settings: Evaluate) -> dict[str, Value]:
    """Mean of every measure over seeds, and bounds: those of the one seed, or of each user's mean over seeds."""
    values = {name: [np.array(detail[name], dtype=float).tolist() for detail in details] for name in details[0]}
    bounds = {name: value[0][1:] for name, value in values.items()}
    if users:  # the same users in the same order for every seed
        shared = [name for name in values if name in users[0].column_names]
        by_seed = np.array([[table[name].to_numpy() for name in shared] for table in users])  # [seeds, M, U]
        generator = numpy_generator(settings.seed, "evaluate", "bootstrap")
        found = interval(by_seed.mean(axis=0).T, settings.resamples, settings.confidence, generator)
        bounds = {name: [math.nan, math.nan] for name in values} | dict(zip(shared, found.T.tolist(), strict=True))
    means = {name: float(np.mean([own[0] for own in value])) for name, value in values.items()}
    return {name: (mean, bounds[name][0], bounds[name][1]) for name, mean in means.items()}


def scalars(cells: list[dict[str, Any]], row: str, results: dict[str, Results]) -> dict[str, Any]:
    """The cells' scalars as means over seeds; as lists, bounds and, for several seeds, the least and the largest."""
    headline = "slate" if "slate" in cells[0]["detail"]["test"] else "list"
    summary: dict[str, Any] = {"intervals": {}}
    for name in [name for name, value in cells[0].items() if value is None or isinstance(value, float)]:
        split = "valid" if name.startswith("valid.") else "test"
        decoder = "beam" if name.startswith("beam.") else headline
        mean, *bounds = results[split][row, decoder][name.removeprefix("valid.").removeprefix("beam.")]
        summary[name] = mean
        if not math.isnan(bounds[0]):
            summary["intervals"][name] = bounds
        if len(cells) > 1 and not math.isnan(mean):
            values = [cell[name] for cell in cells]
            summary.setdefault("spread", {})[name] = [min(values), max(values)]
    return summary


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset")
