"""What every row scored: means over seeds with bounds, and the values of each user that comparisons are made on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.errors import InputError
from stages.core.sections import Evaluate
from stages.core.seeding import numpy_generator
from stages.measures.bootstrap import interval
from stages.measures.summary import mean

Floats = npt.NDArray[np.float64]
Value = tuple[float, float, float]  # mean over seeds, lower and upper bound; NaN where there is none

JUDGED = ("slate", "list", "pool")  # decoders that rows are judged by: a policy, a baseline, a retriever
NOTHING: Value = (math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Line:
    """One line of a table: a row under one decoder, on one split."""

    row: str
    decoder: str
    values: dict[str, Value]
    """By measure."""
    users: dict[str, Floats]
    """[U] by measure: each user's mean over seeds, NaN where it does not concern the user. Every line has the same."""
    judged: bool
    """Whether this decoder is the one that the row is judged by."""

    @property
    def name(self) -> str:
        return f"{self.row} ({self.decoder})"

    def value(self, measure: str) -> Value:
        """The figure of a measure, NaN for one that this line lacks."""
        return self.values.get(measure, NOTHING)


def lines_of(
    cells: Mapping[str, Mapping[int, Mapping[str, Any]]],
    tables: Mapping[str, Mapping[int, pa.Table]],
    split: str,
    settings: Evaluate,
) -> list[Line]:
    """Every row under every decoder that it has; a space's pool once, since all its optimizers have the same.

    cells: what `evaluate` wrote, by row and seed; tables: its values per user. Raises InputError where the users of two
    lines are not the same.
    """
    found: dict[tuple[str, str], Line] = {}
    judged_users: npt.NDArray[Any] | None = None
    for row, own in cells.items():
        decoders = next(iter(own.values()))["detail"][split]
        for decoder in sorted(decoders, reverse=True):  # slate before beam
            of = (pc.field("split") == split) & (pc.field("decoder") == decoder)
            parts = [table.filter(of) for table in tables[row].values()]
            for part in parts:
                users = part["user"].to_numpy()
                judged_users = users if judged_users is None else judged_users
                if not np.array_equal(users, judged_users):
                    raise InputError(
                        f"row {row}, decoder {decoder}: other users than the rows before; rerun `evaluate`"
                    )
            values, means = over_seeds([cell["detail"][split][decoder] for cell in own.values()], parts, settings)
            name = row.rsplit("-", 1)[0] if decoder == "pool" else row
            found.setdefault((name, decoder), Line(name, decoder, values, means, decoder in JUDGED))
    return list(found.values())


def over_seeds(
    details: Sequence[Mapping[str, Any]], tables: Sequence[pa.Table], settings: Evaluate
) -> tuple[dict[str, Value], dict[str, Floats]]:
    """Means of every measure over seeds with bounds, and each user's mean over seeds.

    details: [value, lower, upper] by measure, one mapping per seed; tables: the values per user. One seed has its own
    figures. Of several, a measure that is a mean over users has the mean of each user's mean over seeds and a bootstrap
    over users of that; others have the mean over seeds, without bounds.
    """
    values = {name: [np.array(detail[name], dtype=float).tolist() for detail in details] for name in details[0]}
    shared = [name for name in values if name in tables[0].column_names]
    means = {name: np.mean([table[name].to_numpy() for table in tables], axis=0, dtype=float) for name in shared}
    if len(details) == 1:
        return {name: (own[0][0], own[0][1], own[0][2]) for name, own in values.items()}, means
    generator = numpy_generator(settings.seed, "evaluate", "bootstrap")
    bounds = interval(np.stack(list(means.values()), 1), settings.resamples, settings.confidence, generator)
    figures = {name: (float(np.mean([own[0] for own in value])), math.nan, math.nan) for name, value in values.items()}
    for place, (name, own) in enumerate(means.items()):
        figures[name] = (mean(own), float(bounds[0, place]), float(bounds[1, place]))
    return figures, means


def scalars(cells: Mapping[int, Mapping[str, Any]], row: str, lines: Mapping[str, Sequence[Line]]) -> dict[str, Any]:
    """A row's scalars as means over seeds; as lists, bounds and, for several seeds, the least and the largest."""
    by_name = {(split, line.row, line.decoder): line for split in lines for line in lines[split]}
    first = next(iter(cells.values()))
    headline = "slate" if "slate" in first["detail"]["test"] else "list"
    summary: dict[str, Any] = {"intervals": {}}
    for name in [name for name, value in first.items() if value is None or isinstance(value, float)]:
        split = "valid" if name.startswith("valid.") else "test"
        decoder = "beam" if name.startswith("beam.") else headline
        value, *bounds = by_name[split, row, decoder].value(name.removeprefix("valid.").removeprefix("beam."))
        summary[name] = value
        if not math.isnan(bounds[0]):
            summary["intervals"][name] = bounds
        if len(cells) > 1 and not math.isnan(value):
            values = [cell[name] for cell in cells.values()]
            summary.setdefault("spread", {})[name] = [min(values), max(values)]
    return summary


def over_runs(runs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Mean of a figure over the runs that have it; None where none has."""
    values = [run[name] for run in runs if name in run]
    return float(np.mean(values)) if values else None
