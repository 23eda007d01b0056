"""Sources and the cut: numbers worked out by hand, properties of the split, and each fault by its message."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import download, download_encoder, prepare
from stages.core import params
from stages.core.corpora import Feedback
from stages.core.errors import InputError
from stages.corpus import cut as cutting
from stages.corpus import histories, local, movielens, numbering, ordering
from stages.corpus.cut import cold_items, cut, leave_one_out
from stages.corpus.histories import load, tie_groups
from stages.corpus.item_text import at_level
from stages.corpus.numbering import carries
from stages.corpus.ordering import _by_key, core
from stages.corpus.writing import Described, write_corpus
from tests.small_corpus import Row, corpus, raw_log, write

BEAUTY = Path(__file__).parents[2] / "shared" / "data" / "beauty"


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
    (items,), (interactions,) = found.items(), found.interactions()
    assert items["item_id"].to_pylist() == ["a", "c"]
    assert found.users().to_pydict() == {"user": [0, 1], "user_id": ["x", "u"], "age": ["7", "7"]}
    assert interactions.to_pydict() == {
        "user": [0, 0, 0, 1, 1],
        "item": [0, 0, 1, 1, 0],
        "position": [0, 1, 2, 0, 1],
        "timestamp": [10, 20, 30, 5, 6],
        "split": ["train", "valid", "test", "train", "train"],
        "click": [1, 1, 1, 1, 1],
    }
    assert items["train_count"].to_pylist() == [2, 1]
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
    assert leave_one_out(np.array([length])).tolist() == split


def test_order_of_keys_of_any_size() -> None:
    """Of a day's nanoseconds 64 bits hold those of all owners, of a century's not: both give the order of lexsort."""
    draw = np.random.default_rng(1)
    for span in (10**14, 3 * 10**18):
        owner = np.sort(draw.integers(9, size=300))
        key = draw.integers(-span, span, size=300) // (span // 40)
        wide = key * (span // 40)
        assert np.array_equal(_by_key(owner - owner[0], wide), np.lexsort((key, owner)))


def test_more_objectives_than_bits() -> None:
    rows: list[Row] = [("u", item, time) for time, item in enumerate("abc")]
    names = [f"goal{number}" for number in range(65)]
    columns = {name: [number >> place & 1 for place in range(3)] for number, name in enumerate(names)}
    rules = {name: {"rule": "flag"} for name in names}
    with pytest.raises(InputError, match="65 objectives read a column of the log; at most 64"):
        cut(raw_log(rows, **columns), corpus(feedback=rules, objectives={"goal0": 1.0}))
    found = cut(raw_log(rows, **columns), corpus(feedback=dict(list(rules.items())[:64]), objectives={"goal0": 1.0}))
    assert all(found.carried(name, 0, 3).tolist() == columns[name] for name in names[:64])


LOGS = st.lists(st.tuples(st.sampled_from("uvwx"), st.sampled_from("abcde"), st.integers(0, 5)), min_size=1)


@given(LOGS, st.data())
@settings(max_examples=200, deadline=None)
def test_split_property(rows: list[Row], data: st.DataObject) -> None:
    """Whatever the log and the rules: nothing held out is trained on, the order is kept, everything is counted."""
    rules = corpus(
        k_core=data.draw(st.integers(1, 3)),
        tie_order=data.draw(st.sampled_from(["file", "shuffle"])),
        repeats=data.draw(st.sampled_from(["keep", "first"])),
        max_history=data.draw(st.sampled_from([None, 3, 4])),
    )
    raw = raw_log(rows, users=data.draw(st.sampled_from(["uvwxyz", None])))
    size, listed = data.draw(st.sampled_from([2, 1 << 20])), data.draw(st.booleans())
    batches = [batch.slice(start, size) for batch in raw.batches for start in range(0, batch.num_rows, size)]
    raw = dataclasses.replace(raw, batches=batches, item_ids=raw.item_ids if listed else None)
    with pytest.MonkeyPatch.context() as patch:  # blocks of one user, tables of two rows: nothing depends on them
        patch.setattr(numbering, "WAITING", data.draw(st.sampled_from([0, 1 << 20])))
        patch.setattr(ordering, "BLOCK", data.draw(st.sampled_from([1, 1 << 21])))
        patch.setattr(cutting, "ROWS", data.draw(st.sampled_from([2, 1 << 20])))
        try:
            found = cut(raw, rules)
        except InputError as error:
            assert "leaves none" in str(error)  # noqa: PT017 - most logs leave something
            return
        items, users = pa.concat_tables(found.items()), found.users()
        log = pa.concat_tables(found.interactions()).to_pandas()
    dropped = {kind: sum(n for why, n in found.dropped.items() if why.startswith(kind)) for kind in ("users", "items")}
    assert len(log) + sum(n for why, n in found.dropped.items() if why.startswith("interactions")) == len(rows)
    assert items.num_rows + dropped["items"] == (8 if listed else len({item for _, item, _ in rows}))
    known = 6 if raw.users is not None else len({user for user, *_ in rows})
    assert users.num_rows + dropped["users"] == known
    names = {"user": users["user_id"].to_pylist(), "item": items["item_id"].to_pylist()}
    kept = log.assign(**{key: [names[key][number] for number in log[key]] for key in names})
    assert min(kept["user"].value_counts().min(), kept["item"].value_counts().min()) >= rules.k_core
    for user, own in kept.groupby("user"):
        assert own["position"].tolist() == list(range(len(own)))
        assert own["timestamp"].is_monotonic_increasing
        held_out = ["valid", "test"] if len(own) >= 3 else []
        assert own["split"].tolist() == ["train"] * (len(own) - len(held_out)) + held_out
        assert rules.max_history is None or len(own) <= rules.max_history
        if rules.repeats == "first":
            trained = set(own["item"][own["split"] == "train"])
            assert not trained & set(own["item"][own["split"] != "train"])
            assert own["item"].is_unique
        given_log = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        mine = [(row[1], row[2]) for row in given_log]
        if rules.tie_order == "file":
            if rules.repeats == "first":
                first: dict[str, int] = {}
                for item, stamp in mine:
                    first.setdefault(item, stamp)
                mine = list(first.items())
            mine = mine[-rules.max_history :] if rules.max_history else mine
            mine = [pair for pair in mine if pair[0] in names["item"]]
            assert list(zip(own["item"], own["timestamp"], strict=True)) == mine
        else:
            assert not set(zip(own["item"], own["timestamp"], strict=True)) - set(mine)


def test_repeats_and_long_histories_are_cut_by_rule() -> None:
    """User u: a b a c a d by time; the first of each item is a b c d, the last three of these b c d."""
    rows: list[Row] = [("u", item, time) for time, item in enumerate("abacad")] + [("v", "b", 0)]
    found = cut(raw_log(rows), corpus(repeats="first", max_history=3))
    (log,) = found.interactions()
    assert log["item"].to_pylist() == [0, 1, 2, 0]  # b c d, and v's b
    assert log["timestamp"].to_pylist() == [1, 3, 5, 0]
    assert log["split"].to_pylist() == ["train", "valid", "test", "train"]
    assert {why: count for why, count in found.dropped.items() if why.startswith("interactions")} == {
        "interactions: an item that the user had before": 2,
        "interactions: before the last max_history": 1,
        "interactions: below k_core": 0,
    }


def ordered(rows: list[Row], tie_order: str, **columns: list[int]) -> list[int]:
    """Rows of a log in the order that the corpus gives them."""
    return cut(raw_log(rows, **columns), corpus(tie_order=tie_order)).rows.tolist()


def test_shuffle_moves_ties_only() -> None:
    times = [1] * 20 + [2] * 20 + [None] * 3 + [3] * 20
    log: list[Row] = [("u", "a", time) for time in times]
    rows = ordered(log, "shuffle", position=list(range(63)))
    assert ordered(log, "file", position=list(range(63))) == list(range(63))
    assert rows[40:43] == [40, 41, 42]  # unknown times tie with none
    for start in (0, 20, 43):
        block = rows[start : start + 20]
        assert sorted(block) == list(range(start, start + 20))
        assert block != sorted(block)
    assert ordered(log, "shuffle", position=list(range(63))) == rows


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


def feedback(rule: dict[str, object], counts: list[int]) -> list[int]:
    """R_like of one interaction with each of four items that have these training counts, ratings 3.9, 4, none, 5."""
    rows: list[Row] = [("w", "a", 0), ("w", "b", 1), ("x", "c", 0), ("x", "d", 1)]  # two each: wholly train
    ratings: list[float | None] = [3.9, 4.0, None, 5.0]
    for item, count in zip("abcd", counts, strict=True):
        rows += [(f"{item}{number}", item, 0) for number in range(count - 1)]
        ratings += [0.0] * (count - 1)
    raw = raw_log(rows, users=None, rating=ratings, liked=[rating == 4.0 for rating in ratings])
    chosen = corpus(feedback={"liked": rule}, objectives={"liked": 1.0})
    (log,) = cut(raw, chosen).interactions()
    return log["liked"].to_pylist()[:4]


def test_feedback_rules() -> None:
    assert feedback({"rule": "any"}, [1, 2, 4, 9]) == [1, 1, 1, 1]
    assert feedback({"rule": "at_least", "column": "rating", "threshold": 4.0}, [1, 2, 4, 9]) == [0, 1, 0, 1]
    assert feedback({"rule": "tail"}, [1, 2, 4, 9]) == [1, 1, 0, 0]  # median 3
    assert feedback({"rule": "tail"}, [1, 2, 2, 9]) == [1, 1, 1, 0]  # ties in
    assert feedback({"rule": "flag"}, [1, 2, 4, 9]) == [0, 1, 0, 0]
    for column in ("stars", "user_id"):
        with pytest.raises(
            InputError, match=rf"feedback.liked.column: .* '{column}'; it has: timestamp, rating, liked"
        ):
            feedback({"rule": "at_least", "column": column, "threshold": 4}, [1, 1, 1, 1])
    with pytest.raises(InputError, match=r"feedback\.stars: the log has no numeric column 'stars'"):
        cut(raw_log([("u", "a", 1)]), corpus(feedback={"stars": {"rule": "flag"}}, objectives={"stars": 1.0}))


def test_flags_and_thresholds_by_column() -> None:
    flag, least = Feedback(rule="flag"), Feedback(rule="at_least", column="x", threshold=2)
    for column, true, above in (
        ([0, 1, 2, None], [0, 1, 1, 0], [0, 0, 1, 0]),
        ([0.0, -1.0, 2.5, float("nan")], [0, 1, 1, 0], [0, 0, 1, 0]),
        ([True, False, None, True], [1, 0, 0, 1], [0, 0, 0, 0]),
    ):
        assert carries(flag, pa.chunked_array([column])).tolist() == true
        assert carries(least, pa.chunked_array([column])).tolist() == above


def test_objective_may_not_take_the_name_of_a_column() -> None:
    with pytest.raises(InputError, match=r"feedback\.split: the name is a column"):
        cut(raw_log([("u", "a", 1)]), corpus(feedback={"split": {"rule": "any"}}, objectives={"split": 1.0}))


def test_category_levels() -> None:
    several = [["root", "x"], ["root", "y", "x"], ["other", "x"]]
    paths = pa.array([[["root", "x", "deep"]], [["root"]], [], [["x", "x", ""]], several, [["", ""]]])
    assert at_level(paths, None).to_pylist() == [
        ["root", "x", "deep"],
        ["root"],
        [],
        ["x"],
        ["root", "x", "y", "other"],
        [],
    ]
    assert at_level(paths, 2).to_pylist() == [["x"], [], [], ["x"], ["x", "y"], []]
    assert at_level(paths.slice(1, 3), 2).to_pylist() == [[], [], ["x"]]


def test_a_log_of_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns that are mapped into memory are those of the table, and the table's bytes those of one write."""
    draw = np.random.default_rng(1)
    rows: list[Row] = [(draw.choice(list("uvwx")), draw.choice(list("abcd")), int(draw.integers(4))) for _ in range(99)]
    rules = corpus(feedback={"click": {"rule": "any"}, "tail_click": {"rule": "tail"}})
    for name, size in (("one", 1 << 20), ("many", 7)):
        monkeypatch.setattr(cutting, "ROWS", size)
        (tmp_path / name).mkdir()
        write_corpus(cut(raw_log(rows), rules), tmp_path / name)
    assert not (tmp_path / "one" / histories.COLUMNS).exists()
    file = pq.ParquetFile(tmp_path / "many" / "interactions.parquet")
    assert file.num_row_groups == 15
    pq.write_table(file.read(), tmp_path / "whole.parquet", compression="zstd", row_group_size=7)
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "many" / "interactions.parquet").read_bytes()
    one, many = load(tmp_path / "one"), load(tmp_path / "many")
    for key in ("item", "tie", "offsets", "train_length", "valid", "test"):
        assert np.array_equal(getattr(one, key), getattr(many, key)), key
        assert getattr(one, key).dtype == getattr(many, key).dtype
    assert list(one.feedback) == list(many.feedback)
    assert all(np.array_equal(one.feedback[name], many.feedback[name]) for name in one.feedback)
    assert one.items.equals(many.items)
    assert not many.item.flags.owndata
    assert not many.item.flags.writeable


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
    raw = movielens.read(movielens_files(tmp_path), corpus())
    (films,) = raw.describe(np.arange(3), raw.item_ids)
    assert films["text"].to_pylist() == ["Toy Story (1995). Animation, Children's", "", "Land III (1995). Drama"]
    assert films["categories"].to_pylist() == [[["Animation", "Children's"]], [[]], [["Drama"]]]
    assert raw.users.to_pydict() == {"user_id": ["1"], "age": ["24"], "gender": ["M"], "occupation": ["writer"]}
    (log,) = cut(raw, corpus()).interactions()
    assert log["timestamp"].to_pylist() == [10, 20]


