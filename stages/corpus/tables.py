"""The tables of a user's folder, read in batches: parquet or CSV, one file or a folder of parts.

A CSV is read as strings, so that a value that does not fit is named with its row and does not stop the reader. Every
batch has a column ROW: the number of each row in the table, from 0, below the header, less empty lines.

A quote that is never closed takes the lines behind it for one value. It shows in the count of quotes, which is odd;
values of several lines, which two such quotes would make, are logged.
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds

from stages.core.errors import InputError
from stages.corpus.faults import Faults
from stages.corpus.raw_log import ROW

BATCH = 1 << 20  # rows of parquet
BLOCK = 1 << 24  # bytes of CSV
SUFFIXES = (".parquet", ".csv", ".csv.gz")
QUOTE, NEW_LINE = b'"', b"\n"


@dataclass(frozen=True)
class Table:
    """One table: its columns under our names."""

    name: str
    files: list[Path]
    kinds: dict[str, pa.DataType]  # our names -> type
    theirs: dict[str, str]  # our names -> the file's
    faults: Faults

    @property
    def is_csv(self) -> bool:
        return self.files[0].suffix != ".parquet"

    def batches(self, names: list[str]) -> Iterator[pa.Table]:
        """The columns that are named, and ROW. Raises InputError where a file is damaged."""
        first, parts = 0, list[tuple[int, str]]()
        if len(self.files) > 1:
            self.faults.parts[self.name] = parts
        for file in self.files:
            parts.append((first, file.name))
            try:
                first = yield from (self._csv if self.is_csv else self._parquet)(file, names, first)
            except (pa.ArrowException, OSError) as error:
                raise unreadable(file, error) from error

    def _parquet(self, file: Path, names: list[str], first: int) -> Generator[pa.Table, None, int]:
        """Returns the row behind the last."""
        start, columns = first, {name: ds.field(self.theirs[name]) for name in names}
        pieces = ds.dataset(file, format="parquet").to_batches(
            columns=columns, batch_size=BATCH, batch_readahead=2, fragment_readahead=1
        )
        for piece in pieces:
            if piece.num_rows:
                rows = pa.array(np.arange(first, first + piece.num_rows))
                plain_columns = [plain(piece[name]) for name in names]
                for name, column in zip(names, plain_columns, strict=True):
                    _check_text(column, file, self.theirs[name], first - start)
                first += piece.num_rows
                yield pa.table([rows, *plain_columns], names=[ROW, *names])
        return first

    def _csv(self, file: Path, names: list[str], first: int) -> Generator[pa.Table, None, int]:
        """Returns the row behind the last, also of those that are none."""
        skipped: list[int] = []

        def ragged(row: csv.InvalidRow) -> str:
            number = first + row.number - 2  # the header is 1
            skipped.append(number)
            what = f"{self.name}: a row has more or fewer fields than the header"
            self.faults.count(what, 1, [(number, f" ({row.actual_columns} for {row.expected_columns})")])
            return "skip"

        next_row = first
        for piece in _reader(file, [self.theirs[name] for name in names], ragged):
            if not piece.num_rows:
                continue
            span = np.arange(next_row, next_row + piece.num_rows + len(skipped))
            rows = span[~np.isin(span, skipped)][: piece.num_rows]
            next_row = int(rows[-1]) + 1
            skipped[:] = [number for number in skipped if number >= next_row]
            yield pa.table([pa.array(rows), *piece.columns], names=[ROW, *names])
        return next_row + len(skipped)


def find(folder: Path, stem: str, theirs: dict[str, str], faults: Faults) -> Table | None:
    """The table `stem` of a folder, or None: <stem>.parquet, .csv, .csv.gz, or a folder of such parts.

    theirs: our names -> the file's, for the columns that have another name there; a file that lacks that name and has
    ours is taken as it is, one that lacks both is a fault. Raises InputError where a file is damaged or two files claim
    the name.
    """
    there = located(folder, stem)
    if there is None:
        return None
    files = parts(there)
    kinds: dict[str, pa.DataType] | None = None
    for file in files:
        found = _kinds(file)
        if file.suffix != ".parquet":
            _check_quotes(file, str(file.relative_to(folder)), faults)
        if kinds is not None and found != kinds:
            raise InputError(f"{file}: has other columns or types than {files[0].name}; the parts have to be alike")
        kinds = found
    assert kinds is not None
    named = {ours: name for ours, name in theirs.items() if name in kinds}
    for ours, name in theirs.items():
        if name not in kinds and ours not in kinds:
            faults.add(f"{there.name}: column '{name}' (columns.{ours}) is missing; {listed(kinds)}")
    taken = set(named.values())
    named |= {name: name for name in kinds if name not in named and name not in taken and "\0" not in name}
    return Table(there.name, files, {ours: kinds[name] for ours, name in named.items()}, named, faults)


def located(folder: Path, stem: str) -> Path | None:
    """The file or folder of the table `stem`, or None. Raises InputError where two claim the name."""
    choices = [folder / stem, *(folder / f"{stem}{suffix}" for suffix in SUFFIXES)]
    there = [path for path in choices if path.exists()]
    if len(there) > 1:
        raise InputError(f"{folder}: {' and '.join(path.name for path in there)} both hold the {stem}; remove one")
    return there[0] if there else None


def listed(names: Iterable[str]) -> str:
    """A table's columns, for errors."""
    spaced = [name for name in names if name != name.strip()]
    hint = f"; spaces are part of a name: {', '.join(map(repr, spaced))}" if spaced else ""
    return f"the columns are: {', '.join(names)}{hint}"


