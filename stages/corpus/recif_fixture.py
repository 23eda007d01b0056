"""A small set in RecIF's form, drawn: the published files, columns, types and quirks, none of the published data.

What is planted, so that a model has something to find that popularity has not:
- a user lives in two of TOPICS topics, whose items the histories and targets of all three domains are from, but for
  a share STRAY of the videos, which are of any topic; the first code of a Semantic ID tells topic and domain
- videos of the user's topics are watched for long, strays are not, but for a share NOISE of either; so what label_pred
  asks hangs on user and item together, and every item is watched by some and skipped by others
- an item's second code tells whether those who watch it for long like it, follow or forward as well
- a keyword is a topic's name, and calls for what the user did there
Items of a topic are equally popular but for chance, and topics as well.

    corpora.recif-fixture in params.yaml; `dvc exp run -S 'datasets=[recif-fixture]'`
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.corpora import Corpus
from stages.core.errors import InputError
from stages.core.seeding import numpy_generator
from stages.corpus import recif
from stages.corpus.raw_log import Ints, RawLog
from stages.corpus.recif_catalogue import sid_of
from stages.corpus.recif_drawn import Items, User, draw_items, draw_user, keywords, sid_text, topic_name
from stages.corpus.recif_drawn_tests import write_tests
from stages.corpus.recif_files import CAPTIONS, PHOTO_COUNTS, PHOTO_SIDS, PRODUCT_COUNTS, PRODUCT_SIDS, RELEASE
from stages.corpus.recif_parts import BEHAVIOURS


@contextmanager
def own_files(settings: Corpus) -> Iterator[Path | None]:
    """None: the files are drawn by `download`."""
    yield None


def download(settings: Corpus, into: Path) -> None:
    """Draw the files."""
    assert settings.recif is not None, "params.yaml is checked"
    if settings.recif.drawn_users is None:
        raise InputError("source recif_fixture draws its users: set corpora.<name>.recif.drawn_users")
    draw(settings.recif.drawn_users, into)


def read(raw: Path, settings: Corpus) -> RawLog:
    """Read them as the published ones are read."""
    return recif.read(raw, settings)


def draw(users: int, into: Path) -> None:
    """Write the files of a set of so many users into a folder."""
    generator = numpy_generator("recif-fixture", users)
    (into / "benchmark_data").mkdir(parents=True, exist_ok=True)
    items = draw_items(generator)
    people = [draw_user(number, items, generator) for number in range(users)]
    _write_catalogue(items, people, into)
    pq.write_table(_release(people, items, generator), into / RELEASE, row_group_size=64)
    write_tests([user for user in people if user.held_out], items, into)


def _write_catalogue(items: dict[str, Items], people: list[User], into: Path) -> None:
    photos = {name: items[name] for name in ("video", "ad")}
    ids, codes = (np.concatenate([getattr(own, part) for own in photos.values()]) for part in ("ids", "codes"))
    for name, own, sid in ((PHOTO_SIDS, ids, codes), (PRODUCT_SIDS, items["goods"].ids, items["goods"].codes)):
        pq.write_table(pa.table({"pid": own, "sid": pa.array(sid.tolist(), pa.list_(pa.int64()))}), into / name)
    words = [
        f"{name} {place % own.count} about {topic_name(place // own.count)}, kind {own.codes[place, 1] // 16}"
        for name, own in photos.items()
        for place in range(len(own.ids))
    ]
    order = np.argsort(ids)  # another order than that of the Semantic IDs; one photo has no caption, one an empty one
    told = [None if row == order[3] else words[row] for row in order[1:]]
    pq.write_table(pa.table({"pid": ids[order[1:]], "dense_caption": pa.array(told, pa.string())}), into / CAPTIONS)
    counts = {name: _counts(name, items[name], people) for name in items}
    _write_counts(into / PHOTO_COUNTS, "pid", ids, codes, np.concatenate([counts["video"], counts["ad"]]))
    _write_counts(into / PRODUCT_COUNTS, "iid", items["goods"].ids, items["goods"].codes, counts["goods"])


def _counts(name: str, items: Items, people: list[User]) -> Ints:
    """[n] how often each item stands in a history that is learnt from."""
    seen = np.concatenate([user.history[name] for user in people if not user.held_out])
    return np.bincount(seen, minlength=len(items.ids))


def _write_counts(path: Path, name: str, ids: Ints, codes: Ints, count: Ints) -> None:
    found: dict[str, list[dict[str, int]]] = {}
    for number, sid, times in zip(ids.tolist(), sid_of(codes).tolist(), count.tolist(), strict=True):
        found.setdefault(str(sid), []).append({name: number, "count": 3 * times, "count_after_downsample": times})
    for entries in found.values():
        entries.sort(key=lambda entry: -entry["count"])
    path.write_text(json.dumps(found))


def _release(people: list[User], items: dict[str, Items], generator: np.random.Generator) -> pa.Table:
    """The 25 columns. Every 13th user has a video that has no Semantic ID, every 17th has no behaviours."""
    rows: list[dict[str, Any]] = []
    for number, user in enumerate(people):
        row: dict[str, Any] = {"uid": user.uid, "split": int(user.held_out)}
        for when, lists in (("hist", user.history), ("target", user.target)):
            for name, places in lists.items():
                row[f"{when}_{name}_pid"] = items[name].ids[places].tolist() or None
        flags = {"hist": user.behaviours["history"], "target": user.behaviours["target"]}
        for when, found in flags.items():
            for column, name in enumerate(BEHAVIOURS):
                missing = number % 17 == 0 and when == "hist"
                row[f"{when}_video_{name}"] = None if missing else found[:, column].tolist()
        if number % 13 == 0:
            row["hist_video_pid"][0] = 7
        seen = user.history["video"][user.behaviours["history"][:, 0] == 1]
        row["hist_longview_video_list"] = _padded(items["video"].ids[seen])
        row["hist_ad_pid"], row["hist_goods_pid"] = (_padded(row[f"hist_{name}_pid"]) for name in ("ad", "goods"))
        row["inter_keyword_to_items"] = json.dumps(keywords(user, items, "history"), ensure_ascii=False)
        row["inter_user_profile_with_pid"] = f"looks at <photoid|{items['video'].ids[user.topics[0]]}>"
        row["inter_user_profile_with_sid"] = f"looks at {sid_text(items['video'].codes[user.topics[0]])}"
        row["reco_gsu_caption"] = [topic_name(topic) for topic in user.topics] if number % 2 else None
        row["reco_target_caption"], row["reco_cot"] = topic_name(user.topics[0]), None
        rows.append(row)
    kinds = {name: _kind(name) for name in rows[0]}
    return pa.Table.from_pylist(rows, pa.schema(kinds.items()))


def _padded(ids: Any) -> list[float] | None:
    """As pandas leaves a list that is shorter than the longest: floating-point numbers, then NaN."""
    return None if ids is None else [*map(float, ids), *[float("nan")] * 3]


def _kind(name: str) -> pa.DataType:
    if name in ("uid", "split"):
        return pa.int64()
    if name in ("hist_ad_pid", "hist_goods_pid", "hist_longview_video_list"):
        return pa.list_(pa.float64())
    if name == "reco_gsu_caption":
        return pa.list_(pa.string())
    if name.startswith(("hist", "target")):
        return pa.list_(pa.int64())
    return pa.string()
