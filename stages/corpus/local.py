"""A data set of your own: a folder with interactions.parquet, items.parquet and, optionally, users.parquet.

docs/data.md describes the columns. Every fault of the files is reported at once. Only titles, brands and categories
become item text: prices and descriptions are left out, and no id is ever shown to a model.
"""

import shutil
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.core.errors import InputError
from stages.core.sections import Corpus
from stages.corpus.raw_log import RawLog

LOG, ITEMS, USERS = "interactions.parquet", "items.parquet", "users.parquet"
KEYS = ("user_id", "item_id", "position", "timestamp")


def download(settings: Corpus, into: Path) -> None:
    """Copy the files of the folder `settings.path`, a path relative to the repository's root or absolute."""
    if settings.path is None:
        raise InputError(f"source local needs a path: the folder with {LOG} and {ITEMS}")
    folder = Path(settings.path)
    missing = [name for name in (LOG, ITEMS) if not (folder / name).is_file()]
    if missing:
        what = f"no {' and no '.join(missing)} in this folder" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {what} (corpora.<name>.path, seen from {Path.cwd()}); see docs/data.md")
    for name in (LOG, ITEMS, USERS):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, into / name)


def read(raw: Path) -> RawLog:
    """Read and check the copied files. Raises InputError that lists every fault that was found."""
    faults: list[str] = []
    log, items = _table(raw / LOG), _table(raw / ITEMS)
    users = _table(raw / USERS) if (raw / USERS).exists() else None
    user_id, item_id = _ids(log, "user_id", LOG, faults), _ids(log, "item_id", LOG, faults)
    catalogue = _ids(items, "item_id", ITEMS, faults, unique=True)
    first_seen = None if user_id is None else pa.chunked_array([user_id.unique()])
    known_users = first_seen if users is None else _ids(users, "user_id", USERS, faults, unique=True)
    for ids, known, name, other in ((item_id, catalogue, "item_id", ITEMS), (user_id, known_users, "user_id", USERS)):
        if ids is not None and known is not None:
            unknown = pc.and_(pc.is_valid(ids), pc.invert(pc.is_in(ids, value_set=known.combine_chunks())))
            _rows(unknown, f"{LOG}: {name} that {other} does not have", faults, ids)
    order = _order(log, user_id, faults)
    extra = {name: _plain(log[name]) for name in log.column_names if name not in KEYS}
    numbers = {name: column.cast(pa.float64(), safe=False) for name, column in extra.items() if _is_number(column.type)}
    described, profile = _describe(items, faults), _profile(users, faults)
    if not log.num_rows:
        faults.append(f"{LOG}: holds no rows")
    if faults:
        raise InputError(f"{raw}: {len(faults)} fault(s) in the data:\n  " + "\n  ".join(faults))
    return RawLog(
        items=_frame({"item_id": catalogue}).assign(**described),
        users=_frame({"user_id": known_users, **profile}),
        interactions=_frame({"user_id": user_id, "item_id": item_id, **order, **numbers}),
    )


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run the download stage") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file ({error}); write it again") from error


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undo the dictionary encoding that pandas' categories bring along, and the large lists of other writers."""
    if pa.types.is_large_list(column.type):
        return column.cast(pa.list_(column.type.value_type))
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _rows(bad: pa.Array | pa.ChunkedArray, what: str, faults: list[str], values: pa.ChunkedArray | None = None) -> None:
    """Add a fault that names the first rows where `bad` holds, counted from 0, with their values."""
    rows = pc.indices_nonzero(bad).to_pylist()
    if rows:
        shown = [f"{row} ({values[row].as_py()!r})" if values is not None else str(row) for row in rows[:5]]
        faults.append(f"{what}: {len(rows):,} row(s), first {', '.join(shown)}")


def _ids(table: pa.Table, name: str, file: str, faults: list[str], unique: bool = False) -> pa.ChunkedArray | None:
    """An id column as strings, or None where it is missing or of another type than integer or string."""
    if name not in table.column_names:
        faults.append(f"{file}: column '{name}' is missing; the columns are: {', '.join(table.column_names)}")
        return None
    column = _plain(table[name])
    if not (pa.types.is_integer(column.type) or _is_text(column.type)):
        faults.append(f"{file}: column '{name}' is {column.type}, it has to be integer or string")
        return None
    ids = column.cast(pa.string())
    ids = pc.if_else(pc.equal(ids, ""), pa.scalar(None, pa.string()), ids)
    _rows(pc.is_null(ids), f"{file}: {name} is empty", faults)
    if unique:
        again = pa.array(ids.to_pandas().duplicated().to_numpy())
        _rows(pc.and_(again, pc.is_valid(ids)), f"{file}: {name} stands there twice", faults, ids)
    return ids


