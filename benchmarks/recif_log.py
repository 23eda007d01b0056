"""A log in RecIF's files, of any size: what benchmarks/prepare.py --recif prepares.

At full size 200,000 users, 13.1 million videos, 178,000 advertisements, 2.06 million products; 94.4, 5.3 and 20.1
million interactions in the published proportions, behaviours at the published rates, keywords, captions of 60
characters, counts of every Semantic ID, and test files with as many rows and as long histories as the published ones.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.corpus.recif_files import (
    CAPTIONS,
    PHOTO_COUNTS,
    PHOTO_SIDS,
    PRODUCT_COUNTS,
    PRODUCT_SIDS,
    RELEASE,
    TESTS,
)
from stages.corpus.recif_keywords import COLUMN as KEYWORDS
from stages.corpus.recif_parts import CODES

FULL, USERS = 120_000_000, 200_000
ITEMS = {"video": 13_100_000, "ad": 178_000, "goods": 2_060_000}
MEAN = {"video": 460, "ad": 22, "goods": 96}  # items of a history
TARGETS = {"video": 9, "ad": 4, "goods": 4}
RATES = {"longview": 0.24, "like": 0.017, "follow": 0.004, "forward": 0.003, "not_interested": 0.0006}
ROWS = {
    "video": 38_781,
    "ad": 27_677,
    "product": 27_910,
    "label_cond": 34_891,
    "interactive": 1_000,
    "label_pred": 346_190,
}
SHOWN = {"video": 458, "ad": 130, "product": 200, "label_cond": 50, "interactive": 100, "label_pred": 50}
WORDS = 5  # keywords of a user
BLOCK, PEOPLE = 1 << 20, 1 << 11
OFFSET = {"video": 0, "ad": ITEMS["video"], "goods": 0}


def ids(numbers: np.ndarray) -> np.ndarray:
    """Large numbers without order, below 2^50, one for each."""
    return ((numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) & np.uint64((1 << 50) - 1)).astype(np.int64)


def codes(numbers: np.ndarray, salt: int) -> np.ndarray:
    """Semantic IDs [n, 3] of items, which few share."""
    mixed = ids(numbers * 2 + salt)
    return np.stack([mixed >> 37 & (CODES - 1), mixed >> 24 & (CODES - 1), mixed >> 11 & (CODES - 1)], 1)


def draw(folder: Path, size: int) -> None:
    """Write all files of a log of about so many interactions."""
    share, generator = size / FULL, np.random.default_rng(1)
    items = {name: max(200, round(count * share)) for name, count in ITEMS.items()}
    (folder / "benchmark_data").mkdir(parents=True, exist_ok=True)
    photos = np.r_[np.arange(items["video"]), ITEMS["video"] + np.arange(items["ad"])]
    _draw_items(folder / PHOTO_SIDS, folder / PHOTO_COUNTS, photos, 0, "pid")
    _draw_items(folder / PRODUCT_SIDS, folder / PRODUCT_COUNTS, np.arange(items["goods"]), 1, "iid")
    _draw_captions(folder / CAPTIONS, generator.permutation(photos))
    _draw_release(folder / RELEASE, max(50, round(USERS * share)), items, generator)
    for task in TESTS:
        _draw_tests(folder / TESTS[task], task, max(5, round(ROWS[task] * share)), items, generator)


def _lists(values: np.ndarray, length: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.r_[0, np.cumsum(length)].astype(np.int32)), pa.array(values))


def _draw_items(path: Path, counts: Path, numbers: np.ndarray, salt: int, name: str) -> None:
    kinds = pa.schema([("pid", pa.int64()), ("sid", pa.list_(pa.int64()))])
    with pq.ParquetWriter(path, kinds) as writer, counts.open("w") as file:
        comma = "{"
        for start in range(0, len(numbers), BLOCK):
            part = numbers[start : start + BLOCK]
            own = codes(part, salt)
            writer.write_table(pa.table([ids(part), _lists(own.ravel(), np.full(len(part), 3))], schema=kinds))
            sid = pa.array((own[:, 0] * CODES + own[:, 1]) * CODES + own[:, 2]).cast(pa.string())
            number = pa.array(ids(part)).cast(pa.string())
            told = pc.binary_join_element_wise(
                '"', sid, f'": [{{"{name}": ', number, ', "count": 9, "count_after_downsample": 3}]', ""
            )
            file.write(comma + ", ".join(told.to_pylist()))
            comma = ", "
        file.write("}")


def _draw_captions(path: Path, numbers: np.ndarray) -> None:
    with pq.ParquetWriter(path, pa.schema([("pid", pa.int64()), ("dense_caption", pa.string())])) as writer:
        for start in range(0, len(numbers), BLOCK):
            part = numbers[start : start + BLOCK]
            text = pc.binary_join_element_wise("somebody shows number", pa.array(part).cast(pa.string()),
                                               "to a camera, and somebody laughs", " ")  # fmt: skip
            writer.write_table(pa.table([ids(part), text], schema=writer.schema))


def _draw_release(path: Path, users: int, items: dict[str, int], generator: np.random.Generator) -> None:
    writer = None
    for start in range(0, users, PEOPLE):
        count = min(PEOPLE, users - start)
        columns: dict[str, pa.Array] = {"uid": ids(np.arange(start, start + count))}
        columns["split"] = (np.arange(start, start + count) % 5 == 4).astype(np.int64)
        for name in ("video", "ad", "goods"):
            activity = generator.lognormal(-0.5, 1, count)
            for when, length in (
                ("hist", np.maximum(1, MEAN[name] * activity).astype(np.int64)),
                ("target", np.full(count, TARGETS[name])),
            ):
                total = int(length.sum())
                chosen = OFFSET[name] + (items[name] * generator.random(total) ** 3).astype(np.int64)
                values = ids(chosen)
                padded = when == "hist" and name != "video"
                columns[f"{when}_{name}_pid"] = _lists(values.astype(np.float64) if padded else values, length)
                if (when, name) == ("hist", "video"):
                    columns[KEYWORDS] = pa.array(_keywords(values, length, generator))
                for behaviour, rate in RATES.items() if name == "video" else ():
                    columns[f"{when}_video_{behaviour}"] = _lists(
                        (generator.random(total) < rate).astype(np.int64), length
                    )
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _keywords(pids: np.ndarray, length: np.ndarray, generator: np.random.Generator) -> list[str]:
    """What users did under keywords, as JSON: WORDS of them each, with ten videos of their histories at most."""
    told = []
    for own in np.split(pids, np.cumsum(length)[:-1]):
        words = generator.integers(1_000, size=WORDS)
        told.append(json.dumps({f"word {word}": own[place::WORDS][:10].tolist() for place, word in enumerate(words)}))
    return told


def _draw_tests(path: Path, task: str, rows: int, items: dict[str, int], generator: np.random.Generator) -> None:
    """Rows of one task; a thousand prompts are drawn and stand there again and again."""
    name = {"ad": "ad", "product": "goods"}.get(task, "video")

    def sids(count: int) -> tuple[str, list[int]]:
        numbers = OFFSET[name] + generator.integers(items[name], size=count)
        own = codes(numbers, int(name == "goods"))
        return "".join(f"<|sid_begin|><s_a_{a}><s_b_{b}><s_c_{c}><|sid_end|>" for a, b, c in own), ids(numbers).tolist()

    drawn = []
    for _ in range(min(rows, 1_000)):
        answer, numbers = sids(9)
        prompt = [{"role": "user", "content": sids(SHOWN[task])[0]}]
        key = "answer_iid" if task == "product" else "answer_pid"
        metadata = {"answer": "是" if task == "label_pred" else answer, key: numbers, "keyword": "a word"}
        drawn.append((json.dumps(prompt), json.dumps(metadata), numbers[0]))
    messages, metadata, candidate = map(pa.array, zip(*drawn, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [("messages", pa.string()), ("metadata", pa.string()), ("candidate_pid", pa.int64())]
    with pq.ParquetWriter(path, pa.schema(fields)) as writer:
        for start in range(0, rows, 4096):
            place = pa.array(np.arange(start, min(start + 4096, rows)) % len(drawn))
            columns = [column.take(place) for column in (messages, metadata, candidate)]
            writer.write_table(pa.table(columns, schema=writer.schema))
