"""What every row scored: means over seeds with bounds, and the values of each user that comparisons are made on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.measures.bootstrap import interval

Floats = npt.NDArray[np.float64]
Value = tuple[float, float, float]  # mean over seeds, lower and upper bound; NaN where there is none

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


def over_seeds(
    details: Sequence[Mapping[str, Any]],
    users: Sequence[Mapping[str, Floats]],
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> tuple[dict[str, Value], dict[str, Floats]]:
    """Means of every measure over seeds with bounds, and each user's mean over seeds.

    details: [value, lower, upper] by measure, one mapping per seed; users: [U] by measure. The bounds of one seed are
    its own; those of several are a bootstrap over users of each user's mean over seeds, which leaves measures that are
    no mean over users without any.
    """
    values = {name: [np.array(detail[name], dtype=float).tolist() for detail in details] for name in details[0]}
    shared = [name for name in values if name in users[0]]
    means = {name: np.mean([own[name] for own in users], axis=0) for name in shared}
    if len(details) == 1:
        bounds = {name: value[0][1:] for name, value in values.items()}
    else:
        found = interval(np.stack(list(means.values()), 1), resamples, confidence, generator)
        bounds = {name: [math.nan, math.nan] for name in values} | dict(zip(shared, found.T.tolist(), strict=True))
    figures = {name: float(np.mean([own[0] for own in value])) for name, value in values.items()}
    return {name: (mean, bounds[name][0], bounds[name][1]) for name, mean in figures.items()}, means


def over_runs(runs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Mean of a figure over the runs that have it; None where none has."""
    values = [run[name] for run in runs if name in run]
    return float(np.mean(values)) if values else None
