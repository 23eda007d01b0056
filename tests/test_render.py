"""The stage `render` on a small data set of one's own, and what reads its tables back."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from transformers import AutoTokenizer

from stages.core import params
from stages.core.errors import InputError
from stages.core.files import write_table
from stages.corpus.histories import Histories, load
from stages.rendering.activity import NO_TIME
from stages.rendering.prompts import Renderer
from stages.rendering.table import item_table, pool_table, read_text, user_table
from stages.retrievers import pools

ITEMS, USERS, LENGTH = 30, 12, 14
TITLES = ["", "two\nlines\r\u2028and more", "a\nb", "x" * 10_000, "\U0001f3ac \u0641\u064a\u0644\u0645", "Heat", "Heat"]
TEXT = {"pool_size": 11, "retrievers": {"transitions": 0.5, "knn": 0.3, "popularity": 0.2}, "vocabulary": 400}
FILES = ("items.parquet", "users.parquet", "pools.parquet", "tokenizer/tokenizer.json")


def write_source(folder: Path) -> None:
    """Logs in which most items are followed by the next one by number; every third time is unknown."""
    generator = np.random.default_rng(1)
    first = generator.integers(0, ITEMS, USERS)
    items = (first[:, None] + np.cumsum(generator.choice([1, 2], (USERS, LENGTH), p=[0.8, 0.2]), 1)) % ITEMS
    log = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), LENGTH),
            "item_id": items.ravel(),
            "position": np.tile(np.arange(LENGTH), USERS),
            "timestamp": pd.array(np.tile(np.arange(LENGTH) * 86_400 * 9, USERS), dtype="Int64"),
            "rating": generator.integers(1, 6, USERS * LENGTH),
        }
    )
    log.loc[log.index % 3 == 0, "timestamp"] = pd.NA
    titles = TITLES + [f"Film {number}" for number in range(ITEMS - len(TITLES))]
    categories = [["Films", f"genre {number % 4}"] for number in range(ITEMS)]
    folder.mkdir()
    log.to_parquet(folder / "interactions.parquet")
    described = {"item_id": range(ITEMS), "title": titles, "brand": ["Acme"] * ITEMS, "categories": categories}
    pd.DataFrame(described).to_parquet(folder / "items.parquet")
    pd.DataFrame({"user_id": range(USERS), "age": range(USERS), "gender": ["M", "F"] * (USERS // 2)}).to_parquet(
        folder / "users.parquet"
    )


def write_params(project: Path, **text: Any) -> None:
    """The shipped parameters with the data set `small` and small pools."""
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    own = {"source": "local", "path": str(project / "source"), "category_level": 2}
    values["corpora"]["small"] = {**values["corpora"]["ml-100k"], **own}
    values["text"] |= TEXT | text
    values["sft"] |= {"holdback": 4, "min_items": 6, "reserve": 0.5}
    values["rl"] |= {"horizon": 4, "slate_length": 5}
    path.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture
def rendered(project: Path, python: Callable[..., Any]) -> Path:
    write_source(project / "source")
    write_params(project)
    for stage in ("download", "prepare", "render"):
        done = python("-m", f"stages.{stage}", "--dataset", "small")
        assert done.returncode == 0, done.stderr
    return project


def test_render(rendered: Path, python: Callable[..., Any]) -> None:
    folder, histories = rendered / "data/small/actions/text", load(rendered / "data/small/corpus")
    text = read_text(folder, histories)
    check_text(folder, text, histories)
    check_pools(text.pools, histories)
    check_metrics(json.loads((rendered / "metrics/small/text.json").read_text()), text.pools, histories)

    before = {name: (folder / name).read_bytes() for name in FILES}
    again = python("-m", "stages.render", "--dataset", "small")
    assert again.returncode == 0, again.stderr
    assert {name: (folder / name).read_bytes() for name in FILES} == before

    write_params(rendered, retrievers={"sasrec": 1.0})
    wrong = python("-m", "stages.render", "--dataset", "small")
    assert wrong.returncode == 1
    assert "text.retrievers: 'sasrec' is none of the modules of stages/retrievers: knn, popularity, tra" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def check_text(folder: Path, text: Any, histories: Histories) -> None:
    assert text.names[:7] == [
        "untitled",
        "two lines and more",
        "a b",
        "x" * 80,
        TITLES[4],
        "Heat [genre 1]",
        "Heat [genre 2]",
    ]
    assert text.lines[1].startswith("two lines and more | Acme, genre 1")
    assert text.profiles[:2] == ["age 0, gender male", "age 1, gender female"]
    assert text.times[:3].tolist() == [NO_TIME, 9 * 86_400, 18 * 86_400]
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    parts = Renderer.over(histories, text, 20).parts(1, 9, text.pools[LENGTH + 9], 5)
    assert "last 20 days: " in parts.head
    assert len(parts.history) == 9
    assert tokenizer.decode(tokenizer.encode(parts.whole)) == parts.whole
    assert len(tokenizer) == 400


def check_pools(drawn: np.ndarray, histories: Histories) -> None:
    """One row per interaction; no item twice, none that the user has had, none of the future put in."""
    assert drawn.shape == (USERS * LENGTH, 11)
    for row, pool in enumerate(drawn):
        items = pool[pool >= 0]
        user = row // LENGTH
        seen = set(histories.item[histories.offsets[user] : row].tolist())
        assert len(items) == len(set(items)) == 11
        assert not seen & set(items.tolist())
    first = drawn[np.arange(USERS) * LENGTH]
    assert (first == first[0]).all()  # nothing is known of a user yet


def check_metrics(told: dict[str, Any], drawn: np.ndarray, histories: Histories) -> None:
    last = np.arange(USERS) * LENGTH + LENGTH - 1
    assert told["pool_recall"]["test"] == pytest.approx(pools.recall(drawn[last], histories.test), rel=1e-5)
    assert told["pool_recall"]["valid"] == pytest.approx(pools.recall(drawn[last - 1], histories.valid), rel=1e-5)
    held_back = np.concatenate([last - place for place in (2, 3, 4, 5)])
    assert told["pool_recall"]["held_back"] == pytest.approx(
        pools.recall(drawn[held_back], histories.item[held_back]), rel=1e-5
    )
    assert set(told["pool_recall"]) == {"train", "held_back", "valid", "test"}
    assert set(told["recall@10"]) == {"valid", "test"}
    assert told["quotas"] == [["transitions", 6], ["knn", 3], ["popularity", 2]]
    assert told["short_pools"] == [["contexts", 0], ["of", USERS * LENGTH]]
    assert dict(told["names"]) == {"empty": 1, "cleaned": 0, "cut": 1, "told_apart": 2}
    assert told["prompt_characters"] > 200


# --- Reading back --------------------------------------------------------------------------------------------------

CORPUS: Any = SimpleNamespace(item_count=3, user_count=2, item=np.zeros(4))
TABLES = {
    "items": item_table(["a", "b", "c"], ["a | x", "b", "c"]),
    "users": user_table(["age 7", ""]),
    "pools": pool_table(pa.chunked_array([[5, None, 7, 8]]), np.array([[0, 1], [2, -1], [-1, -1], [1, 0]])),
}


def changed(table: str, name: str, values: list[Any]) -> tuple[str, pa.Table]:
    own = TABLES[table]
    return table, own.set_column(own.column_names.index(name), name, pa.array(values, own.schema.field(name).type))


FAULTS = {
    "items short": (("items", TABLES["items"][:2]), r"items\.parquet: items have to be 0\.\.2 of the corpus"),
    "users short": (("users", TABLES["users"][:1]), r"users\.parquet: users have to be 0\.\.1 of the corpus"),
    "pools short": (("pools", TABLES["pools"][:3]), r"pools\.parquet: 3 rows for the corpus's 4 interactions"),
    "names twice": (changed("items", "name", ["a", "b", "a"]), "two items have the same name"),
    "line empty": (changed("items", "line", ["a", None, None]), "column 'line' has 2 empty fields"),
    "stranger": (changed("pools", "pool", [[0, 3]] * 4), r"no item of the corpus, 0\.\.2"),
    "below -1": (changed("pools", "pool", [[0, -2]] * 4), "no item of the corpus"),
    "pool empty": (changed("pools", "pool", [[0, 1], None, [0, 1], [0, 1]]), "no item of the corpus"),
    "pool missing": (("pools", TABLES["pools"].drop_columns("pool")), r"column 'pool' .* is missing"),
    "pool of lists": (
        ("pools", pa.table({"timestamp": [1] * 4, "pool": pa.array([[1]] * 4, pa.list_(pa.int32()))})),
        "column 'pool' is list",
    ),
}


def write_tables(folder: Path, tables: dict[str, pa.Table]) -> None:
    for name, table in tables.items():
        write_table(folder / f"{name}.parquet", table)


def test_tables_come_back(tmp_path: Path) -> None:
    write_tables(tmp_path, TABLES)
    text = read_text(tmp_path, CORPUS)
    assert (text.names, text.lines, text.profiles) == (["a", "b", "c"], ["a | x", "b", "c"], ["age 7", ""])
    assert text.times.tolist() == [5, NO_TIME, 7, 8]
    assert text.pools.tolist() == [[0, 1], [2, -1], [-1, -1], [1, 0]]


@pytest.mark.parametrize("name", FAULTS)
def test_tables_that_do_not_fit(name: str, tmp_path: Path) -> None:
    (table, damaged), message = FAULTS[name]
    write_tables(tmp_path, TABLES | {table: damaged})
    with pytest.raises(InputError, match=message):
        read_text(tmp_path, CORPUS)


def test_a_pool_holds_a_slate(project: Path) -> None:
    write_params(project, pool_size=4)
    with pytest.raises(InputError, match=r"text\.pool_size 4 is less than rl\.slate_length 5"):
        params.load(project / "params.yaml")


def test_every_module_of_retrievers_can_be_named() -> None:
    assert params.modules("retrievers") == ["knn", "popularity", "transitions"]