def parts(path: Path) -> list[Path]:
    """The file itself, or the parts in a folder, by name."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES))
    if len({file.suffix == ".parquet" for file in found}) != 1:
        raise InputError(f"{path}: has to hold parts of one kind, .parquet or .csv; it has {len(found)} of any")
    if gone := [file for file in found if not file.is_file()]:
        raise InputError(f"{gone[0]}: no file, or a link that leads to none; remove it")
    return found


def plain(column: pa.Array) -> pa.Array:
    """Undo the dictionary encoding that pandas' categories bring along, and the large types of other writers."""
    kind = plain_kind(column.type)
    return column if kind == column.type else column.cast(kind)


def plain_kind(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return plain_kind(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = plain_kind(kind.value_type)
        return pa.list_(pa.string() if pa.types.is_null(inner) else inner)
    return kind


def _check_text(column: pa.Array, file: Path, name: str, first: int) -> None:
    """Raise InputError where a string of a parquet file, or one in its lists, is no UTF-8. first: the column's row."""
    if not (pa.types.is_string(column.type) or pa.types.is_list(column.type)):
        return
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        for row, value in enumerate(column):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                what = f"{file}: column '{name}' has a string that is no UTF-8 in row {first + row}"
                raise InputError(f"{what}; write it again") from error
        raise


def unreadable(file: Path, error: Exception) -> InputError:
    kind = "parquet" if file.suffix == ".parquet" else "CSV"
    said = " ".join(str(error).split())
    return InputError(f"{file}: not a readable {kind} file ({said}); write it again")


def _kinds(file: Path) -> dict[str, pa.DataType]:
    """Columns and their types, in the file's order; those of a CSV are strings."""
    try:
        if file.suffix == ".parquet":
            return {field.name: plain_kind(field.type) for field in ds.dataset(file, format="parquet").schema}
        options = csv.ReadOptions(block_size=BLOCK, use_threads=False)
        with pa.input_stream(file, compression="detect") as stream:
            names = csv.open_csv(stream, options, _parsing(lambda row: "skip")).schema.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(file, error) from error
    if len(set(names)) < len(names):
        raise InputError(f"{file}: two columns have one name: {', '.join(names)}")
    return dict.fromkeys(names, pa.string())


def _check_quotes(file: Path, name: str, faults: Faults) -> None:
    """Add an odd number of double quotes to the faults, and note line breaks that stand between an odd and an even one.

    In a pass of its own: the reader's threads would call a stream of Python's, and wait for it for good where the
    reader is given up.
    """
    count = line_breaks = 0
    try:
        with pa.input_stream(file, compression="detect") as stream:
            while block := stream.read(BLOCK):
                if QUOTE in block or count % 2:
                    marks = np.frombuffer(block, dtype=np.uint8)
                    is_quote = marks[(marks == QUOTE[0]) | (marks == NEW_LINE[0])] == QUOTE[0]
                    line_breaks += int((~is_quote & ((count + np.cumsum(is_quote)) % 2 == 1)).sum())
                    count += int(is_quote.sum())
    except OSError as error:
        raise unreadable(file, error) from error
    if count % 2:
        what = f"an odd number of double quotes ({count:,}): one is not closed, or not doubled within a value"
        faults.add(f"{name}: {what}")
    elif line_breaks:
        what = f"{line_breaks:,} line break(s) within quoted values; if none is meant, a quote is not closed"
        faults.note(f"{name}: {what}")


def _reader(file: Path, names: list[str], ragged: Any) -> Iterator[pa.Table]:
    converting = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=names,
        strings_can_be_null=True,
        null_values=[""],
    )
    with pa.input_stream(file, compression="detect") as stream:
        options = csv.ReadOptions(block_size=BLOCK, use_threads=False)
        for batch in csv.open_csv(stream, options, _parsing(ragged), converting):
            yield pa.Table.from_batches([batch])


def _parsing(ragged: Any) -> csv.ParseOptions:
    return csv.ParseOptions(newlines_in_values=True, invalid_row_handler=ragged)