def _order(log: pa.Table, user_id: pa.ChunkedArray | None, faults: list[str]) -> dict[str, pa.ChunkedArray]:
    """The columns that order a user's log: `position` where there is one, and `timestamp`, null where unknown."""
    order = {"timestamp": pa.chunked_array([pa.nulls(log.num_rows, pa.int64())])}
    for name in ("position", "timestamp"):
        if name in log.column_names:
            column = _whole(_plain(log[name]), name, faults)
            if column is None:
                return order
            order[name] = column
    key = "position" if "position" in log.column_names else "timestamp"
    if key not in log.column_names:
        faults.append(f"{LOG}: needs 'position' or 'timestamp'; the columns are: {', '.join(log.column_names)}")
        return order
    _rows(pc.is_null(order[key]), f"{LOG}: {key} is empty and gives the order", faults)
    if key == "position" and user_id is not None:
        twice = _frame({"user_id": user_id, key: order[key]}).duplicated(["user_id", key])
        _rows(pa.array(twice.to_numpy()), f"{LOG}: a user has the position before", faults, order[key])
    return order


def _whole(column: pa.ChunkedArray, name: str, faults: list[str]) -> pa.ChunkedArray | None:
    """Whole numbers as int64; a parquet timestamp or date becomes Unix seconds."""
    kind = column.type
    if name == "timestamp" and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        with suppress(pa.ArrowInvalid):  # a fraction or a NaN
            return column.cast(pa.int64())
    faults.append(f"{LOG}: column '{name}' ({kind}) has to hold whole numbers")
    return None


def _describe(items: pa.Table, faults: list[str]) -> dict[str, list[str] | list[list[str]]]:
    """Title, categories and text of every item; what is unknown is an empty string or list."""
    titles, brands = _texts(items, "title", faults), _texts(items, "brand", faults)
    if "title" not in items.column_names:
        faults.append(f"{ITEMS}: column 'title' is missing; the columns are: {', '.join(items.column_names)}")
    paths = _paths(items, faults)
    texts = [
        ". ".join(part for part in (title, brand, ", ".join(entry for entry in path if entry)) if part)
        for title, brand, path in zip(titles, brands, paths, strict=True)
    ]
    return {"title": titles, "text": texts, "categories": paths}


def _paths(items: pa.Table, faults: list[str]) -> list[list[str]]:
    """Each item's categories, root first; a plain string is a path of one."""
    rows: list[list[str] | None] = [None] * items.num_rows
    if "categories" in items.column_names:
        column = _plain(items["categories"])
        if _is_text(column.type):
            rows = [[entry] for entry in column.to_pylist()]
        elif pa.types.is_list(column.type) and _is_text(column.type.value_type):
            rows = column.to_pylist()
        else:
            faults.append(f"{ITEMS}: column 'categories' is {column.type}, it has to be a list of strings or a string")
    return [[_clean(entry) for entry in row or []] for row in rows]


def _texts(table: pa.Table, name: str, faults: list[str]) -> list[str]:
    """A text column, cleaned; empty strings where it is missing or null."""
    if name in table.column_names:
        column = _plain(table[name])
        if _is_text(column.type) or pa.types.is_null(column.type):
            return [_clean(value) for value in column.to_pylist()]
        faults.append(f"{ITEMS}: column '{name}' is {column.type}, it has to be string")
    return [""] * table.num_rows


def _clean(value: str | None) -> str:
    return " ".join((value or "").split())


def _profile(users: pa.Table | None, faults: list[str]) -> dict[str, pa.ChunkedArray]:
    """Every further column of the users table as strings."""
    columns = {} if users is None else {name: _plain(users[name]) for name in users.column_names if name != "user_id"}
    fit = {name: name != "user" and (_is_number(it.type) or _is_text(it.type)) for name, it in columns.items()}
    unfit = (f"'{name}' ({columns[name].type})" for name in columns if not fit[name])
    faults.extend(f"{USERS}: column {name} is no profile field: number or string, not called 'user'" for name in unfit)
    return {name: column.cast(pa.string()) for name, column in columns.items() if fit[name]}


def _frame(columns: dict[str, pa.ChunkedArray]) -> pd.DataFrame:
    """A data frame whose integer columns stay integers where they have nulls."""
    return pa.table(columns).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
