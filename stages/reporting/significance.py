"""Which lines of a table differ: paired tests over users between every two of them, corrected for their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from string import ascii_lowercase

import networkx as nx
import numpy as np
import numpy.typing as npt

from stages.measures import paired
from stages.reporting.results import Line

Floats = npt.NDArray[np.float64]

LEVEL = 0.05  # of the corrected p-values


@dataclass(frozen=True)
class Comparison:
    """All pairs of R lines on one measure."""

    measure: str
    lines: Sequence[Line]
    difference: Floats  # [R, R] mean over users of the first line's value less the second's
    low: Floats  # [R, R] bounds of the difference
    high: Floats
    p: Floats  # [R, R] of the randomisation test, corrected by Holm over all pairs; NaN on the diagonal

    def differ(self, one: int, other: int) -> bool:
        return bool(self.p[one, other] < LEVEL)

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
        return None if self.level_with_leader or len(self.lines) < 2 else self.lines[self.leader].name

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
        """One sentence on who leads, and who does not differ from the leader."""
        name, level = self.lines[self.leader].name, ", ".join(self.level_with_leader)
        if not level:
            return f"{name} is above every other line that is compared."
        return f"no line is above all others: {name}, the highest, does not differ from {level}."


def _letter(number: int) -> str:
    return ascii_lowercase[number] if number < len(ascii_lowercase) else f"({number + 1})"


def compare(
    lines: Sequence[Line], measure: str, resamples: int, rounds: int, confidence: float, generator: np.random.Generator
) -> Comparison:
    """Test every pair of lines on a measure that each user has; see stages/measures/paired.py."""
    values = np.stack([line.users[measure] for line in lines], 1)  # [U, R]
    first, second = np.triu_indices(len(lines), 1)
    found = paired.compare(values, resamples, rounds, confidence, generator)
    square = np.full((4, len(lines), len(lines)), np.nan)
    forth = np.stack([found.difference, found.low, found.high, paired.holm(found.p)])
    back = np.stack([-found.difference, -found.high, -found.low, forth[3]])
    square[:, first, second], square[:, second, first] = forth, back
    return Comparison(measure, lines, *square)
