"""A user's own data: parquet and CSV read by hand, and every fault named with its file and row."""

import gzip
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages import download, prepare
from stages.core.errors import InputError
from stages.core.files import fresh_folder
from stages.corpus import local, tables
from stages.corpus.cut import cut
from stages.corpus.histories import load
from stages.corpus.item_text import clean
from tests.small_corpus import ITEMS, LOG, corpus, write

LIKE = {"feedback": {"like": {"rule": "at_least", "column": "stars", "threshold": 3}}, "objectives": {"like": 1.0}}


def items_of(raw: local.RawLog) -> dict[str, list[Any]]:
    rows = np.arange(len(raw.item_ids))
    return pa.concat_tables(raw.describe(rows, raw.item_ids)).to_pydict()


def fault(folder: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        list(cut(local.read(folder, corpus(**changes)), corpus(**changes)).items())
    return str(caught.value)


# --- What is read --------------------------------------------------------------------------------------------------


def test_local_by_hand(tmp_path: Path) -> None:
    users = pd.DataFrame({"user_id": [9, 7, 8], "age": [30, 40, 50]})
    raw = local.read(write(tmp_path, users=users), corpus(**LIKE))
    assert raw.item_ids.to_pylist() == [1, 2]
    assert items_of(raw) == {
        "title": ["Red lipstick", ""],
        "text": ["Red lipstick. Acme. Beauty, Lips", ""],
        "categories": [[["Beauty", "Lips"]], []],
    }
    assert raw.users.to_pydict() == {"user_id": [9, 7, 8], "age": ["30", "40", "50"]}
    assert raw.columns == ("stars",)  # the text column is none that gives feedback
    found = cut(raw, corpus(**LIKE))
    (log,) = found.interactions()
    assert log["item"].to_pylist() == [0, 1, 0]  # user 9, then user 7 by position
    assert log["like"].to_pylist() == [1, 0, 1]
    assert log["timestamp"].to_pylist() == [None] * 3
    assert found.users().to_pydict() == {"user": [0, 1], "user_id": ["9", "7"], "age": ["30", "40"]}
    assert found.dropped["users: no interaction"] == 1


def test_dates_and_string_categories(tmp_path: Path) -> None:
    log = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": pd.to_datetime(["1970-01-02T00:00:01.5"])})
    items = pd.DataFrame({"item_id": ["a"], "title": ["A"], "categories": pd.Categorical(["Lips"])})
    raw = local.read(write(tmp_path, interactions=log, items=items), corpus())
    assert items_of(raw)["text"] == ["A. Lips"]
    (log,) = cut(raw, corpus()).interactions()
    assert log["timestamp"].to_pylist() == [86_401]


def test_several_category_paths(tmp_path: Path) -> None:
    paths = [[["Beauty", "Hair"], ["Beauty", "", "Tools"]], [[]]]
    items = pa.table({"item_id": [1, 2], "title": ["A", "B"], "categories": paths})
    pq.write_table(items, write(tmp_path) / "items.parquet")
    raw = local.read(tmp_path, corpus())
    assert items_of(raw)["text"] == ["A. Beauty, Hair; Beauty, Tools", "B"]
    (items,) = cut(raw, corpus(category_level=2)).items()
    assert items["categories"].to_pylist() == [["Hair"], []]


CSV = {
    "interactions.csv": (
        "who,what,when,stars,note\nu,a,1970-01-02,4.5,x\n"
        'u,b,1970-01-01T00:00:05Z,2,"two\nlines"\nv,a,1970-01-01T00:00:07,,z\n'
    ),
    "items.csv": 'what,name,path\na," Red  lipstick ",Beauty|Lips\nb,,\n',
    "users.csv": "user_id,age\nv,30\nu,\n",
}
MAP = {"user_id": "who", "item_id": "what", "timestamp": "when", "title": "name", "categories": "path"}


def write_csv(folder: Path, **changes: str) -> Path:
    folder.mkdir(exist_ok=True)
    texts = CSV | {f"{name}.csv": text for name, text in changes.items()}
    for name, text in texts.items():
        (folder / name).write_text(text)
    users = (folder / "users.csv").read_text()
    (folder / "users.csv").write_text(users.replace("user_id", "who"))
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_csv_with_a_column_map(tmp_path: Path, packed: bool) -> None:
    folder = write_csv(tmp_path / "own")
    if packed:
        file = folder / "interactions.csv"
        (folder / "interactions.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    rules = corpus(columns=MAP, **LIKE)
    raw = local.read(folder, rules)
    assert items_of(raw) == {
        "title": ["Red lipstick", ""],
        "text": ["Red lipstick. Beauty, Lips", ""],
        "categories": [[["Beauty", "Lips"]], []],
    }
    found = cut(raw, rules)
    (log,) = found.interactions()
    assert found.users().to_pydict() == {"user": [0, 1], "user_id": ["v", "u"], "age": ["30", None]}
    assert log.select(["user", "item", "timestamp", "like"]).to_pydict() == {
        "user": [0, 1, 1],
        "item": [0, 1, 0],
        "timestamp": [7, 5, 86_400],
        "like": [0, 0, 1],
    }


def test_a_flag_by_its_name_and_truth_in_words(tmp_path: Path) -> None:
    folder = write_csv(tmp_path, interactions="who,what,when,liked\nu,a,1,True\nu,b,2,false\nv,a,3,1\n")
    rules = corpus(columns=MAP, feedback={"liked": {"rule": "flag"}}, objectives={"liked": 1.0})
    (log,) = cut(local.read(folder, rules), rules).interactions()
    assert log["liked"].to_pylist() == [1, 1, 0]  # user v first, as in users.csv


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_parts_are_one_table(tmp_path: Path, kind: str) -> None:
    """Rows go on being counted from one part to the next."""
    folder = write(tmp_path / "own")
    table = pq.read_table(folder / "interactions.parquet").to_pandas()
    (folder / "interactions.parquet").unlink()
    (folder / "interactions").mkdir()
    for start in range(3):
        part = folder / "interactions" / f"part-{start}.{kind}"
        rows = table.iloc[start : start + 1]
        rows.to_parquet(part) if kind == "parquet" else rows.to_csv(part, index=False)
    rules = corpus(**LIKE)
    (log,) = cut(local.read(folder, rules), rules).interactions()
    assert (log["item"].to_pylist(), log["like"].to_pylist()) == ([1, 0, 0], [0, 1, 1])
    broken = table.assign(item_id=[1, 2, 77]).iloc[2:]
    part = folder / "interactions" / f"part-2.{kind}"
    broken.to_parquet(part) if kind == "parquet" else broken.to_csv(part, index=False)
    assert "item_id that items.parquet does not have: 1 row(s), first part-2." in fault(folder, **LIKE)


def test_users_with_ids_alone(tmp_path: Path) -> None:
    rules = corpus(columns=MAP)
    folder = write_csv(tmp_path, users="user_id\nu\nv\n")
    assert cut(local.read(folder, rules), rules).users().to_pydict() == {"user": [0, 1], "user_id": ["u", "v"]}


def test_times_within_a_second_in_some_parts(tmp_path: Path) -> None:
    """What a part without them leaves out is 0."""
    folder = write(tmp_path, interactions=None)
    (folder / "interactions").mkdir()
    parts = {"a": ["08:00:01", "08:00:00"], "b": ["08:00:00.5", "08:00:00.25"], "c": ["08:00:01", "07:59:59"]}
    for part, times in parts.items():
        log = pd.DataFrame(
            {"user_id": [7, 7], "item_id": [1, 2], "timestamp": [f"2024-01-01T{time}" for time in times]}
        )
        log.to_csv(folder / f"interactions/{part}.csv", index=False)
    assert cut(local.read(folder, corpus()), corpus()).rows.tolist() == [5, 1, 3, 2, 0, 4]


@pytest.mark.parametrize("kind", ["ms", "us", "ns", "csv"])
def test_times_within_a_second_give_the_order(tmp_path: Path, kind: str) -> None:
    """Also before 1970; what is stored is the second."""
    stamps = np.array(["1970-01-01T00:00:00.9", "1970-01-01T00:00:00.1", "1969-12-31T23:59:59.5"], "datetime64[ms]")
    log = pd.DataFrame({"user_id": [7] * 3, "item_id": [1, 2, 1]})
    if kind == "csv":
        folder = write(tmp_path, interactions=None)
        log.assign(timestamp=np.datetime_as_string(stamps)).to_csv(folder / "interactions.csv", index=False)
    else:
        folder = write(tmp_path, interactions=log.assign(timestamp=stamps.astype(f"datetime64[{kind}]")))
    for tie_order in ("file", "shuffle"):
        rules = corpus(tie_order=tie_order)
        found = cut(local.read(folder, rules), rules)
        assert found.rows.tolist() == [2, 1, 0]
        (table,) = found.interactions()
        assert table["timestamp"].to_pylist() == [-1, 0, 0]


def test_numbers_as_others_write_them(tmp_path: Path) -> None:
    """pandas writes a column of whole numbers with gaps as fractions; a plus is no harm."""
    folder = write_csv(tmp_path, interactions="who,what,when,stars\nu,a,1700000000.0,+4\nu,b,+5,2\nv,a,7.,\n")
    rules = corpus(columns=MAP, **LIKE)
    (log,) = cut(local.read(folder, rules), rules).interactions()
    assert log["timestamp"].to_pylist() == [7, 5, 1_700_000_000]
    assert log["like"].to_pylist() == [0, 0, 1]


def test_a_map_for_one_table_leaves_our_names_in_the_others(tmp_path: Path) -> None:
    folder = write_csv(tmp_path, items="item_id,name\na,A\nb,B\n")
    rules = corpus(columns={name: MAP[name] for name in ("user_id", "item_id", "timestamp", "title")})
    assert local.read(folder, rules).item_ids.to_pylist() == ["a", "b"]


def test_categories_of_nulls_are_none(tmp_path: Path) -> None:
    for kind in (pa.list_(pa.null()), pa.list_(pa.list_(pa.null()))):
        items = pa.table({"item_id": [1, 2], "title": ["A", "B"], "categories": pa.array([[], None], kind)})
        pq.write_table(items, write(tmp_path) / "items.parquet")
        assert items_of(local.read(tmp_path, corpus()))["categories"] == [[], []]


def test_what_is_odd_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A quote that is never closed can swallow rows where a second one closes it; milliseconds look like seconds."""
    lines = 'who,what,when,note\nu,a,1700000000000,"oops\nu,b,2,x\nv,a,3,y"\nv,b,4,z\n'
    folder = write_csv(tmp_path, interactions=lines)
    cut(local.read(folder, corpus(columns=MAP)), corpus(columns=MAP))
    assert "interactions.csv: 2 line break(s) within quoted values" in caplog.text
    assert "goes beyond 1e+11 and counts as seconds; if it is in milliseconds or finer, convert it to" in caplog.text


@pytest.mark.parametrize(
    ("times", "seconds", "odd"),
    [
        (["1700000000000000000", "-9223372036854775807"], [-(2**63) + 1, 17 * 10**17], True),  # nanoseconds
        (["9223372036854775807", "+0000000000000000007.0"], [7, 2**63 - 1], True),
        (["5999-01-01", "5998-01-01"], [127_111_420_800, 127_142_956_800], False),  # beyond 1e11, and no milliseconds
    ],
)
def test_large_times(
    times: list[str], seconds: list[int], odd: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_csv(tmp_path, interactions=f"who,what,when\nu,a,{times[0]}\nu,b,{times[1]}\n")
    (log,) = cut(local.read(folder, corpus(columns=MAP)), corpus(columns=MAP)).interactions()
    assert log["timestamp"].to_pylist() == seconds
    assert ("counts as seconds" in caplog.text) == odd


def test_columns_with_our_own_names(tmp_path: Path) -> None:
    """Row numbers and nanoseconds of a batch are not mixed up with columns of the file that are called so."""
    log = {"user_id": [7, 7, 9], "item_id": [1, 2, 1], "timestamp": [5, 5, 5]}
    names = ("beyond", "row", "\0row", "\0beyond")
    interactions = pd.DataFrame({**log, **{name: [1, 0, 1] for name in names}})
    users = pd.DataFrame({"user_id": [7, 9], "row": [30, 40], "beyond": [1, 2], "\0row": [1, 2]})
    flags = {"feedback": {name: {"rule": "flag"} for name in ("beyond", "row")}, "objectives": {"row": 1.0}}
    rules = corpus(**flags)
    found = cut(local.read(write(tmp_path, interactions=interactions, users=users), rules), rules)
    (table,) = found.interactions()
    assert found.rows.tolist() == [0, 1, 2]
    assert table["row"].to_pylist() == table["beyond"].to_pylist() == [1, 0, 1]
    told = found.users().to_pydict()
    assert told == {"user": [0, 1], "user_id": ["7", "9"], "row": ["30", "40"], "beyond": ["1", "2"]}
    message = fault(write(tmp_path, interactions=interactions.assign(item_id=[1, 2, 5]), users=users), **flags)
    assert "does not have: 1 row(s), first 2 (5)" in message


def test_columns_of_nulls_alone(tmp_path: Path) -> None:
    """They have no type in parquet, and say what a column with a type says whose values are all null."""
    log = LOG.assign(timestamp=None, liked=None)
    flag = {"feedback": {"liked": {"rule": "flag"}}, "objectives": {"liked": 1.0}}
    rules = corpus(**flag)
    users = pd.DataFrame({"user_id": [7, 9], "age": [None, None]})
    folder = write(tmp_path, interactions=log, users=users)
    assert pq.read_schema(folder / "interactions.parquet").field("timestamp").type == pa.null()
    found = cut(local.read(folder, rules), rules)
    (table,) = found.interactions()
    assert table.select(["item", "timestamp", "liked"]).to_pydict() == {
        "item": [1, 0, 0],
        "timestamp": [None] * 3,
        "liked": [0] * 3,
    }
    assert found.users()["age"].to_pylist() == [None, None]
    message = fault(write(tmp_path, interactions=log.drop(columns="position")), **flag)
    assert "timestamp is empty and gives the order: 3 row(s), first 0, 1, 2" in message


@pytest.mark.parametrize("column", [[1, 2], ["1", "2"], pd.array([1, 2], dtype="uint64"), pd.Categorical(["1", "2"])])
def test_ids_of_either_kind_meet(tmp_path: Path, column: Any) -> None:
    raw = local.read(write(tmp_path, items=ITEMS.assign(item_id=column)), corpus())
    (log,) = cut(raw, corpus()).interactions()
    assert log["item"].to_pylist() == [1, 0, 0]


def test_rows_of_a_part_whose_last_row_is_none(tmp_path: Path) -> None:
    folder = write(tmp_path, interactions=None)
    (folder / "interactions").mkdir()
    header = "user_id,item_id,position\n"
    for number, lines in enumerate(("7,1,1\n7,2\n", "7,2,0\n9,,1\n9,1,1\n9,2,1\n")):
        (folder / "interactions" / f"part-{number}.csv").write_text(header + lines)
    message = fault(folder)
    assert "fields than the header: 1 row(s), first part-0.csv 1 (2 for 3)" in message
    assert "item_id is empty: 1 row(s), first part-1.csv 1" in message


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    log = pd.DataFrame({"user_id": draw.integers(9, size=500), "item_id": draw.integers(20, size=500)})
    items = pd.DataFrame({"item_id": range(20), "title": [f"title {number}" for number in range(20)]})
    for name in ("parquet", "csv"):
        folder = write(tmp_path / name, interactions=log.assign(position=range(500)), items=items)
        if name == "csv":
            for stem in ("interactions", "items"):
                pd.read_parquet(folder / f"{stem}.parquet").to_csv(folder / f"{stem}.csv", index=False)
                (folder / f"{stem}.parquet").unlink()
        found = []
        for rows, size in ((1 << 20, 1 << 24), (7, 200)):
            monkeypatch.setattr(tables, "BATCH", rows)
            monkeypatch.setattr(tables, "BLOCK", size)
            corpora = cut(local.read(folder, corpus(k_core=2)), corpus(k_core=2))
            found.append((pa.concat_tables(corpora.interactions()), pa.concat_tables(corpora.items())))
        assert found[0][0].equals(found[1][0])
        assert found[0][1].equals(found[1][1])


def test_space_is_what_python_takes_for_space() -> None:
    spaces = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
    text = f"{spaces}a{spaces}b{spaces}"
    assert clean(pa.array([text, None, spaces])).to_pylist() == [" ".join(text.split()), "", ""]
    assert all(clean(pa.array([f"a{space}b"])).to_pylist() == ["a b"] for space in spaces)


# --- What is refused -----------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[dict[str, pd.DataFrame], str]] = {
    "missing id": (
        {"interactions": LOG.drop(columns="user_id")},
        "column 'user_id' is missing; the columns are: item_id",
    ),
    "missing title": ({"items": ITEMS.drop(columns="title")}, "items.parquet: column 'title' is missing"),
    "no order": ({"interactions": LOG.drop(columns="position")}, "needs 'position' or 'timestamp'"),
    "empty order": (
        {"interactions": LOG.assign(position=[1, None, 0])},
        "position is empty and gives the order: 1 row(s), first 1",
    ),
    "fraction": (
        {"interactions": LOG.assign(position=[0.5, 1, 2])},
        "'position' (double) has to hold whole numbers: 1 row(s), first 0 (0.5)",
    ),
    "order type": ({"interactions": LOG.assign(position=["1", "2", "3"])}, "has to hold whole numbers"),
    "time type": (
        {"interactions": LOG.assign(timestamp=["2024-01-01"] * 3)},
        "'timestamp' (string) has to hold whole Unix seconds or be of a date or timestamp type",
    ),
    "null among whole ids": (
        {"items": pd.DataFrame({"item_id": pd.array([1, None, 2, 0], dtype="Int64"), "title": list("abcd")})},
        "1 fault(s) in the data:\n  items.parquet: item_id is empty: 1 row(s), first 1",
    ),
    "a long id": (
        {
            "items": ITEMS.assign(item_id=["1", "2" * 5_000]),
            "interactions": LOG.assign(item_id=["1", "1", "3" * 5_000]),
        },
        f"does not have: 1 row(s), first 2 ('{'3' * 59} .. {'3' * 15}')",
    ),
    "position twice": (
        {"interactions": LOG.assign(position=0)},
        "a user has the position before: 1 row(s), first 1 (0)",
    ),
    "duplicate item": ({"items": ITEMS.assign(item_id=[1, 1])}, "item_id stands there twice: 1 row(s), first 1 (1)"),
    "unknown item": ({"interactions": LOG.assign(item_id=[1, 5, 6])}, "does not have: 2 row(s), first 1 (5), 2 (6)"),
    "unknown user": ({"users": pd.DataFrame({"user_id": [7]})}, "user_id that users.parquet does not have: 1 row(s)"),
    "null user": ({"interactions": LOG.assign(user_id=["7", None, ""])}, "user_id is empty: 2 row(s), first 1, 2"),
    "id type": (
        {"interactions": LOG.assign(item_id=[1.0, 2.0, 1.0])},
        "'item_id' is double, it has to be integer or str",
    ),
    "title type": ({"items": ITEMS.assign(title=[1, 2])}, "column 'title' is int64, it has to be string"),
    "category type": ({"items": ITEMS.assign(categories=[[1], [2]])}, "it has to be a list of strings or a string"),
    "profile": ({"users": pd.DataFrame({"user_id": [7, 9], "tags": [["a"], ["b"]]})}, "column 'tags' (list<"),
    "no rows": ({"interactions": LOG.head(0)}, "holds no rows"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_parquet(name: str, tmp_path: Path) -> None:
    changes, message = FAULTS[name]
    assert message in fault(write(tmp_path / "raw", **changes))


CSV_FAULTS = {
    "fields": (
        "interactions",
        "who,what,when\nu,a,1\nu,b\nv,a,3,4\nv,b,1\n",
        "header: 2 row(s), first 1 (2 for 3), 2 (4",
    ),
    "unknown item behind a row that is no row": (
        "interactions",
        "who,what,when\nu\nu,zz,1\n",
        "item_id that items.csv does not have: 1 row(s), first 1 ('zz')",
    ),
    "time": (
        "interactions",
        "who,what,when\nu,a,1\nu,b,noon\n",
        "'timestamp' (string) has to hold whole Unix seconds or ISO dates: 1 row(s), first 1 ('noon')",
    ),
    "the time of the run": (
        "interactions",
        "who,what,when\nu,a,2024-01-01\nu,b,now\nv,a,today\n",
        "has to hold whole Unix seconds or ISO dates: 2 row(s), first 1 ('now'), 2 ('today')",
    ),
    "more than 64 bits": (
        "interactions",
        "who,what,when\nu,a,1\nu,b,9223372036854775808\nv,a,-9223372036854775808\n",
        "ISO dates: 2 row(s), first 1 ('9223372036854775808'), 2 ('-9223372036854775808')",
    ),
    "no time": (
        "interactions",
        "who,what,when\nu,a,1\nu,b,\n",
        "timestamp is empty and gives the order: 1 row(s), first 1",
    ),
    "a number that is none": (
        "interactions",
        "who,what,when,stars\nu,a,1,5\nu,b,2,five\n",
        "'stars' gives feedback and has to hold numbers: 1 row(s), first 1 ('five')",
    ),
    "no feedback column": ("interactions", "who,what,when\nu,a,1\n", "no numeric column 'stars'; it has: timestamp"),
    "mapped column": (
        "interactions",
        "who,what,time\nu,a,1\n",
        "column 'when' (columns.timestamp) is missing; the columns",
    ),
    "twin columns": ("interactions", "who,what,when,who\nu,a,1,u\n", "two columns have one name: who, what, when, who"),
    "nothing at all": ("items", "", "items.csv: not a readable CSV file"),
    "no text": ("items", "what,name,path\na,\udcff,\nb,B,\n", "items.csv: not a readable CSV file"),
    "item twice": (
        "items",
        "what,name\na,A\nb,B\na,C\n",
        "items.csv: item_id stands there twice: 1 row(s), first 2 ('a')",
    ),
    "a quote that is not closed": (
        "items",
        'what,name\na,"A\nb,B\n',
        "items.csv: an odd number of double quotes (1)",
    ),
    "a quote in a column that is not read": (
        "interactions",
        'who,what,when,note\nu,a,1,"x\nu,b,2,y\n',
        "interactions.csv: an odd number of double quotes (1)",
    ),
    "a header that is no text": ("items", "what,name,caf\udce9\na,A,1\nb,B,1\n", "items.csv: not a readable CSV file"),
    "spaces in the header": (
        "interactions",
        "who, what,when\nu,a,1\n",
        "the columns are: who,  what, when; spaces are part of a name: ' what'",
    ),
    "numbers and dates": (
        "interactions",
        "who,what,when\nu,a,\nu,a,20240102\nu,b,2024-01-03\nv,b,4\n",
        "'timestamp' holds plain numbers and dates: 1 row(s), first 2 ('2024-01-03')",
    ),
    "a row of the users that is no row": (
        "users",
        "user_id,age\nu,1\nv,2\nw,3,3\n",
        "users.csv: a row has more or fewer fields than the header: 1 row(s), first 2 (3 for 2)",
    ),
    "no title": ("items", "what,label\na,A\nb,B\n", "items.csv: column 'name' (columns.title) is missing"),
}


@pytest.mark.parametrize("name", CSV_FAULTS)
def test_faults_of_csv(name: str, tmp_path: Path) -> None:
    stem, text, message = CSV_FAULTS[name]
    write_csv(tmp_path)
    (tmp_path / f"{stem}.csv").write_bytes(text.encode(errors="surrogateescape"))
    found = fault(tmp_path, columns=MAP, **LIKE)
    assert message in found
    assert str(tmp_path) in found


def test_every_fault_at_once(tmp_path: Path) -> None:
    changes = {"interactions": LOG.assign(item_id=[1, 5, 6], position=0), "items": ITEMS.assign(title=[1, 2])}
    message = fault(write(tmp_path, **changes))
    assert f"{tmp_path}: 3 fault(s)" in message
    assert "does not have" in message
    assert "'title' is int64" in message
    assert "has the position before" in message


def test_faults_that_used_to_hide_others(tmp_path: Path) -> None:
    """An unknown user, a null among the positions, a missing order, a missing id column."""
    users = pd.DataFrame({"user_id": [7]})
    log = pd.DataFrame({"user_id": [7, 9, 7, 9, 7], "item_id": [1, 1, 2, 2, 1], "position": [0, 1, 0, 1, None]})
    message = fault(write(tmp_path, interactions=log, users=users))
    assert "3 fault(s)" in message
    assert "user_id that users.parquet does not have: 2 row(s), first 1 (9), 3 (9)" in message
    assert "position is empty and gives the order: 1 row(s), first 4" in message
    assert "a user has the position before: 1 row(s), first 2 (0)" in message
    message = fault(write(tmp_path, interactions=log.drop(columns="position"), users=users))
    assert "2 fault(s)" in message
    assert "needs 'position' or 'timestamp'" in message
    assert "user_id that users.parquet does not have: 2 row(s)" in message
    tags = pd.DataFrame({"user_id": [7, 9], "tags": [["a"], ["b"]]})
    wrong = {"interactions": log.drop(columns="item_id"), "items": ITEMS.assign(title=[1, 2]), "users": tags}
    message = fault(write(tmp_path, **wrong))
    assert "3 fault(s)" in message
    assert all(each in message for each in ("column 'item_id' is missing", "'title' is int64", "'tags' (list<"))


def test_positions_are_checked_before_ties_are_drawn(tmp_path: Path) -> None:
    """Three rows of one position, apart once the ties of time are shuffled."""
    position = [0, 1, 2, 3, 4, 5, 6, 7, 3, 3]
    log = pd.DataFrame({"user_id": [7] * 10, "item_id": [1, 2] * 5, "position": position, "timestamp": [1] * 10})
    folder = write(tmp_path, interactions=log)
    for tie_order in ("file", "shuffle"):
        assert "a user has the position before: 2 row(s), first 8 (3), 9 (3)" in fault(folder, tie_order=tie_order)


def not_text(values: list[bytes]) -> pa.Array:
    """A column of strings with these bytes, which no check has looked at."""
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in values])]).astype(np.int32)
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(values)))


@pytest.mark.parametrize(
    ("stem", "column", "row"),
    [
        ("items", "title", 1),
        ("items", "brand", 1),
        ("items", "categories", 1),
        ("items", "item_id", 1),
        ("interactions", "user_id", 1),
        ("interactions", "item_id", 0),
        ("users", "user_id", 0),
        ("users", "city", 1),
    ],
)
def test_parquet_strings_that_are_no_utf8(stem: str, column: str, row: int, tmp_path: Path) -> None:
    values = [b"1", b"2"]
    values[row] += b"\xff"
    plain = ["1", "2"]
    tables = {
        "interactions": {"user_id": plain, "item_id": plain, "position": [0, 1]},
        "items": {"item_id": plain, "title": plain, "brand": plain, "categories": plain},
        "users": {"user_id": plain, "city": plain},
    }
    wrong = not_text(values)
    if column == "categories":
        wrong = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), wrong)
    for name, columns in tables.items():
        pq.write_table(pa.table(columns | ({column: wrong} if name == stem else {})), tmp_path / f"{name}.parquet")
    message = f"{stem}.parquet: column '{column}' has a string that is no UTF-8 in row {row}; write it again"
    assert message in fault(tmp_path)


def test_many_rows_of_a_fault_are_counted_over_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH", 3)
    log = pd.DataFrame({"user_id": [1] * 10, "item_id": range(100, 110), "position": range(10)})
    message = fault(write(tmp_path, interactions=log))
    assert "10 row(s), first 0 (100), 1 (101), 2 (102), 3 (103), 4 (104)" in message


def test_damaged_and_ambiguous_files(tmp_path: Path) -> None:
    whole = (write(tmp_path) / "interactions.parquet").read_bytes()
    for damaged in (whole[:-20], b"", b"PAR1 no parquet PAR1"):
        (tmp_path / "interactions.parquet").write_bytes(damaged)
        assert "interactions.parquet: not a readable parquet file" in fault(tmp_path)
    (tmp_path / "interactions.parquet").write_bytes(whole)
    (tmp_path / "interactions.csv").write_text("user_id,item_id,position\n")
    assert "interactions.parquet and interactions.csv both hold the interactions" in fault(tmp_path)
    (tmp_path / "interactions.csv").unlink()
    (tmp_path / "interactions.parquet").unlink()
    assert "no interactions table" in fault(tmp_path)
    (tmp_path / "interactions").mkdir()
    assert "has to hold parts of one kind" in fault(tmp_path)
    (tmp_path / "interactions" / "a.csv").write_text("user_id,item_id,position\n7,1,1\n")
    (tmp_path / "interactions" / "b.csv").write_text("user_id,item_id\n7,1\n")
    assert "b.csv: has other columns or types than a.csv" in fault(tmp_path)
    (tmp_path / "interactions" / "b.csv").unlink()
    (tmp_path / "interactions" / "b.csv").symlink_to(tmp_path / "nowhere")
    assert "b.csv: no file, or a link that leads to none" in fault(tmp_path)


def test_a_page_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    path = write(tmp_path) / "interactions.parquet"
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)
    assert "interactions.parquet: not a readable parquet file" in fault(tmp_path)


# --- The folder ----------------------------------------------------------------------------------------------------


def test_download(tmp_path: Path) -> None:
    def refused(path: Path | None) -> str:
        into = tmp_path / "refused"
        with pytest.raises(InputError) as caught, fresh_folder(into) as scratch:
            local.download(corpus(path=None if path is None else str(path)), scratch)
        assert list(tmp_path.glob("*refused*")) == []
        return str(caught.value)

    assert "needs a path" in refused(None)
    assert "no such folder" in refused(tmp_path / "nowhere")
    (tmp_path / "half").mkdir()
    assert "no interactions and no items here" in refused(tmp_path / "half")
    source = write(tmp_path / "own")
    (source / "secret.txt").write_text("stays")
    with fresh_folder(tmp_path / "raw") as scratch:
        local.download(corpus(path=str(source)), scratch)
    assert sorted(file.name for file in (tmp_path / "raw").iterdir()) == ["interactions.parquet", "items.parquet"]
    (source / "interactions").mkdir()
    (source / "interactions.parquet").rename(source / "interactions" / "part-0.parquet")
    (source / "interactions" / "secret.txt").write_text("stays")
    with fresh_folder(tmp_path / "parts") as scratch:
        local.download(corpus(path=str(source)), scratch)
    assert [file.name for file in (tmp_path / "parts" / "interactions").iterdir()] == ["part-0.parquet"]
    (source / "interactions.csv").write_text("user_id,item_id,position\n")
    assert refused(source) == f"{source}: interactions and interactions.csv both hold the interactions; remove one"
    (source / "archive.txt").write_text("no archive")
    assert "neither a folder nor a zip or tar archive" in refused(source / "archive.txt")


def zipped(source: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(source.iterdir()):
            archive.write(file, f"data/{file.name}")
    return path


def tarred(source: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(source, "data")
    return path


@pytest.mark.parametrize(("pack", "name"), [(zipped, "own.zip"), (tarred, "own.tar.gz")])
def test_download_from_an_archive(tmp_path: Path, pack: Callable[[Path, Path], Path], name: str) -> None:
    source = write(tmp_path / "own")
    (source / "secret.txt").write_text("stays")
    settings = corpus(path=str(pack(source, tmp_path / name)))
    with local.own_files(settings) as own:
        assert sorted(file.name for file in own.iterdir()) == ["interactions.parquet", "items.parquet"]
    assert not own.exists()
    with fresh_folder(tmp_path / "raw") as scratch:
        local.download(settings, scratch)
    assert sorted(file.name for file in (tmp_path / "raw").iterdir()) == ["interactions.parquet", "items.parquet"]
    assert cut(local.read(tmp_path / "raw", settings), settings).rows.tolist() == [1, 0, 2]
    (source / "items.csv").write_text("item_id,title\n")
    twice = pack(source, tmp_path / f"twice.{name}")
    with pytest.raises(InputError) as caught:
        local.download(corpus(path=str(twice)), tmp_path / "raw")
    assert str(caught.value) == f"{twice}: items.parquet and items.csv both hold the items; remove one"
    packed = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"own\.(zip|tar\.gz).*(damaged archive|neither a folder)"):
        local.download(settings, tmp_path)


# --- The stage -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the data set `mine`, whose folder is `own`; the working directory."""
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["corpora"]["mine"] = corpus(path="own", **LIKE).model_dump()
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    write(project / "own")
    monkeypatch.chdir(project)
    return project


def files(project: Path) -> dict[str, bytes]:
    """What the stages may have written."""
    found = [path for name in ("data", "metrics") for path in (project / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(project)): path.read_bytes() for path in found}


def test_check_lists_all_and_writes_nothing(
    mine: Path, python: Callable[..., subprocess.CompletedProcess[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """From the user's folder, before anything is copied; then again after the faults are mended, and then for good."""
    write(mine / "own", interactions=LOG.assign(item_id=[1, 5, 6], position=0, stars=1))
    done = python("-m", "stages.prepare", "--dataset", "mine", "--check")
    assert done.returncode == 1
    assert "error: own: 2 fault(s) in the data:" in done.stderr
    assert "interactions.parquet: item_id that items.parquet does not have: 2 row(s), first 1 (5), 2 (6)" in done.stderr
    assert "interactions.parquet: a user has the position before: 1 row(s), first 1 (0)" in done.stderr
    assert files(mine) == {}
    write(mine / "own")
    with caplog.at_level("INFO", "stages"):
        prepare.main("mine", check=True)
    assert "no fault in own; nothing was written" in caplog.text
    assert "3 interactions" in caplog.text
    assert files(mine) == {}
    download.main("mine")
    prepare.main("mine")
    assert load(mine / "data/mine/corpus").item.tolist() == [1, 0, 0]


def test_check_reads_what_the_path_names_and_nothing_else(mine: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not the copy of an earlier download."""

    def check(path: str) -> str:
        values = yaml.safe_load((mine / "params.yaml").read_text())
        values["corpora"]["mine"]["path"] = path
        (mine / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        with pytest.raises(InputError) as caught:
            prepare.main("mine", check=True)
        return str(caught.value)

    download.main("mine")
    assert "owm: no such folder" in check("owm")
    write(mine / "own", interactions=LOG.assign(item_id=[1, 5, 6], stars=1))
    zipped(mine / "own", mine / "own.zip")
    message = check("own.zip")
    assert message.startswith("own.zip: 1 fault(s) in the data:")
    assert "does not have: 2 row(s), first 1 (5), 2 (6)" in message
    (mine / "own" / "interactions.parquet").unlink()
    assert check("own") == "own: no interactions here, as .parquet, .csv, .csv.gz or a folder of parts"
    zipped(mine / "own", mine / "own.zip")
    assert check("own.zip") == "own.zip: no interactions here, as .parquet, .csv, .csv.gz"
    write(mine / "own")
    cut_short(mine / "own" / "items.parquet")
    zipped(mine / "own", mine / "own.zip")
    assert check("own.zip").startswith("own.zip/items.parquet: not a readable parquet file")
    write(mine / "own")
    zipped(mine / "own", mine / "own.zip")
    with caplog.at_level("INFO", "stages"):
        prepare.main("mine", check=True)
    assert "no fault in own.zip; nothing was written" in caplog.text


def test_download_tells_the_bytes_of_all_parts(mine: Path, caplog: pytest.LogCaptureFixture) -> None:
    (mine / "own" / "interactions").mkdir()
    file = (mine / "own" / "interactions.parquet").rename(mine / "own" / "interactions" / "a.parquet")
    (file.parent / "b.parquet").write_bytes(file.read_bytes())
    with caplog.at_level("INFO", "stages"):
        download.main("mine")
    assert f"mine: interactions, {2 * file.stat().st_size:,} bytes" in caplog.text


STAGE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda raw: cut_short(raw / "items.parquet"), "items.parquet: not a readable parquet file"),
    "gone": (lambda raw: (raw / "interactions.parquet").unlink(), "no interactions table"),
    "another type": (lambda raw: write(raw, items=ITEMS.assign(title=[1, 2])), "'title' is int64"),
    "unknown item": (
        lambda raw: write(raw, interactions=LOG.assign(item_id=[1, 5, 6], stars=1)),
        "interactions.parquet: item_id that items.parquet does not have: 2 row(s), first 1 (5), 2 (6)",
    ),
    "no order": (
        lambda raw: write(raw, interactions=LOG.assign(position=[1, None, 0], stars=1)),
        "interactions.parquet: position is empty and gives the order: 1 row(s), first 1",
    ),
    "feedback gone": (lambda raw: write(raw, interactions=LOG), "no numeric column 'stars'"),
}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("name", STAGE_FAULTS)
def test_a_fault_leaves_what_was_there(name: str, mine: Path) -> None:
    """Nothing is half-written, and once the fault is mended the stage runs as if it had never been there."""
    damage, message = STAGE_FAULTS[name]
    download.main("mine")
    prepare.main("mine")
    before = files(mine)
    damage(mine / "data/mine/raw")
    with pytest.raises(InputError) as caught:
        prepare.main("mine")
    assert message in str(caught.value)
    left = files(mine)
    assert {path: left[path] for path in before if "/raw/" not in path} == {
        path: data for path, data in before.items() if "/raw/" not in path
    }
    assert not [path for path in left if path not in before]
    download.main("mine")
    prepare.main("mine")
    assert files(mine) == before


LIMITED = """
import resource, sys
from stages import prepare
from stages.core import stage
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # a write beyond fails, as on a full disk
stage.run(prepare.main, None, "dataset")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
def test_a_disk_that_fills(mine: Path, python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    download.main("mine")
    prepare.main("mine")
    before = files(mine)
    done = python("-c", LIMITED, "--dataset", "mine")
    assert done.returncode == 1, done.stderr
    assert "no space is left" in done.stderr
    assert "Traceback" not in done.stderr
    assert files(mine) == before
    prepare.main("mine")
    assert files(mine) == before