def test_movielens_counts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 users, -942; 3 items, -1,679; 2 interactions, -99,998"):
        movielens.read(movielens_files(tmp_path), corpus())


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
        movielens.read(tmp_path, corpus())


def test_counts_and_bytes_repeat(tmp_path: Path) -> None:
    rows: list[Row] = [("u", "a", 1), ("u", "a", 1), ("u", "b", 1), ("u", "c", 2), ("v", "b", 3), ("w", "d", 1)]
    files = []
    for attempt in ("first", "second"):
        found = cut(raw_log(rows), corpus(tie_order="shuffle"))
        (tmp_path / attempt).mkdir()
        described = write_corpus(found, tmp_path / attempt)
        files.append([path.read_bytes() for path in sorted((tmp_path / attempt).iterdir())])
    assert files[0] == files[1]
    counted = prepare.counts(found) | described.counts()
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
    monkeypatch.setattr(prepare, "provenance", lambda *cell: [])  # there is no graph here
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
    for ties, cold in {"include": (1_478, 3_141), "exclude": (560, 1_638), "exact": (605, 1_741)}.items():
        rules = corpus(k_core=5, category_level=2, cold_ties=ties)
        found = cut(local.read(BEAUTY, rules), rules)
        described = Described()
        assert sum(piece.num_rows for piece in described.watch(found.items())) == 12_101
        counted = prepare.counts(found) | described.counts()
        assert (counted["users"], counted["items"], counted["interactions"]) == (22_363, 12_101, 198_502)
        assert counted["categories"] == 6
        assert (counted["cold_items"], counted["cold_test_targets"]) == cold
        assert not any(counted[f"dropped_{kind}"] for kind in ("users", "items", "interactions"))
