"""Small logs and folders for the tests of the corpus."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages.core.corpora import Corpus
from stages.corpus.raw_log import ITEM, RawLog, in_memory

Row = tuple[str, str, int | None]

LOG = pd.DataFrame({"user_id": [7, 7, 9], "item_id": [1, 2, 1], "position": [1, 0, 0]})
ITEMS = pd.DataFrame({"item_id": [1, 2], "title": ["A", "B"]})


def corpus(**changes: Any) -> Corpus:
    values: dict[str, Any] = {
        "source": "local",
        "path": None,
        "amazon": None,
        "recif": None,
        "columns": None,
        "repeats": "keep",
        "max_history": None,
        "k_core": 1,
        "tie_order": "file",
        "shuffle_ties": False,
        "category_level": None,
        "cold_share": 0.05,
        "cold_ties": "include",
        "feedback": {"click": {"rule": "any"}},
        "objectives": {"click": 1.0},
        "exclude_seen": True,
    }
    return Corpus.model_validate(values | changes)


def raw_log(rows: list[Row], items: str = "abcdefgh", users: str | None = "uvwxyz", **columns: list[Any]) -> RawLog:
    user, item, stamp = zip(*rows, strict=True)
    log = {"user_id": list(user), "item_id": list(item), "timestamp": pa.array(stamp, pa.int64()), **columns}
    names = list(items)
    told = [names, names, names, [[["root", "x"]]] * len(names)]
    people = None if users is None else pa.table({"user_id": list(users), "age": ["7"] * len(users)})
    return in_memory(pa.table(told, schema=pa.schema([("item_id", pa.string()), *ITEM])), people, pa.table(log))


def write(folder: Path, **changes: pd.DataFrame | None) -> Path:
    """A sound folder of somebody's own data, but for the tables given."""
    tables: dict[str, pd.DataFrame | None] = {
        "interactions": pd.DataFrame(
            {"user_id": [7, 7, 9], "item_id": [1, 2, 1], "position": [1, 0, 0], "stars": [5, 1, 3], "note": list("abc")}
        ),
        "items": pd.DataFrame(
            {
                "item_id": [1, 2],
                "title": ["  Red\nlipstick ", None],
                "brand": ["Acme", None],
                "categories": [["Beauty", "Lips"], None],
                "price": [1.0, 2.0],
            }
        ),
    }
    folder.mkdir(exist_ok=True)
    for name, table in (tables | changes).items():
        if table is not None:
            table.to_parquet(folder / f"{name}.parquet")
    return folder
