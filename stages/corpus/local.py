"""A data set of your own: interactions, items and, optionally, users, as parquet or CSV.

docs/data.md describes the columns; corpora.<name>.columns maps them to other names. The faults of the files are
reported at once, with their rows; those of the rows after the ids' columns can be read. Only titles, brands and
categories become item text: prices and descriptions are left out, and no id is ever shown to a model.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.corpora import Corpus
from stages.core.errors import InputError
from stages.corpus import archives, item_text, values
from stages.corpus.faults import Faults, where
from stages.corpus.raw_log import BEYOND, ITEM, ROW, Ints, RawLog
from stages.corpus.tables import SUFFIXES, Table, find, listed, located, parts

STEMS = ("interactions", "items", "users")
ORDER = ("position", "timestamp")  # by which a user's log is sorted: the first that it has
KEYS = ("user_id", "item_id", *ORDER)


@contextmanager
def own_files(settings: Corpus) -> Iterator[Path]:
    """The folder that `download` copies from, where the data can be checked before; an archive is unpacked for it, and
    errors name the archive.
    """
    source = _path(settings)
    if source.is_file():
        with tempfile.TemporaryDirectory() as scratch, _named(source, scratch):
            _unpack(source, Path(scratch))
            yield Path(scratch)
    else:
        _demand(source, source, " or a folder of parts")
        yield source


def download(settings: Corpus, into: Path) -> None:
    """Copy the tables of the folder or archive `settings.path`, relative to the repository's root or absolute."""
    source = _path(settings)
    if source.is_file():
        with _named(source, str(into)):
            _unpack(source, into)
        return
    _demand(source, source, " or a folder of parts")
    for path in _tables(source):
        if path.is_dir():
            (into / path.name).mkdir()
        for part in parts(path):
            shutil.copyfile(part, into / part.relative_to(source))


def read(raw: Path, settings: Corpus) -> RawLog:
    """Open the tables. What is wrong with them is in `faults`, all of it once the batches have been read.

    Raises InputError where nothing can be read: no file, a damaged one, no column for ids.
    """
    faults = Faults(raw)
    theirs = {str(ours): name for ours, name in (settings.columns or {}).items()}
    found = {stem: find(raw, stem, _of(stem, theirs), faults) for stem in STEMS}
    log, items, users = (found[stem] for stem in STEMS)
    if log is None or items is None:
        raise InputError(
            f"{raw}: no {' and no '.join(s for s in STEMS[:2] if not found[s])} table; run the download stage"
        )
    kinds = {"users": _id_type([log, *([users] if users else [])], "user_id", faults)}
    kinds["items"] = _id_type([log, items], "item_id", faults)
    times = _times(log, faults)
    item_text.check_kinds(items, faults)
    fields = [] if users is None else _profile_fields(users, faults)
    if None in kinds.values():
        faults.check()
    catalogue = _catalogue(items, "item_id", kinds["items"], faults)["item_id"].combine_chunks()
    profiles = None if users is None else _catalogue(users, "user_id", kinds["users"], faults, fields)
    columns = [
        name for name in log.kinds if name not in KEYS and (log.is_csv or values.may_be_numbers(log.kinds[name]))
    ]
    wanted = [name for key, rule in settings.feedback.items() if (name := rule.reads(key)) in columns]
    return RawLog(
        batches=_log(log, kinds, times, sorted(set(wanted)), faults),
        item_ids=catalogue,
        users=profiles,
        describe=lambda rows, ids: _describe(items, rows),
        columns=(*(name for name in ("timestamp",) if name in log.kinds), *columns),
        faults=faults,
        names=(log.name, items.name, users.name if users else "users"),
    )


def _path(settings: Corpus) -> Path:
    if settings.path is None:
        raise InputError("source local needs a path: the folder with interactions and items, see docs/data.md")
    path = Path(settings.path)
    if not path.exists():
        raise InputError(f"{path}: no such folder (corpora.<name>.path, seen from {Path.cwd()}); see docs/data.md")
    return path


