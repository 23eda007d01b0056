"""Faults of a data set's files, collected over its batches and told all at once."""

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.errors import InputError
from stages.core.stage import log

SHOWN = 5  # rows of a fault that are named
WIDTH = 80  # characters of a value that are shown


@dataclass
class Faults:
    """What is wrong with the files of a folder. Rows are counted from 0, below a header."""

    where: Path
    parts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """Of a table that is a folder: the first row of each part read so far and the part's name."""
    _rows: dict[str, tuple[int, list[tuple[int, str]]]] = field(default_factory=dict)
    _noted: set[str] = field(default_factory=set)

    def add(self, what: str) -> None:
        """Add a fault that has no row."""
        self._rows.setdefault(what, (0, []))

    def note(self, what: str) -> None:
        """Log, once, what may be meant and is odd. what: begins with the file's name."""
        if what not in self._noted:
            self._noted.add(what)
            log.warning("%s", what)

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
        shown = [(numbers[row].as_py(), "" if values is None else f" ({_short(values[row])})") for row in first]
        self.count(what, len(found), shown)

    def count(self, what: str, count: int, shown: list[tuple[int, str]]) -> None:
        """Add so many rows, with the numbers of the first of them and what is to be said behind each."""
        before, words = self._rows.get(what, (0, []))
        self._rows[what] = (before + count, [*words, *shown][:SHOWN])

    def check(self) -> None:
        """Raise InputError that lists every fault, if there is any."""
        if self._rows:
            lines = [
                f"{what}: {count:,} row(s), first {', '.join(self._place(what, *row) for row in shown)}"
                if count
                else what
                for what, (count, shown) in self._rows.items()
            ]
            raise InputError(f"{self.where}: {len(lines)} fault(s) in the data:\n  " + "\n  ".join(lines))

    def _place(self, what: str, row: int, said: str) -> str:
        """`7 ('x')`, or in a folder of parts `part-1.csv 2 ('x')`, counted from 0 in the part."""
        parts = self.parts.get(what.partition(":")[0])
        if not parts:
            return f"{row}{said}"
        first, name = parts[bisect_right(parts, row, key=lambda part: part[0]) - 1]
        return f"{name} {row - first}{said}"


def where(mask: np.ndarray) -> pa.Array:
    """A numpy mask for `Faults.rows`."""
    return pa.array(mask)


def _short(value: pa.Scalar) -> str:
    """A value as Python writes it; the middle of a long one is left out."""
    told = repr(value.as_py())
    return told if len(told) <= WIDTH else f"{told[: WIDTH - 20]} .. {told[-16:]}"
