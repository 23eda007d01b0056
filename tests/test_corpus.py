"""Sources and the cut: numbers worked out by hand, properties of the split, and each fault by its message."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import download, download_encoder, prepare
from stages.core import params
from stages.core.errors import InputError
from stages.core.files import fresh_folder, write_table
from stages.core.sections import Corpus, Feedback
from stages.corpus import local, movielens
from stages.corpus.cut import at_level, cold_items, core, cut, feedback, leave_one_out, time_order
from stages.corpus.histories import load, tie_groups
from stages.corpus.raw_log import RawLog

BEAUTY = Path(__file__).parents[2] / "shared" / "data" / "beauty"
Row = tuple[str, str, int | None]


def corpus(**changes: Any) -> Corpus:
    values: dict[str, Any] = {
        "source": "local",
        "path": None,
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


def raw_log(rows: list[Row], items: str = "abcdefgh", users: str = "uvwxyz", **columns: list[Any]) -> RawLog:
    log = (
        pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).astype({"timestamp": "Int64"}).assign(**columns)
    )
    names = list(items)
    return RawLog(
        items=pd.DataFrame(
            {"item_id": names, "title": names, "text": names, "categories": [["root", "x"]] * len(names)}
        ),
        users=pd.DataFrame({"user_id": list(users), "age": ["7"] * len(users)}),
        interactions=log,
    )


# --- The cut -------------------------------------------------------------------------------------------------------


def test_k_core_falls_like_dominoes() -> None:
    # 2-core. Item d has one interaction, so user 2 is left with one (c), so item c is left with one (user 1's);
    # users 0 and 1 keep a and b, which have two each.
    user = np.array([0, 0, 1, 1, 1, 2, 2])
    item = np.array([0, 1, 0, 1, 2, 2, 3])
    assert core(user, item, 2).tolist() == [True, True, True, True, False, False, False]
    assert core(user, item, 1).all()
    assert not core(user, item, 3).any()


def test_tables_by_hand() -> None:
    # Items table order is a, b, c, d; b and user w fall below k_core 2, item d and user v never appear.
    rows: list[Row] = [("x", "c", 30), ("x", "a", 10), ("u", "c", 5), ("u", "a", 6), ("w", "b", 1), ("x", "a", 20)]
    found = cut(raw_log(rows, items="abcd", users="xuwv"), corpus(k_core=2))
    assert found.items["item_id"].to_pylist() == ["a", "c"]
    assert found.users.to_pydict() == {"user": [0, 1], "user_id": ["x", "u"], "age": ["7", "7"]}
    assert found.interactions.to_pydict() == {
        "user": [0, 0, 0, 1, 1],
        "item": [0, 0, 1, 1, 0],
        "position": [0, 1, 2, 0, 1],
        "timestamp": [10, 20, 30, 5, 6],
        "split": ["train", "valid", "test", "train", "train"],
        "click": [1, 1, 1, 1, 1],
    }
    assert found.items["train_count"].to_pylist() == [2, 1]
    assert found.dropped == {
        "users: no interaction": 1,
        "users: below k_core": 1,
        "items: no interaction": 1,
        "items: below k_core": 1,
        "interactions: below k_core": 1,
    }


def test_nothing_left() -> None:
    with pytest.raises(InputError, match="k_core 3 leaves none of the 2 interactions"):
        cut(raw_log([("u", "a", 1), ("u", "b", 2)]), corpus(k_core=3))


@pytest.mark.parametrize(("length", "split"), [(1, [0]), (2, [0, 0]), (3, [0, 1, 2]), (4, [0, 0, 1, 2])])
def test_split_of_short_histories(length: int, split: list[int]) -> None:
    assert leave_one_out(np.zeros(length, dtype=np.int64)).tolist() == split


@given(st.lists(st.tuples(st.sampled_from("uvwx"), st.sampled_from("abcde"), st.integers(0, 5)), min_size=1), st.data())
@settings(max_examples=60, deadline=None)
def test_split_property(rows: list[Row], data: st.DataObject) -> None:
    raw = raw_log(rows)
    k_core = data.draw(st.integers(1, 3))
    tie_order = data.draw(st.sampled_from(["file", "shuffle"]))
    try:
        found = cut(raw, corpus(k_core=k_core, tie_order=tie_order))
    except InputError:
        return  # nothing left
    log = found.interactions.to_pandas()
    assert len(log) + found.dropped["interactions: below k_core"] == len(rows)
    for table, kind in ((raw.users, "users"), (raw.items, "items")):
        dropped = sum(count for reason, count in found.dropped.items() if reason.startswith(kind))
        assert getattr(found, kind).num_rows + dropped == len(table)
    kept = pd.DataFrame(
        {
            "user": found.users["user_id"].to_numpy()[log["user"]],
            "item": found.items["item_id"].to_numpy()[log["item"]],
            "timestamp": log["timestamp"],
        }
    )
    assert min(kept["user"].value_counts().min(), kept["item"].value_counts().min()) >= k_core
    for user, own in log.groupby("user"):
        assert own["position"].tolist() == list(range(len(own)))
        assert own["timestamp"].is_monotonic_increasing
        held_out = ["valid", "test"] if len(own) >= 3 else []
        assert own["split"].tolist() == ["train"] * (len(own) - len(held_out)) + held_out
        if tie_order == "file":
            name = found.users["user_id"][user].as_py()
            in_file = sorted((row for row in rows if row[0] == name), key=lambda row: row[2] or 0)
            left = set(found.items["item_id"].to_pylist())
            assert kept["item"][own.index].tolist() == [row[1] for row in in_file if row[1] in left]


def test_shuffle_moves_ties_only() -> None:
    times = [1] * 20 + [2] * 20 + [None] * 3 + [3] * 20
    log = raw_log([("u", "a", time) for time in times], position=list(range(63))).interactions
    user = np.zeros(63, dtype=np.int64)
    rows = time_order(log, user, "shuffle")
    assert time_order(log, user, "file").tolist() == list(range(63))
    assert rows[40:43].tolist() == [40, 41, 42]  # unknown times tie with none
    for start in (0, 20, 43):
        block = rows[start : start + 20].tolist()
        assert sorted(block) == list(range(start, start + 20))
        assert block != sorted(block)
    assert time_order(log, user, "shuffle").tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("due", "ties", "cold"),
    [
        (3, "include", [1, 3, 4, 6]),  # the third least frequent has count 2, as have two others
        (3, "exclude", [1]),
        (3, "exact", [1, 3, 4]),  # the tie's first items by number
        (1, "include", [1]),  # the cut falls between counts: no rule matters
        (1, "exclude", [1]),
        (4, "exclude", [1, 3, 4, 6]),
        (0.9, "include", []),  # less than one item
        (7, "exclude", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_cold_tie_rules(due: float, ties: str, cold: list[int]) -> None:
    counts = np.array([9, 0, 5, 2, 2, 7, 2])
    assert np.flatnonzero(cold_items(counts, due / 7, ties)).tolist() == cold


def test_cold_share_is_not_a_victim_of_floating_point() -> None:
    assert cold_items(np.arange(100), 0.29, "exact").sum() == 29  # 0.29 * 100 = 28.999999999999996


def test_feedback_rules() -> None:
    log = raw_log([("u", "a", 1)] * 4, rating=[3.9, 4.0, None, 5.0]).interactions
    item = np.array([0, 1, 2, 3])
    counts = np.array([1, 2, 4, 9])  # median 3
    assert feedback(Feedback(rule="any"), log, item, counts).tolist() == [1, 1, 1, 1]
    at_least = Feedback(rule="at_least", column="rating", threshold=4.0)
    assert feedback(at_least, log, item, counts).tolist() == [0, 1, 0, 1]
    assert feedback(Feedback(rule="tail"), log, item, counts).tolist() == [1, 1, 0, 0]
    assert feedback(Feedback(rule="tail"), log, item, np.array([1, 2, 2, 9])).tolist() == [1, 1, 1, 0]  # ties in
    for column in ("stars", "user_id"):
        with pytest.raises(InputError, match=rf"feedback.like.column: .* '{column}'; it has: timestamp, rating"):
            feedback(Feedback(rule="at_least", column=column, threshold=4), log, item, counts, "like")


def test_objective_may_not_take_the_name_of_a_column() -> None:
    with pytest.raises(InputError, match=r"feedback\.split: the name is a column"):
        cut(raw_log([("u", "a", 1)]), corpus(feedback={"split": {"rule": "any"}}, objectives={"split": 1.0}))


def test_category_levels() -> None:
    paths = [["root", "x", "deep"], ["root"], [], ["x", "x", ""]]
    assert at_level(paths, None) == [["root", "x", "deep"], ["root"], [], ["x"]]
    assert at_level(paths, 2) == [["x"], [], [], ["x"]]


# --- Your own data -------------------------------------------------------------------------------------------------


def write(folder: Path, **changes: pd.DataFrame | None) -> Path:
    """A sound folder, but for the tables given."""
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


def fault(folder: Path, **changes: pd.DataFrame | None) -> str:
    with pytest.raises(InputError) as caught:
        local.read(write(folder, **changes))
    return str(caught.value)


def test_local_by_hand(tmp_path: Path) -> None:
    users = pd.DataFrame({"user_id": [9, 7, 8], "age": [30, 40, 50]})
    raw = local.read(write(tmp_path, users=users))
    assert raw.items.to_dict("list") == {
        "item_id": ["1", "2"],
        "title": ["Red lipstick", ""],
        "text": ["Red lipstick. Acme. Beauty, Lips", ""],
        "categories": [["Beauty", "Lips"], []],
    }
    assert raw.users.to_dict("list") == {"user_id": ["9", "7", "8"], "age": ["30", "40", "50"]}
    assert list(raw.interactions.columns) == ["user_id", "item_id", "timestamp", "position", "stars"]  # no text column
    found = cut(
        raw, corpus(feedback={"like": {"rule": "at_least", "column": "stars", "threshold": 3}}, objectives={"like": 1})
    )
    assert found.interactions["item"].to_pylist() == [0, 1, 0]  # user 9, then user 7 by position
    assert found.interactions["like"].to_pylist() == [1, 0, 1]
    assert found.interactions["timestamp"].to_pylist() == [None] * 3
    assert found.dropped["users: no interaction"] == 1


def test_local_reads_dates_and_string_categories(tmp_path: Path) -> None:
    log = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": pd.to_datetime(["1970-01-02T00:00:01.5"])})
    items = pd.DataFrame({"item_id": ["a"], "title": ["A"], "categories": pd.Categorical(["Lips"])})
    raw = local.read(write(tmp_path, interactions=log, items=items))
    assert raw.interactions["timestamp"].tolist() == [86_401]
    assert raw.items["text"].tolist() == ["A. Lips"]


LOG = pd.DataFrame({"user_id": [7, 7, 9], "item_id": [1, 2, 1], "position": [1, 0, 0]})
ITEMS = pd.DataFrame({"item_id": [1, 2], "title": ["A", "B"]})
FAULTS: dict[str, tuple[dict[str, pd.DataFrame], str]] = {
    "missing id": (
        {"interactions": LOG.drop(columns="user_id")},
        "column 'user_id' is missing; the columns are: item_id",
    ),
    "missing title": ({"items": ITEMS.drop(columns="title")}, "items.parquet: column 'title' is missing"),
    "no order": ({"interactions": LOG.drop(columns="position")}, "needs 'position' or 'timestamp'"),
    "empty order": (
        {"interactions": LOG.assign(position=[1, None, 0])},
        "position is empty and gives the order: 1 row",
    ),
    "fraction": ({"interactions": LOG.assign(position=[0.5, 1, 2])}, "'position' (double) has to hold whole numbers"),
    "order type": ({"interactions": LOG.assign(position=["1", "2", "3"])}, "has to hold whole numbers"),
    "position twice": (
        {"interactions": LOG.assign(position=0)},
        "a user has the position before: 1 row(s), first 1 (0)",
    ),
    "duplicate item": ({"items": ITEMS.assign(item_id=[1, 1])}, "item_id stands there twice: 1 row(s), first 1 ('1')"),
    "unknown item": (
        {"interactions": LOG.assign(item_id=[1, 5, 6])},
        "does not have: 2 row(s), first 1 ('5'), 2 ('6')",
    ),
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
def test_local_faults(name: str, tmp_path: Path) -> None:
    changes, message = FAULTS[name]
    assert message in fault(tmp_path / "raw", **changes)


def test_local_lists_every_fault_at_once(tmp_path: Path) -> None:
    message = fault(tmp_path, interactions=LOG.assign(item_id=[1, 5, 6]), items=ITEMS.assign(title=[1, 2]))
    assert "2 fault(s)" in message
    assert "does not have" in message
    assert "'title' is int64" in message


def test_corrupt_parquet(tmp_path: Path) -> None:
    path = write(tmp_path) / "items.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"items\.parquet: not a readable parquet file"):
        local.read(tmp_path)


def test_local_download(tmp_path: Path) -> None:
    def refused(path: Path | None) -> str:
        into = tmp_path / "refused"
        with pytest.raises(InputError) as caught, fresh_folder(into) as scratch:
            local.download(corpus(path=None if path is None else str(path)), scratch)
        assert list(tmp_path.glob("*refused*")) == []
        return str(caught.value)

    assert "needs a path" in refused(None)
    assert "no such folder" in refused(tmp_path / "nowhere")
    (tmp_path / "half").mkdir()
    assert "no interactions.parquet and no items.parquet" in refused(tmp_path / "half")
    source = write(tmp_path / "own")
    (source / "secret.txt").write_text("stays")
    with fresh_folder(tmp_path / "raw") as scratch:
        local.download(corpus(path=str(source)), scratch)
    assert sorted(file.name for file in (tmp_path / "raw").iterdir()) == ["interactions.parquet", "items.parquet"]


# --- MovieLens and Beauty ------------------------------------------------------------------------------------------


def movielens_files(folder: Path) -> Path:
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t20\n1\t1\t5\t10\n"
    )
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's\n2\tunkonwn\tunkonwn\tunknown\n3\tLand III (1995)\tV\tDrama\n"
    )
    (folder / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\twriter\t01234\n"
    )
    return folder


def test_movielens_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens, "COUNTS", {"users": 1, "items": 3, "interactions": 2})
    raw = movielens.read(movielens_files(tmp_path))
    assert raw.items["text"].tolist() == ["Toy Story (1995). Animation, Children's", "", "Land III (1995). Drama"]
    assert raw.items["categories"].tolist() == [["Animation", "Children's"], [], ["Drama"]]
    assert raw.users.to_dict("list") == {"user_id": ["1"], "age": ["24"], "gender": ["M"], "occupation": ["writer"]}
    found = cut(raw, corpus())
    assert found.interactions["timestamp"].to_pylist() == [10, 20]


def test_movielens_counts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 users, -942; 3 items, -1,679; 2 interactions, -99,998"):
        movielens.read(movielens_files(tmp_path))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b""), "not a readable atomic file"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not a readable atomic file"),
        (lambda path: path.write_text(path.read_text().replace("rating:", "stars:")), "no column rating"),
        (lambda path: path.write_text(path.read_text().replace("\t20\n", "\n")), "line 2 lacks a field"),
        (lambda path: path.write_text(path.read_text().replace("1\t2\t", "1\t9\t")), "item_id '9' is in no other file"),
        (lambda path: path.write_text(path.read_text().replace("\t20\n", "\tnoon\n")), "is no number"),
    ],
)
def test_movielens_faults(
    damage: Callable[[Path], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movielens, "COUNTS", {"users": 1, "items": 3, "interactions": 2})
    damage(movielens_files(tmp_path) / "ml-100k.inter")
    with pytest.raises(InputError, match=message):
        movielens.read(tmp_path)


def test_counts_and_bytes_repeat(tmp_path: Path) -> None:
    rows: list[Row] = [("u", "a", 1), ("u", "a", 1), ("u", "b", 1), ("u", "c", 2), ("v", "b", 3), ("w", "d", 1)]
    files = []
    for attempt in ("first", "second"):
        found = cut(raw_log(rows), corpus(tie_order="shuffle"))
        for name in ("items", "users", "interactions"):
            write_table(tmp_path / attempt / f"{name}.parquet", getattr(found, name))
        files.append([path.read_bytes() for path in sorted((tmp_path / attempt).iterdir())])
    assert files[0] == files[1]
    counted = prepare.counts(found)
    assert counted["again"] == [["interactions", 1]]
    assert counted["splits"] == [["train", 4], ["valid", 1], ["test", 1]]
    assert counted["dropped_items"] == 4
    assert counted["items_without"] == [["title", 0], ["text", 0], ["category", 0]]
    scalars = sum(
        len(value) if isinstance(value, dict) else 1 for value in counted.values() if not isinstance(value, list)
    )
    assert scalars <= 12
    assert pq.read_schema(tmp_path / "first" / "interactions.parquet").metadata is None


def test_stages_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write(tmp_path / "own")
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path / "repo")
    chosen = SimpleNamespace(corpus=lambda dataset: corpus(path=str(own)), encoders={"minilm": None})
    monkeypatch.setattr(params, "load", lambda: chosen)
    download.main("mine")
    prepare.main("mine")
    histories = load(Path("data/mine/corpus"))
    assert (histories.user_count, histories.item_count) == (2, 2)
    assert histories.train(0).tolist() == [1, 0]
    assert Path("metrics/mine/prepare.json").is_file()
    (own / "items.parquet").write_bytes(b"broken")
    download.main("mine")
    with pytest.raises(InputError, match="not a readable parquet"):
        prepare.main("mine")
    assert load(Path("data/mine/corpus")).item_count == 2  # what was whole stays
    with pytest.raises(InputError, match=r"--encoder: 'huge' is none of the keys of encoders: minilm"):
        download_encoder.main("huge")
    assert not Path("models").exists()


def test_tie_groups_number_the_runs_of_one_timestamp() -> None:
    """User 0: two at 5, one at 9, one of unknown time, one at 0; user 1: one at 9 and one at 5."""
    user, stamp = np.array([0, 0, 0, 0, 0, 1, 1]), pa.chunked_array([[5, 5, 9, None, 0, 9, 5]])
    assert tie_groups(user, stamp).tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert tie_groups(user[:0], stamp[:0]).tolist() == []


@pytest.mark.skipif(not BEAUTY.is_dir(), reason="the Beauty set is not at ../shared/data/beauty")
def test_beauty_counts_are_the_published_ones() -> None:
    raw = local.read(BEAUTY)
    for ties, cold in {"include": (1_478, 3_141), "exclude": (560, 1_638), "exact": (605, 1_741)}.items():
        counted = prepare.counts(cut(raw, corpus(k_core=5, category_level=2, cold_ties=ties)))
        assert (counted["users"], counted["items"], counted["interactions"]) == (22_363, 12_101, 198_502)
        assert counted["categories"] == 6
        assert (counted["cold_items"], counted["cold_test_targets"]) == cold
        assert not any(counted[f"dropped_{kind}"] for kind in ("users", "items", "interactions"))