@contextmanager
def _named(archive: Path, scratch: str) -> Iterator[None]:
    """Say the archive in errors where they name the folder that it is unpacked to."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(scratch, str(archive))) from error


def _unpack(archive: Path, into: Path) -> None:
    archives.unpack(archive, [f"{stem}{suffix}" for stem in STEMS for suffix in SUFFIXES], into)
    _demand(into, archive)


def _tables(folder: Path) -> list[Path]:
    return [path for stem in STEMS if (path := located(folder, stem)) is not None]


def _demand(folder: Path, source: Path, or_else: str = "") -> None:
    have = {path.name.partition(".")[0] for path in _tables(folder)}
    missing = [stem for stem in STEMS[:2] if stem not in have]
    if missing:
        raise InputError(f"{source}: no {' and no '.join(missing)} here, as .parquet, .csv, .csv.gz{or_else}")


def _of(stem: str, theirs: dict[str, str]) -> dict[str, str]:
    """The part of the column map that is about a table."""
    own = {"interactions": KEYS, "items": ("item_id", "title", "brand", "categories"), "users": ("user_id",)}[stem]
    return {ours: name for ours, name in theirs.items() if ours in own}


def _id_type(tables: list[Table], name: str, faults: Faults) -> pa.DataType | None:
    """int64 where all tables have whole numbers, else string; None where one lacks the column or has another type."""
    kinds = []
    for table in tables:
        if name not in table.kinds:
            faults.add(f"{table.name}: column '{name}' is missing; {listed(table.kinds)}")
            return None
        kind = table.kinds[name]
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
            faults.add(f"{table.name}: column '{name}' is {kind}, it has to be integer or string")
            return None
        kinds.append(kind)
    whole = all(pa.types.is_integer(kind) and kind != pa.uint64() for kind in kinds)
    return pa.int64() if whole else pa.string()


def _ids(piece: pa.Table, name: str, kind: pa.DataType, file: str, faults: Faults) -> pa.Array:
    """An id column of a batch; an empty one is a fault."""
    ids = piece[name].combine_chunks().cast(kind)
    if kind == pa.string():
        ids = pc.if_else(pc.equal(ids, ""), pa.scalar(None, kind), ids)
    faults.rows(f"{file}: {name} is empty", pc.is_null(ids), piece[ROW])
    return ids


def _catalogue(
    table: Table, name: str, kind: pa.DataType | None, faults: Faults, further: Sequence[str] = ()
) -> pa.Table:
    """All ids of a table and further columns as strings; an id that stands there twice is a fault."""
    assert kind is not None
    strings = [(column, pa.string()) for column in further]
    pieces = [pa.schema([(ROW, pa.int64()), (name, kind), *strings]).empty_table()]
    for piece in table.batches([name, *further]):
        ids = _ids(piece, name, kind, table.name, faults)
        told = piece.select(further).cast(pa.schema(strings))
        pieces.append(pa.table([piece[ROW], ids, *told.columns], pieces[0].schema))
    found = pa.concat_tables(pieces)
    again = values.duplicated(found[name])
    if again.any():
        faults.rows(f"{table.name}: {name} stands there twice", where(again), found[ROW], found[name])
    return found.drop_columns(ROW)


def _times(log: Table, faults: Faults) -> list[str]:
    """The columns that can order a user's log, less those of a type that cannot: the first one of the log does."""
    there = [name for name in ORDER if name in log.kinds]
    wrong = [name for name in there if not values.may_be_whole(log.kinds[name], name, log.is_csv)]
    for name in wrong:
        faults.add(f"{log.name}: column '{name}' ({log.kinds[name]}) {values.demanded(name, log.is_csv)}")
    if not there:
        faults.add(f"{log.name}: needs 'position' or 'timestamp'; {listed(log.kinds)}")
    return [name for name in there if name not in wrong]


def _log(
    log: Table, kinds: dict[str, pa.DataType | None], times: list[str], wanted: list[str], faults: Faults
) -> Iterator[pa.Table]:
    """The batches of RawLog."""
    order, stamps = next((name for name in ORDER if name in log.kinds), None), values.Times(log.name, faults)
    for piece in log.batches(["user_id", "item_id", *times, *wanted]):
        columns = {
            ROW: piece[ROW],
            "user_id": _ids(piece, "user_id", kinds["users"], log.name, faults),
            "item_id": _ids(piece, "item_id", kinds["items"], log.name, faults),
            "timestamp": pa.nulls(piece.num_rows, pa.int64()),
        }
        for name in times:
            if name == "timestamp":
                columns[name], beyond = stamps.of(piece)
                columns |= {} if beyond is None else {BEYOND: beyond}
            else:
                columns[name] = values.whole(piece, name, log.name, faults)
            if name == order:
                faults.rows(f"{log.name}: {name} is empty and gives the order", pc.is_null(piece[name]), piece[ROW])
        for name in wanted:
            columns[name] = values.numbers(piece, name, log.name, faults)
        yield pa.table(columns)


def _describe(items: Table, rows: Ints) -> Iterator[pa.Table]:
    """Titles, texts and paths of rows of the catalogue, ascending."""
    names = [name for name in ("title", "brand", "categories") if name in items.kinds]
    start = 0
    for piece in items.batches(names):
        end = start + piece.num_rows
        inside = rows[slice(*np.searchsorted(rows, [start, end]))] - start
        start = end
        if len(inside):
            chosen = piece.take(pa.array(inside))
            blank = pa.nulls(len(inside), pa.string())
            title, brand = (
                item_text.clean((chosen[name].combine_chunks() if name in names else blank).cast(pa.string()))
                for name in ("title", "brand")
            )
            paths = item_text.paths_of(
                chosen["categories"].combine_chunks() if "categories" in names else blank, items.is_csv
            )
            text = item_text.joined([title, brand, item_text.path_text(paths)])
            yield pa.table([title, text, paths], schema=ITEM)


def _profile_fields(users: Table, faults: Faults) -> list[str]:
    """Every further column of the users table that can be told as strings."""
    fit = [name for name in users.kinds if name != "user_id"]
    for name in [name for name in fit if name == "user" or not values.is_plain(users.kinds[name])]:
        faults.add(
            f"{users.name}: column '{name}' ({users.kinds[name]}) is no profile field: "
            "number or string, not called 'user'"
        )
        fit.remove(name)
    return fit
