"""Faults of a data set's files, collected over its batches and told all at once."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.errors import InputError

SHOWN = 5  # rows of a fault that are named


@dataclass
class Faults:
    """What is wrong with the files of a folder. Rows are counted from 0, below a header."""

    where: Path
    _rows: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, what: str) -> None:
        """Add a fault that has no row."""
        self._rows.setdefault(what, (0, []))

    def rows(
        self,
        what: str,
        bad: pa.Array | pa.ChunkedArray,
        numbers: pa.Array | pa.ChunkedArray,
        values: pa.Array | pa.ChunkedArray | None = None,
    ) -> None:
        """Add the rows of a batch where `bad` holds. numbers: of its rows in the table; values: what stands there."""
        found = pc.indices_nonzero(bad)
        if not len(found):
            return
        first = found[:SHOWN].to_pylist()
        shown = [f"{numbers[row]}" if values is None else f"{numbers[row]} ({values[row].as_py()!r})" for row in first]
        self.count(what, len(found), shown)

    def count(self, what: str, count: int, shown: list[str]) -> None:
        """Add so many rows, with the words for the first of them."""
        before, words = self._rows.get(what, (0, []))
        self._rows[what] = (before + count, [*words, *shown][:SHOWN])

    def check(self) -> None:
        """Raise InputError that lists every fault, if there is any."""
        if self._rows:
            lines = [
                f"{what}: {count:,} row(s), first {', '.join(shown)}" if count else what
                for what, (count, shown) in self._rows.items()
            ]
            raise InputError(f"{self.where}: {len(lines)} fault(s) in the data:\n  " + "\n  ".join(lines))


def where(mask: np.ndarray) -> pa.Array:
    """A numpy mask for `Faults.rows`."""
    return pa.array(mask)
