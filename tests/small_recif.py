"""RecIF's files by hand, small enough to work out what is read; every test changes one thing."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.corpora import Corpus
from stages.corpus.recif_files import CAPTIONS, PHOTO_COUNTS, PHOTO_SIDS, PRODUCT_COUNTS, PRODUCT_SIDS, RELEASE, TESTS
from stages.corpus.recif_parts import BEHAVIOURS, PARTS
from tests.small_corpus import corpus

PHOTOS = {11: [0, 0, 1], 12: [0, 0, 1], 13: [0, 2, 3], 14: [5, 2, 3], 15: [8191, 8191, 8191]}
PRODUCTS = {11: [7, 0, 0], 22: [0, 0, 1]}  # an iid that is a pid as well, and a Semantic ID that a photo has
KINDS = {"uid": pa.int64(), "split": pa.int64(), "inter_keyword_to_items": pa.string()}
INTS, FLOATS = pa.list_(pa.int64()), pa.list_(pa.float64())


def settings(**own: Any) -> Corpus:
    recif = {"repository": "owner/set", "revision": None, "drawn_users": None, "task_rows": None, "title_length": 8}
    flags = {name: {"rule": "flag"} for name in BEHAVIOURS}
    return corpus(source="recif", recif=recif | own, feedback=flags, objectives={"like": 1.0}, exclude_seen=False)


def user(uid: int, split: int, **lists: Any) -> dict[str, Any]:
    """A row of the release; a behaviour that is not given is 0 throughout."""
    row: dict[str, Any] = {"uid": uid, "split": split, "inter_keyword_to_items": lists.get("keywords")}
    row |= {f"{part}_pid": lists.get(part, []) for part in PARTS}
    for part in PARTS[4:]:
        for name in BEHAVIOURS:
            row[f"{part}_{name}"] = lists.get(f"{part}_{name}", [0] * len(lists.get(part) or []))
    return row


def sid(*codes: int) -> str:
    a, b, c = codes
    return f"<|sid_begin|><s_a_{a}><s_b_{b}><s_c_{c}><|sid_end|>"


def row_with(answer: str, said: str = "Next?", **metadata: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": said}]
    return {"messages": json.dumps(turns), "metadata": json.dumps({"answer": answer, **metadata})}


USERS = [
    user(
        900, 0, hist_ad=[14], target_ad=[14], hist_goods=[22], target_goods=[11],
        hist_video=[11, 12], target_video=[13], hist_video_like=[0, 1], target_video_longview=[1],
    ),
    user(
        901, 3, hist_ad=[14], target_ad=[15], hist_goods=[11], target_goods=[22],
        hist_video=[13], target_video=[12, 11], target_video_not_interested=[0, 1],
    ),
]  # fmt: skip


def write(folder: Path, users: list[dict[str, Any]] | None = None, kinds: dict[str, pa.DataType] | None = None) -> Path:
    """A sound set: both users above, and one row in each test file."""
    rows = USERS if users is None else users
    names = rows[0].keys()
    fields = [(name, KINDS.get(name) or (kinds or {}).get(name, INTS)) for name in names]
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), folder / RELEASE)
    for name, sids in ((PHOTO_SIDS, PHOTOS), (PRODUCT_SIDS, PRODUCTS)):
        pq.write_table(pa.table({"pid": list(sids), "sid": pa.array(list(sids.values()), INTS)}), folder / name)
    captions = {"pid": [13, 11, 14, 99], "dense_caption": ["a cat in the snow", "two dogs", None, "of nothing"]}
    pq.write_table(pa.table(captions), folder / CAPTIONS)
    for name, key, told in (
        (PHOTO_COUNTS, "pid", {1: [(11, 5), (12, 9)], 16387: [(13, 2)]}),
        (PRODUCT_COUNTS, "iid", {1: [(22, 1)], 7 * 8192**2: [(11, 3)]}),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        counts = {
            str(own): [{key: one, "count": 2 * n, "count_after_downsample": n} for one, n in entries]
            for own, entries in told.items()
        }
        (folder / name).write_text(json.dumps(counts))
    for task in TESTS:
        write_test(folder, task, [row_of(task)])
    return folder


def row_of(task: str) -> dict[str, Any]:
    """A sound row of a task."""
    if task == "label_pred":
        return row_with("是", f"长播{sid(0, 0, 1)}？") | {"candidate_pid": 12}
    if task == "product":
        return row_with(sid(7, 0, 0), answer_iid=[11])
    return row_with(sid(0, 0, 1) + sid(0, 2, 3), f"{sid(5, 2, 3)} 点赞 长播?", answer_pid=[12, 13], keyword="snow")


def write_test(folder: Path, task: str, rows: list[dict[str, Any]], fields: pa.Schema | None = None) -> None:
    path = folder / TESTS[task]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, fields), path)
