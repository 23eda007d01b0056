"""RecIF's official test files, benchmark_data/<task>/<task>_test.parquet, as tables of the corpus.

A row is a prompt (`messages`) and what is right (`metadata`). Prompts are kept as they are; the Semantic IDs in them
are told apart, so that a policy without words can be asked as well. Rows without messages, metadata or an answer are
left out and counted, as the official evaluation does.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.schema import RECIF_TASK
from stages.core.stage import progress
from stages.corpus.faults import Faults
from stages.corpus.raw_log import Ints
from stages.corpus.recif_catalogue import Catalogue, batches
from stages.corpus.recif_files import demand_columns, opened
from stages.corpus.recif_parts import CODES, LARGEST, PHOTO, PRODUCT

SID = re.compile(r"<\|sid_begin\|><s_a_(\d+)><s_b_(\d+)><s_c_(\d+)><\|sid_end\|>")
YES, NO = ("是", "yes"), ("否", "no")
WORDS = {  # of a behaviour in a Chinese prompt; the last one named in it is asked for
    "longview": "长播",
    "like": "点赞",
    "follow": "关注",
    "forward": "转发",
    "not_interested": "不感兴趣",
}
ROWS = 1 << 12  # read at once
EMPTY = ("messages", "metadata", "answer")


class Sample(NamedTuple):
    """One row of a test file."""

    messages: list[dict[str, str]]  # role, content
    shown: list[int]  # Semantic IDs of the prompt, in order
    condition: str  # label_cond: a behaviour | interactive: a keyword | ""
    answer: list[int]  # Semantic IDs, each once, in order; none for label_pred
    answer_ids: list[int]  # pids or iids, each once, in order
    candidate: int  # label_pred: a pid; -1
    label: bool | None  # label_pred


def write_task(
    path: Path, task: str, into: Path | None, catalogue: Catalogue, item_rows: Ints, most: int | None, faults: Faults
) -> dict[str, int]:
    """Write a task's table (schema.RECIF_TASK) a part at a time; counts by what became of its rows.

    item_rows: of the catalogue, what the corpus has; other ids are item -1.
    """
    kind = PRODUCT if task == "product" else PHOTO
    counts = dict.fromkeys(("rows", *(f"without {name}" for name in EMPTY), "answer ids unknown"), 0)
    counts["repeated Semantic IDs in answers"] = 0
    writer = None if into is None else pq.ParquetWriter(into, RECIF_TASK, compression="zstd")
    kept = 0
    for samples in progress(_samples(path, task, most, faults, counts), f"parts of {path.name}"):
        answers = [_items(sample.answer_ids, kind, catalogue, item_rows) for sample in samples]
        counts["answer ids unknown"] += sum(int((own < 0).sum()) for own in answers)
        candidates = _items([sample.candidate for sample in samples], PHOTO, catalogue, item_rows)
        columns = [
            np.arange(kept, kept + len(samples)),
            [json.dumps(sample.messages, ensure_ascii=False) for sample in samples],
            [sample.shown for sample in samples],
            [sample.condition for sample in samples],
            [sample.answer for sample in samples],
            answers,
            candidates,
            [sample.label for sample in samples],
        ]
        kept += len(samples)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, RECIF_TASK, strict=True)]
        if writer is not None:
            writer.write_table(pa.table(arrays, schema=RECIF_TASK))
    if writer is not None:
        writer.close()
    return {**counts, "kept": kept}


def _items(ids: list[int], kind: int, catalogue: Catalogue, item_rows: Ints) -> Ints:
    """[n] item numbers of pids or iids, -1 where the corpus has none."""
    row = catalogue.rows(kind, np.array(ids, dtype=np.int64).reshape(-1)).astype(np.int64)
    place = np.minimum(np.searchsorted(item_rows, row), len(item_rows) - 1)
    return np.where((row >= 0) & (item_rows[place] == row), place, -1)


def _samples(path: Path, task: str, most: int | None, faults: Faults, counts: dict[str, int]) -> Iterator[list[Sample]]:
    file = opened(path)
    columns = ["messages", "metadata"] + (["candidate_pid"] if task == "label_pred" else [])
    demand_columns(file, path, columns)
    for batch in batches(file, path, columns, ROWS):
        samples = []
        for row in batch.slice(0, None if most is None else max(0, most - counts["rows"])).to_pylist():
            try:
                sample = _sample(row, task)
            except _EmptyError as empty:
                counts[f"without {empty}"] += 1
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                said = " ".join(str(error).split())[:100]
                faults.count(f"{path.name}: no row of {task}", 1, [(counts["rows"], f" ({said})")])
            else:
                counts["repeated Semantic IDs in answers"] += sample[1]
                samples.append(sample[0])
            counts["rows"] += 1
        yield samples


class _EmptyError(Exception):
    """A row that is left out, and what it lacks."""


def _sample(row: dict[str, Any], task: str) -> tuple[Sample, int]:
    """A row, and how many Semantic IDs of its answer stand there before."""
    messages = _from_json(row["messages"])
    if not messages:
        raise _EmptyError("messages")
    metadata = _from_json(row["metadata"])
    if not metadata:
        raise _EmptyError("metadata")
    answer = metadata.get("answer")
    if not answer:
        raise _EmptyError("answer")
    turns = [{"role": str(turn["role"]), "content": _words(turn["content"])} for turn in messages]
    if not any(turn["content"].strip() for turn in turns):
        raise _EmptyError("messages")
    asked = "\n".join(turn["content"] for turn in turns if turn["role"] != "assistant")
    shown, answer = _sids(asked), _words(answer)
    if task == "label_pred":
        word = answer.strip().lower()
        if word not in (*YES, *NO):
            raise ValueError(f"the answer '{word[:20]}' is neither of {', '.join((*YES, *NO))}")
        return Sample(turns, shown, "", [], [], _pid(row["candidate_pid"]), word in YES), 0
    found = _sids(answer)
    if not found:
        raise ValueError(f"the answer '{answer[:40]}' holds no Semantic ID")
    once = list(dict.fromkeys(found))
    ids = metadata.get("answer_iid" if task == "product" else "answer_pid") or []
    ids = list(dict.fromkeys(map(_pid, ids if isinstance(ids, list) else [ids])))
    condition = {"label_cond": lambda: _asked_for(asked), "interactive": lambda: str(metadata.get("keyword") or "")}
    return Sample(turns, shown, condition.get(task, str)(), once, ids, -1, None), len(found) - len(once)


def _from_json(value: Any) -> Any:
    """A column that holds JSON, or what it stands for; None where it is empty."""
    if isinstance(value, str):
        return json.loads(value) if value.strip() else None
    return value


def _words(content: Any) -> str:
    """Content as published: a string, or a list of {"type": "text", "text": ..}."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list) or any(part.get("type", "text") != "text" for part in content):
        raise ValueError("content has to be a string or a list of texts")
    return "".join(str(part["text"]) for part in content)


def _sids(text: str) -> list[int]:
    """Semantic IDs of a text, as numbers. Raises ValueError where a code is out of range."""
    found = []
    for codes in SID.findall(text):
        a, b, c = map(int, codes)
        if max(a, b, c) >= CODES:
            raise ValueError(f"a code of {codes} is outside 0..{CODES - 1}")
        found.append((a * CODES + b) * CODES + c)
    return found


def _asked_for(prompt: str) -> str:
    """The behaviour that a prompt names last, in Chinese or by the column's name; "" where it names none."""
    last = {name: max(prompt.rfind(word), prompt.rfind(name)) for name, word in WORDS.items()}
    name = max(last, key=lambda each: last[each])
    return name if last[name] >= 0 else ""


def _pid(value: Any) -> int:
    """A pid, also of a column that NaN made a floating-point one; -1 for none. Raises ValueError where it is no whole
    number of 64 bits, or one that floating point cannot tell from the next.
    """
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None or value != value:
        return -1
    pid = int(value)
    broken = isinstance(value, float) and (pid != value or abs(value) >= LARGEST)
    if broken or isinstance(value, bool) or not -(2**63) <= pid < 2**63:
        raise ValueError(f"'{value}' is no pid")
    return pid
