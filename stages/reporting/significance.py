"""Which lines of a table differ: paired tests over users between every two of them, corrected for their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from string import ascii_lowercase

import networkx as nx
import numpy as np
import numpy.typing as npt

from stages.core.errors import InputError
from stages.core.sections import Tabulate
from stages.measures import paired
from stages.reporting.results import Line

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Differences:
    """All pairs of R lines on one measure."""

    measure: str
    level: float
    lines: Sequence[Line]
    difference: Floats  # [R, R] mean over users of the first line's value less the second's
    low: Floats  # [R, R] bounds of the difference
    high: Floats
    p: Floats  # [R, R] of the randomisation test, corrected by Holm over all pairs; NaN on the diagonal

    def differ(self, one: int, other: int) -> bool:
        return bool(self.p[one, other] < self.level)

    @cached_property
    def leader(self) -> int:
        """The line with the highest mean."""
        return int(np.argmax([line.value(self.measure)[0] for line in self.lines]))

    @cached_property
    def level_with_leader(self) -> list[str]:
        """Names of the other lines that the tests do not tell from the leader."""
        others = [index for index in range(len(self.lines)) if index != self.leader]
        return [self.lines[index].name for index in others if not self.differ(self.leader, index)]

    @property
    def best(self) -> str | None:
        """Name of the line that is above every other one by the tests; None where there is none."""
        return None if self.level_with_leader else self.lines[self.leader].name

    @cached_property
    def letters(self) -> dict[str, str]:
        """By name of line, the compact letter display (Piepho 2004): two share a letter just where they do not differ.

        A letter is a largest set of lines none of which differ; `a` is the one with the leader.
        """
        count = len(self.lines)
        alike = nx.Graph()
        alike.add_nodes_from(range(count))
        alike.add_edges_from(pair for pair in combinations(range(count), 2) if not self.differ(*pair))
        means = [line.value(self.measure)[0] for line in self.lines]
        sets = sorted(nx.find_cliques(alike), key=lambda own: sorted(-means[index] for index in own))
        return {
            line.name: "".join(_letter(number) for number, own in enumerate(sets) if index in own)
            for index, line in enumerate(self.lines)
        }

    def said(self) -> str:
        """One sentence on who leads, and who is not told apart from the leader."""
        name, level = self.lines[self.leader].name, ", ".join(self.level_with_leader)
        if not level:
            return f"of the lines compared, {name} is above every other one."
        return f"of the lines compared none is above all others: {name}, the highest, is not told apart from {level}."


def _letter(number: int) -> str:
    return ascii_lowercase[number] if number < len(ascii_lowercase) else f"({number + 1})"


def differences(
    lines: Sequence[Line],
    measure: str,
    resamples: int,
    confidence: float,
    tests: Tabulate,
    generator: np.random.Generator,
) -> Differences | None:
    """Test every two of the lines that rows are judged by; see stages/measures/paired.py.

    None where there are fewer than two, or where a user has no value of the measure. Raises InputError where there are
    too many pairs for the draws: no p-value, corrected, could be below the level then.
    """
    judged = [line for line in lines if line.judged]
    if len(judged) < 2 or any(np.isnan(line.users[measure]).any() for line in judged):
        return None
    first, second = np.triu_indices(len(judged), 1)
    if len(first) / (1 + tests.rounds) >= tests.level:
        raise InputError(
            f"params.yaml: tabulate.rounds: {tests.rounds} draws cannot tell {len(judged)} rows apart at level "
            f"{tests.level}; it takes {int(len(first) / tests.level) + 1}"
        )
    values = np.stack([line.users[measure] for line in judged], 1)  # [U, R]
    found = paired.compare(values, resamples, tests.rounds, confidence, generator)
    square = np.full((4, len(judged), len(judged)), np.nan)
    forth = np.stack([found.difference, found.low, found.high, paired.holm(found.p)])
    back = np.stack([-found.difference, -found.high, -found.low, forth[3]])
    square[:, first, second], square[:, second, first] = forth, back
    return Differences(measure, tests.level, judged, *square)
