"""Training curves: one CSV per cell, kept in Git, drawn by `dvc plots`.

Speeds and times are left out on purpose: a file with a clock in it is never the same twice. They go to the log.
"""

import csv
from pathlib import Path

from stages.core import stage
from stages.core.files import fresh_file, rounded


class Curve:
    """Rows of named numbers, written whole after every row, so that an interrupted run leaves a readable file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float | int | str]] = []

    def restore(self, rows: list[dict[str, float | int | str]]) -> None:
        """Start again from the rows of an interrupted run; DVC has deleted the file."""
        self.rows = list(rows)
        self._write()

    def add(self, **values: float | int | str) -> None:
        """Add one row. A column that a row does not name stays empty there."""
        self.rows.append(rounded(values))
        self._write()

    def _write(self) -> None:
        if not stage.is_main_process():
            return
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with fresh_file(self.path) as scratch, scratch.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
