"""RecIF's files: what is read of them, each quirk, each error. None of the published data is here."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import recif_log
from stages import prepare
from stages.core.errors import InputError
from stages.corpus import recif, recif_captions, recif_counts, recif_files, recif_fixture
from stages.corpus.cut import cut
from stages.corpus.histories import load
from stages.corpus.recif_files import CAPTIONS, PHOTO_COUNTS, PHOTO_SIDS, PRODUCT_SIDS, RELEASE, TESTS
from stages.corpus.recif_parts import BEHAVIOURS
from stages.corpus.tasks import tasks_of
from stages.corpus.writing import write_corpus
from tests import hub_server, small_recif
from tests.small_recif import FLOATS, USERS, settings, sid, user

Found = tuple[Path, dict[str, Any]]


def made(raw: Path, **own: Any) -> Found:
    """The corpus of a folder, and what prepare.json would hold."""
    corpus = cut(recif.read(raw, settings(**own)), settings(**own))
    found, folder = prepare.counts(corpus), raw.parent / "corpus"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    described = write_corpus(corpus, folder)
    return folder, found | prepare.accompanied(corpus, folder) | described.counts()


def dropped(found: dict[str, Any], reason: str) -> int:
    return dict(found["dropped"])[f"interactions: {reason}"]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return small_recif.write(tmp_path / "raw")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    """A hub on loopback; the client's cache is the test's."""
    monkeypatch.delenv("RECIF_DIR", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server.serve() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        yield served


# --- What is read --------------------------------------------------------------------------------------------------


def test_logs_are_in_order_and_split_by_user(raw: Path) -> None:
    """User 900 is learnt from: domain by domain, the last video is valid. 901 is held out: what is known, then targets,
    videos first, the first of them being test.
    """
    folder, _ = made(raw)
    log = pd.read_parquet(folder / "interactions.parquet")
    names = pd.read_parquet(folder / "items.parquet")["item_id"]
    told = [
        [(names[item].replace("photo ", "p").replace("product ", "g"), split) for item, split in own.to_numpy()]
        for _, own in log.groupby("user")[["item", "split"]]
    ]
    train = [(name, "train") for name in ("p14", "p14", "g22", "g11", "p11", "p12")]
    assert told[0] == [*train, ("p13", "valid")]
    known = [(name, "known") for name in ("p14", "g11", "p13")]
    assert told[1] == [*known, ("p12", "test"), ("p11", "later"), ("g22", "later"), ("p15", "later")]
    assert log["like"].tolist() == [0] * 5 + [1] + [0] * 8
    assert log["longview"].tolist() == [0] * 6 + [1] + [0] * 7
    assert log["not_interested"].tolist() == [0] * 11 + [1, 0, 0]


def test_nothing_is_learnt_from_users_that_are_held_out(raw: Path) -> None:
    folder, _ = made(raw)
    histories = load(folder)
    assert [histories.train(user).tolist() for user in range(2)] == [[3, 3, 6, 5, 0, 1], []]
    assert histories.train_count.tolist() == [1, 1, 0, 2, 0, 1, 1]
    assert histories.context(1, "test").tolist() == [3, 5, 2]
    assert (histories.test.tolist(), histories.valid.tolist()) == ([-1, 1], [2, -1])
    assert histories.contexts(np.array([1]), "test").tolist() == [[1, 3]]


def test_items_have_captions_prefixes_and_published_ids(raw: Path) -> None:
    folder, found = made(raw)
    items, sids = (pd.read_parquet(folder / f"{name}.parquet") for name in ("items", "sids"))
    assert items["text"].tolist() == ["two dogs", "", "a cat in the snow", "", "", "", ""]
    assert items["title"].tolist() == ["two dogs", "", "a cat in", "", "", "", ""]
    assert [own[0] for own in items["categories"]] == ["sid 0"] * 3 + ["sid 5", "sid 8191", "sid 7", "sid 0"]
    assert sids[["code_0", "code_1", "code_2"]].to_numpy().tolist() == [
        *small_recif.PHOTOS.values(),
        *small_recif.PRODUCTS.values(),
    ]
    assert sids["kind"].tolist() == [0] * 5 + [1] * 2
    # 12 is seen more often than 11, which has the same Semantic ID; 14 and 15 are not among the counts
    assert sids["stands"].tolist() == [False, True, True, False, False, True, True]
    assert dict(found["beside"])["captions: empty"] == 1
    assert dict(found["beside"])["captions: of no item that is kept"] == 1
    parts = pd.read_parquet(folder / "domains.parquet")
    assert parts.drop(columns="user").to_numpy().tolist() == [
        [False, 1, 1, 1, 1, 2, 1, True, True],
        [True, 1, 1, 1, 1, 1, 2, True, True],
    ]


def test_tasks_keep_prompts_and_answers(raw: Path) -> None:
    folder, found = made(raw)
    video = pd.read_parquet(folder / "tasks/video.parquet").iloc[0]
    assert json.loads(video["messages"]) == json.loads(small_recif.row_of("video")["messages"])
    assert video["shown"].tolist() == [5 * 8192**2 + 2 * 8192 + 3]
    assert (video["answer"].tolist(), video["answer_item"].tolist()) == ([1, 2 * 8192 + 3], [1, 2])
    product = pd.read_parquet(folder / "tasks/product.parquet").iloc[0]
    assert product["answer_item"].tolist() == [5]  # the product 11, not the photo
    assert pd.read_parquet(folder / "tasks/label_cond.parquet")["condition"][0] == "longview"  # named last
    assert pd.read_parquet(folder / "tasks/interactive.parquet")["condition"][0] == "snow"
    label = pd.read_parquet(folder / "tasks/label_pred.parquet").iloc[0]
    assert (label["candidate"], label["label"]) == (1, True)
    assert {task: dict(counts)["kept"] for task, *counts in found["tasks"]} == dict.fromkeys(TESTS, 1)


def test_captions_of_many_shares_are_told_in_order(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = made(raw)
    before = (folder / "items.parquet").read_bytes()
    monkeypatch.setattr(recif_captions, "SHARE", 2)
    folder, _ = made(raw)
    assert (folder / "items.parquet").read_bytes() == before


def test_counts_are_read_as_a_stream(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = made(raw)
    before = (folder / "sids.parquet").read_bytes()
    monkeypatch.setattr(recif_counts, "CHUNK", 7)
    monkeypatch.setattr(recif_counts, "BLOCK", 1)
    folder, _ = made(raw)
    assert (folder / "sids.parquet").read_bytes() == before


def test_equal_counts_are_drawn_by_a_fixed_seed(raw: Path) -> None:
    """Both of two items are taken for some Semantic ID, and the same ones again."""
    many = {pid: [pid // 2, 0, 0] for pid in range(100, 140)}
    pq.write_table(
        pa.table({"pid": list(many), "sid": pa.array(list(many.values()), small_recif.INTS)}), raw / PHOTO_SIDS
    )
    known = recif.catalogue(raw, recif.Faults(raw), {})
    entries = {
        str(code * 8192**2): [{"pid": pid, "count_after_downsample": 4} for pid in (2 * code, 2 * code + 1)]
        for code in range(50, 70)
    }
    (raw / PHOTO_COUNTS).write_text(json.dumps(entries))
    drawn = [recif_counts.chosen(raw / PHOTO_COUNTS, 0, known, {}).tolist() for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert {row % 2 for row in drawn[0]} == {0, 1}
    assert [row // 2 for row in drawn[0]] == list(range(20))


# --- Quirks: each of these fails without its handling -----------------------------------------------------------------


def test_padding_of_floating_point_lists_is_left_out(tmp_path: Path) -> None:
    nan = float("nan")
    people = [{**USERS[0], "hist_ad_pid": [14.0, nan, nan], "hist_goods_pid": [nan]}, USERS[1]]
    kinds = {"hist_ad_pid": FLOATS, "hist_goods_pid": FLOATS}
    folder, found = made(small_recif.write(tmp_path / "raw", people, kinds))
    assert dropped(found, "padding") == 3
    assert load(folder).train(0).tolist() == [3, 3, 5, 0, 1]
    assert dict(found["lists"])["lists: hist_ad_pid of floating-point numbers"] == 2


def test_null_lists_are_empty_and_null_behaviours_are_none(tmp_path: Path) -> None:
    people = [{**USERS[0], "hist_ad_pid": None, "hist_video_like": None, "target_video_longview": [None]}, USERS[1]]
    folder, found = made(small_recif.write(tmp_path / "raw", people))
    assert load(folder).train(0).tolist() == [3, 6, 5, 0, 1]
    log = pd.read_parquet(folder / "interactions.parquet")
    assert not log["like"].any()
    assert not log["longview"].any()
    lists = dict(found["lists"])
    assert (lists["lists: hist_ad_pid is null"], lists["lists: hist_video_like is null beside videos"]) == (1, 1)


def test_videos_of_unknown_behaviours_are_told(tmp_path: Path) -> None:
    """A null list of longviews, or a null in it, leaves the part's longviews unknown; one of another behaviour and no
    videos do not. What stands before a part in the log is its own.
    """
    people = [
        {**USERS[0], "hist_video_longview": None, "target_video_like": None},
        {**USERS[1], "target_video_longview": [1, None], "hist_video_forward": [0]},
        user(902, 0, hist_ad=[14], hist_video=None, hist_video_longview=None),
    ]
    folder, found = made(small_recif.write(tmp_path / "raw", people))
    told = pd.read_parquet(folder / "domains.parquet")[["hist_video_known", "target_video_known"]]
    assert told.to_numpy().tolist() == [[False, True], [True, False], [True, True]]
    assert dict(found["lists"])["lists: target_video_longview holds nulls"] == 1
    tasks = tasks_of(folder)
    assert tasks is not None
    # ads, products, the history's two videos, the target's | one of each, two targets, product and ad behind | one ad
    assert tasks.longviews_known().tolist() == [
        *[True] * 4,
        False,
        False,
        True,
        *[True] * 3,
        False,
        False,
        *[True] * 3,
    ]


def test_pids_without_a_sign_are_read(tmp_path: Path) -> None:
    """With a null among them."""
    people = [{**USERS[0], "hist_video_pid": [11, None]}, USERS[1]]
    signed = load(made(small_recif.write(tmp_path / "signed", people))[0]).train(0).tolist()
    raw = small_recif.write(tmp_path / "unsigned", people, {"hist_video_pid": pa.list_(pa.uint64())})
    assert load(made(raw)[0]).train(0).tolist() == signed


def test_a_column_of_nulls_alone_is_read(tmp_path: Path) -> None:
    people = [{**row, "target_ad_pid": None} for row in USERS]
    folder, _ = made(small_recif.write(tmp_path / "raw", people, {"target_ad_pid": pa.null()}))
    items = pd.read_parquet(folder / "items.parquet")["item_id"]
    assert [items[item] for item in load(folder).train(0)] == [
        "photo 14",
        "product 22",
        "product 11",
        "photo 11",
        "photo 12",
    ]


def test_items_without_a_semantic_id_are_left_out_with_their_behaviours(tmp_path: Path) -> None:
    people = [user(900, 0, hist_video=[77, 11, 13], hist_video_like=[0, 1, 0], hist_goods=[14]), USERS[1]]
    folder, found = made(small_recif.write(tmp_path / "raw", people))
    assert dropped(found, "video without a Semantic ID") == 1
    assert dropped(found, "product without a Semantic ID") == 1  # 14 is a photo
    log = pd.read_parquet(folder / "interactions.parquet")
    assert log[log["user"] == 0]["like"].tolist() == [1, 0]


@pytest.mark.parametrize("form", ["string", "list", "texts", "list of texts"])
def test_messages_of_every_form_are_the_same(raw: Path, form: str) -> None:
    row = small_recif.row_of("video")
    turns = json.loads(row["messages"])
    if "texts" in form:
        half = len(turns[0]["content"]) // 2
        turns[0]["content"] = [
            {"type": "text", "text": part} for part in (turns[0]["content"][:half], turns[0]["content"][half:])
        ]
    small_recif.write_test(raw, "video", [row | {"messages": turns if "list" in form else json.dumps(turns)}])
    folder, _ = made(raw)
    kept = pd.read_parquet(folder / "tasks/video.parquet")["messages"][0]
    assert json.loads(kept) == json.loads(row["messages"])


def test_metadata_is_json_or_a_structure(raw: Path) -> None:
    row = small_recif.row_of("ad")
    small_recif.write_test(raw, "ad", [row | {"metadata": json.loads(row["metadata"])}])
    folder, _ = made(raw)
    assert pd.read_parquet(folder / "tasks/ad.parquet")["answer"][0].tolist() == [1, 2 * 8192 + 3]


def test_repeated_ids_of_an_answer_count_once(raw: Path) -> None:
    row = small_recif.row_with(sid(0, 2, 3) + sid(0, 0, 1) + sid(0, 2, 3), answer_pid=[13, 12, 13, 404])
    small_recif.write_test(raw, "video", [row])
    folder, found = made(raw)
    video = pd.read_parquet(folder / "tasks/video.parquet").iloc[0]
    assert (video["answer"].tolist(), video["answer_item"].tolist()) == ([2 * 8192 + 3, 1], [2, 1, -1])
    counts = {task: dict(rest) for task, *rest in found["tasks"]}["video"]
    assert (counts["repeated Semantic IDs in answers"], counts["answer ids unknown"]) == (1, 1)


def test_rows_without_messages_metadata_or_answer_are_left_out_and_counted(raw: Path) -> None:
    row = small_recif.row_of("video")
    nothing = [
        {**row, "messages": None},
        {**row, "messages": "[]"},
        {**row, "metadata": ""},
        {**row, "metadata": '{"answer": ""}'},
    ]
    small_recif.write_test(raw, "video", [*nothing, row])
    folder, found = made(raw)
    counts = {task: dict(rest) for task, *rest in found["tasks"]}["video"]
    assert [counts[f"without {name}"] for name in ("messages", "metadata", "answer")] == [2, 1, 1]
    assert (counts["rows"], counts["kept"]) == (5, 1)
    assert len(pd.read_parquet(folder / "tasks/video.parquet")) == 1


ASKED = [
    ("长播：{sid} 转发：{sid} 请推荐用户会分享的视频", "forward"),
    ("转发：{sid} 请推荐用户会有效观看的视频", "longview"),
    ("不感兴趣：{sid} which one will the user follow?", "follow"),
    ("点赞：{sid} 用户不喜欢的视频", "not_interested"),
    ("请推荐用户会点赞的视频", "like"),  # nothing is shown
    ("点赞：{sid} 转发：{sid} 请推荐视频", ""),  # headings are no question
    ("点赞：{sid}\n不感兴趣：\n请推荐用户会转发的视频", "forward"),  # nor are those of empty lists
    ("点赞：{sid}\n不感兴趣：\n请推荐视频", ""),
    ("点赞：{sid}\n不感兴趣：\n用户会点赞的视频：\n", "like"),
    ("用户会点赞的视频？历史：{sid}", ""),
]


def test_the_behaviour_that_is_asked_for_stands_behind_what_is_shown(raw: Path) -> None:
    """By any of its words; a row without one is counted and has none."""
    rows = [small_recif.row_with(sid(0, 0, 1), said.format(sid=sid(5, 2, 3))) for said, _ in ASKED]
    small_recif.write_test(raw, "label_cond", rows)
    folder, found = made(raw)
    told = pd.read_parquet(folder / "tasks/label_cond.parquet")["condition"].tolist()
    assert told == [condition for _, condition in ASKED]
    counts = {task: dict(rest) for task, *rest in found["tasks"]}["label_cond"]
    asking = {name: counts[f"asking for {name}"] for name in (*BEHAVIOURS, "no behaviour")}
    assert asking == {"longview": 1, "like": 2, "follow": 1, "forward": 2, "not_interested": 1, "no behaviour": 3}


def test_what_is_shown_under_which_heading_is_counted(raw: Path) -> None:
    rows = [small_recif.row_with(sid(0, 0, 1), f"{sid(5, 2, 3)} 点赞：{sid(5, 2, 3)}{sid(5, 2, 3)} 请推荐视频")]
    small_recif.write_test(raw, "label_cond", rows)
    counts = {task: dict(rest) for task, *rest in made(raw)[1]["tasks"]}["label_cond"]
    assert {name: counts[f"shown under {name}"] for name in ("no behaviour", "like", "longview")} == {
        "no behaviour": 1,
        "like": 2,
        "longview": 0,
    }


@pytest.mark.parametrize(
    "broken",
    [{"metadata": '["a"]'}, {"messages": '"said"'}, {"messages": '[{"role": "user", "content": ["a"]}]'}],
    ids=["a list", "a text", "a list of texts"],
)
def test_rows_of_another_form_are_faults(raw: Path, broken: dict[str, str]) -> None:
    small_recif.write_test(raw, "video", [small_recif.row_of("video") | broken])
    assert "video_test.parquet: no row of video" in refusal(raw)


def test_rows_without_a_keyword_are_counted(raw: Path) -> None:
    row = small_recif.row_of("interactive")
    bare = row | {"metadata": json.dumps({"answer": sid(0, 0, 1)})}
    small_recif.write_test(raw, "interactive", [row, bare, bare])
    folder, found = made(raw)
    assert pd.read_parquet(folder / "tasks/interactive.parquet")["condition"].tolist() == ["snow", "", ""]
    counts = {task: dict(rest) for task, *rest in found["tasks"]}["interactive"]
    assert (counts["asking for a keyword"], counts["asking for no keyword"]) == (1, 2)


def test_shown_ids_and_candidates_that_are_no_items_are_counted(raw: Path) -> None:
    """Nobody did anything with photo 16, so the corpus lacks it, and its Semantic ID 9, 9, 9; of 8, 8, 8 no file has
    any.
    """
    table = pq.read_table(raw / PHOTO_SIDS)
    extra = pa.table({"pid": [16], "sid": pa.array([[9, 9, 9]], table["sid"].type)})
    pq.write_table(pa.concat_tables([table, extra]), raw / PHOTO_SIDS)
    said = sid(9, 9, 9) + sid(0, 0, 1) + sid(8, 8, 8) + sid(8, 8, 8)
    small_recif.write_test(raw, "video", [small_recif.row_with(sid(0, 0, 1), said, answer_pid=[12])])
    asked = small_recif.row_of("label_pred")
    rows = [asked | {"candidate_pid": pid} for pid in (12, 16, 404)]
    small_recif.write_test(raw, "ad", [small_recif.row_with(sid(0, 0, 1))])
    small_recif.write_test(raw, "label_pred", rows)
    folder, found = made(raw)
    counts = {task: dict(rest) for task, *rest in found["tasks"]}
    assert counts["video"]["shown Semantic IDs unknown"] == 3
    assert "candidates unknown" not in counts["video"]
    assert (counts["video"]["answers without ids"], counts["ad"]["answers without ids"]) == (0, 1)
    assert pd.read_parquet(folder / "tasks/label_pred.parquet")["candidate"].tolist() == [1, -1, -1]
    assert (counts["label_pred"]["candidates unknown"], counts["label_pred"]["shown Semantic IDs unknown"]) == (2, 0)


def test_sample_size_is_the_first_rows(raw: Path) -> None:
    small_recif.write_test(raw, "video", [small_recif.row_of("video")] * 3)
    _, found = made(raw, task_rows=2)
    assert {task: dict(rest) for task, *rest in found["tasks"]}["video"]["kept"] == 2


def test_captions_may_be_called_caption(raw: Path) -> None:
    table = pq.read_table(raw / CAPTIONS)
    pq.write_table(table.rename_columns(["pid", "caption"]), raw / CAPTIONS)
    folder, _ = made(raw)
    assert pd.read_parquet(folder / "items.parquet")["text"][0] == "two dogs"


def test_a_photo_may_have_two_captions_and_stand_there_twice(raw: Path) -> None:
    pq.write_table(pa.table({"pid": [11, 11], "dense_caption": ["first", "second"]}), raw / CAPTIONS)
    table = pq.read_table(raw / PHOTO_SIDS)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), raw / PHOTO_SIDS)
    folder, found = made(raw)
    assert pd.read_parquet(folder / "items.parquet")["text"][0] == "first"
    assert dict(found["beside"])["captions: of a photo that has one"] == 1
    assert dict(found["dropped"])["items: a photo that stands there twice"] == 1


# --- Errors ----------------------------------------------------------------------------------------------------------


def refusal(raw: Path, **own: Any) -> str:
    with pytest.raises(InputError) as caught:
        made(raw, **own)
    return str(caught.value)


def test_without_a_token_the_terms_and_the_token_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "RECIF_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no login"))
    with pytest.raises(InputError, match=r"gated, and HF_TOKEN holds no token; accept its terms.*RECIF_DIR"):
        recif.download(settings(), tmp_path)


def test_files_come_from_the_hub_with_the_token(raw: Path, tmp_path: Path, hub: hub_server.Hub) -> None:
    into = tmp_path / "into"
    into.mkdir()
    hub.folder = raw
    recif.download(settings(), into)
    for name in recif_files.FILES:
        assert (into / name).read_bytes() == (raw / name).read_bytes(), name
    assert hub.tokens == {"Bearer hf_test"}
    assert not (hub.asked & {"README.md"})  # the rest of the set stays there


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ("gated", "has not accepted the terms, or waits for leave; open the page"),
        ("unknown", "not found by this token: check corpora.<name>.recif.repository"),
        ("revision", "no such revision; correct corpora.<name>.recif.revision"),
        ("cut", "a partial download .*run it again, it goes on where it stopped"),
    ],
)
def test_what_the_hub_refuses_is_named(raw: Path, tmp_path: Path, hub: hub_server.Hub, refuses: str, said: str) -> None:
    hub.folder, hub.refuses = raw, refuses
    with pytest.raises(InputError, match=said):
        recif.download(settings(), tmp_path)


def test_files_come_from_a_folder(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIF_DIR", str(raw))
    into = tmp_path / "into"
    into.mkdir()
    recif.download(settings(), into)
    assert sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_file()) == sorted(
        recif_files.FILES
    )
    monkeypatch.setenv("RECIF_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere: no such folder .* name the folder"):
        recif.download(settings(), into)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("RECIF_DIR", str(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"none of RecIF's files is there .* name the folder"):
        recif.download(settings(), into)
    with pytest.raises(InputError, match=r"raw: no such folder .* run the download stage first"):
        recif.read(tmp_path / "before" / "raw", settings())


def test_a_stored_login_serves(raw: Path, tmp_path: Path, hub: hub_server.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "login").write_text("hf_stored")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "login"))
    into = tmp_path / "into"
    into.mkdir()
    hub.folder = raw
    recif.download(settings(), into)
    assert hub.tokens == {"Bearer hf_stored"}


def test_a_partial_download_is_named(raw: Path) -> None:
    (raw / TESTS["ad"]).unlink()
    (raw / "cache").mkdir()
    (raw / "cache" / "x.incomplete").touch()
    said = refusal(raw)
    assert "partial download: benchmark_data/ad/ad_test.parquet missing" in said
    assert "cache/x.incomplete" in said


@pytest.mark.parametrize("name", [RELEASE, PHOTO_SIDS, CAPTIONS, TESTS["video"]])
def test_a_file_that_is_cut_off_is_named(raw: Path, name: str) -> None:
    (raw / name).write_bytes((raw / name).read_bytes()[:-40])
    assert f"{name}: not a readable parquet file" in refusal(raw)


def test_counts_that_are_cut_off_are_named(raw: Path) -> None:
    text = (raw / PHOTO_COUNTS).read_text()
    (raw / PHOTO_COUNTS).write_text(text[:-20])
    assert "sid2pid.json: no object of Semantic IDs, or a partial download" in refusal(raw)


@pytest.mark.parametrize(
    ("name", "column"),
    [(RELEASE, "target_video_follow"), (PHOTO_SIDS, "sid"), (CAPTIONS, "dense_caption"), (TESTS["ad"], "metadata")],
)
def test_another_version_of_the_schema_is_named(raw: Path, name: str, column: str) -> None:
    pq.write_table(pq.read_table(raw / name).drop_columns(column), raw / name)
    assert f"{name}: another version of the schema: no column {column}; the columns are: " in refusal(raw)


def test_a_column_of_another_type_is_named(tmp_path: Path) -> None:
    people = [{**row, "hist_ad_pid": "14"} for row in USERS]
    raw = small_recif.write(tmp_path / "raw", people, {"hist_ad_pid": pa.string()})
    assert "column 'hist_ad_pid' is string, it has to be a list of numbers" in refusal(raw)


@pytest.mark.parametrize("codes", [[8192, 0, 0], [0, -1, 0]])
def test_a_code_out_of_range_is_named(raw: Path, codes: list[int]) -> None:
    table = pa.table({"pid": [11, 12], "sid": pa.array([[1, 2, 3], codes], small_recif.INTS)})
    pq.write_table(table, raw / PHOTO_SIDS)
    assert "a code of a Semantic ID is outside 0..8191" in refusal(raw)
    assert f"1 row(s), first 1 ({codes})" in refusal(raw)


def test_a_code_out_of_range_in_an_answer_is_named(raw: Path) -> None:
    small_recif.write_test(raw, "ad", [small_recif.row_of("ad"), small_recif.row_with(sid(0, 9000, 0))])
    assert "ad_test.parquet: no row of ad: 1 row(s), first 1 (a code of" in refusal(raw)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hist_video_like": [1]}, "hist_video_like is not as long as its videos: 1 row(s), first 0"),
        ({"hist_video_like": [0, 2]}, "hist_video_like has to be 0 or 1"),
        ({"uid": 901}, "uid stands there twice: 1 row(s), first 1 (901)"),
        ({"uid": None}, "uid is empty"),
        ({"split": None}, "split is empty"),
    ],
)
def test_faults_of_the_release_are_named_with_their_rows(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    assert said in refusal(small_recif.write(tmp_path / "raw", [USERS[0] | change, USERS[1]]))


@pytest.mark.parametrize("pid", [14.5, 2.0**53])
def test_floating_point_numbers_that_are_no_pid_are_faults(tmp_path: Path, pid: float) -> None:
    people = [{**USERS[0], "hist_ad_pid": [pid]}, USERS[1]]
    raw = small_recif.write(tmp_path / "raw", people, {"hist_ad_pid": FLOATS})
    assert "hist_ad_pid holds no whole number" in refusal(raw)


@pytest.mark.parametrize(("pid", "kind"), [(2**62, pa.int64()), (-(2**62) - 1, pa.int64()), (2**63, pa.uint64())])
def test_a_pid_whose_key_has_no_room_is_named(raw: Path, pid: int, kind: pa.DataType) -> None:
    """Keys are 2 * pid and 2 * iid + 1 in 64 bits."""
    table = pa.table({"pid": pa.array([11, abs(pid) if kind == pa.uint64() else pid], kind)})
    pq.write_table(table.append_column("sid", pa.array([[1, 2, 3]] * 2, small_recif.INTS)), raw / PRODUCT_SIDS)
    assert f"product_pid2sid.parquet: a pid is outside -2^62..2^62 - 1: 1 row(s), first 1 ({pid})" in refusal(raw)


def test_the_largest_pids_are_items(tmp_path: Path) -> None:
    """Of 62 bits, in the files of ids, in logs and in answers; 2^53 + 1 is no floating-point number, and a pid."""
    large, odd = 2**62 - 1, 2**53 + 1
    people = [{**USERS[0], "hist_video_pid": [odd, large]}, USERS[1]]
    raw = small_recif.write(tmp_path / "raw", people)
    pids = {11: odd, 12: large}
    table = pq.read_table(raw / PHOTO_SIDS)
    numbers = pa.array([pids.get(pid, pid) for pid in table["pid"].to_pylist()])
    pq.write_table(table.set_column(0, "pid", numbers), raw / PHOTO_SIDS)
    small_recif.write_test(
        raw, "video", [small_recif.row_with(sid(0, 0, 1), answer_pid=[large, odd, str(odd), odd + 1])]
    )
    small_recif.write_test(raw, "label_pred", [small_recif.row_of("label_pred") | {"candidate_pid": large}])
    folder, _ = made(raw)
    assert pd.read_parquet(folder / "items.parquet")["item_id"].tolist()[:2] == [f"photo {odd}", f"photo {large}"]
    assert pd.read_parquet(folder / "tasks/video.parquet")["answer_item"][0].tolist() == [1, 0, -1]
    assert pd.read_parquet(folder / "tasks/label_pred.parquet")["candidate"].tolist() == [1]


@pytest.mark.parametrize("pid", [14.5, 2.0**53, True, 2**63])
def test_an_answer_that_is_no_pid_is_a_fault(raw: Path, pid: float) -> None:
    small_recif.write_test(raw, "video", [small_recif.row_with(sid(0, 0, 1), answer_pid=[pid])])
    assert f"video_test.parquet: no row of video: 1 row(s), first 0 ('{pid}' is no pid)" in refusal(raw)


def test_two_semantic_ids_of_one_item_are_a_fault(raw: Path) -> None:
    table = pa.table({"pid": [11, 11], "sid": pa.array([[1, 2, 3], [1, 2, 4]], small_recif.INTS)})
    pq.write_table(table, raw / PRODUCT_SIDS)
    assert "product_pid2sid.parquet: a pid has two Semantic IDs: 1 row(s), first 1 (11)" in refusal(raw)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"metadata": json.dumps({"answer": "nothing"})}, "holds no Semantic ID"),
        ({"metadata": "{"}, "Expecting property name"),
        ({"messages": json.dumps([{"role": "user", "content": 7}])}, "content has to be a string or a list of texts"),
    ],
)
def test_rows_that_are_no_rows_are_faults(raw: Path, row: dict[str, Any], said: str) -> None:
    small_recif.write_test(raw, "video", [small_recif.row_of("video") | row])
    assert said in refusal(raw)


def test_an_answer_that_is_neither_yes_nor_no_is_a_fault(raw: Path) -> None:
    row = small_recif.row_of("label_pred") | {"metadata": json.dumps({"answer": "maybe"})}
    small_recif.write_test(raw, "label_pred", [row])
    assert "the answer 'maybe' is neither of" in refusal(raw)


# --- The drawn set ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Found:
    raw = tmp_path_factory.mktemp("drawn") / "raw"
    raw.mkdir()
    recif_fixture.draw(60, raw)
    return made(raw)


def test_the_drawn_set_has_the_published_columns(drawn: Found) -> None:
    found = pq.read_schema(drawn[0].parent / "raw" / RELEASE)
    assert len(found) == 25
    assert found.field("hist_goods_pid").type == FLOATS
    assert {f"{when}_video_{name}" for when in ("hist", "target") for name in BEHAVIOURS} <= set(found.names)


def test_the_drawn_set_is_the_same_again(drawn: Found, tmp_path: Path) -> None:
    recif_fixture.draw(60, tmp_path)
    for name in recif_files.FILES:
        assert (tmp_path / name).read_bytes() == (drawn[0].parent / "raw" / name).read_bytes(), name


def test_no_row_of_the_drawn_set_vanishes(drawn: Found) -> None:
    """What lies in the lists is what is kept and what is counted as dropped; test rows alike."""
    folder, found = drawn
    release = pd.read_parquet(folder.parent / "raw" / RELEASE)
    lists = [name for name in release if name.endswith("_pid") and not name.startswith("inter")]
    came = sum(len(row) for name in lists for row in release[name] if row is not None)
    assert came == found["interactions"] + found["dropped_interactions"]
    assert dropped(found, "padding") > 0
    assert dropped(found, "video without a Semantic ID") > 0
    for task, *counts in found["tasks"]:
        told = dict(counts)
        assert told["rows"] == told["kept"] + sum(
            told[f"without {name}"] for name in ("messages", "metadata", "answer")
        )
        assert [told[f"without {name}"] for name in ("messages", "metadata", "answer")] == [1, 1, 1], task


def test_users_of_the_drawn_set_do_not_leak(drawn: Found) -> None:
    """Counts, and whatever is learnt, are of users of split 0 alone."""
    histories = load(drawn[0])
    release = pd.read_parquet(drawn[0].parent / "raw" / RELEASE)
    held_out = set(release[release["split"] != 0]["uid"].astype(str))
    learnt = [user for user in range(histories.user_count) if histories.train_length[user]]
    assert not held_out & {histories.users["user_id"][user].as_py() for user in learnt}
    assert histories.train_count.sum() == histories.train_length.sum()
    assert (histories.test >= 0).sum() == len(held_out)


def test_the_benchmarks_log_is_read(tmp_path: Path) -> None:
    """benchmarks/recif_log.py writes every file and column that is read."""
    recif_log.draw(tmp_path / "raw", 20_000)
    folder, found = made(tmp_path / "raw")
    assert {task: dict(rest)["kept"] for task, *rest in found["tasks"]} == {
        task: max(5, round(rows * 20_000 / recif_log.FULL)) for task, rows in recif_log.ROWS.items()
    }
    assert len(pd.read_parquet(folder / "keywords.parquet")) > 50
    assert pd.read_parquet(folder / "interactions.parquet")["longview"].mean() > 0.1
