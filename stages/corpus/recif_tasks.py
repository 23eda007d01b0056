"""RecIF's official test files, benchmark_data/<task>/<task>_test.parquet, as tables of the corpus.

Rows without messages, metadata or an answer are left out and counted, as the official evaluation does; of the others
what the corpus does not have is counted: ids shown, candidates, answers.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.schema import RECIF_TASK
from stages.core.stage import progress
from stages.corpus.faults import Faults
from stages.corpus.raw_log import Ints
from stages.corpus.recif_catalogue import Kept, batches
from stages.corpus.recif_files import demand_columns, opened
from stages.corpus.recif_parts import BEHAVIOURS, BY_BEHAVIOUR, PHOTO, PRODUCT
from stages.corpus.recif_rows import EMPTY, WORDS, EmptyError, Sample, sample_of

ROWS = 1 << 12  # read at once
REPEATED, UNKNOWN = "repeated Semantic IDs in answers", "answer ids unknown"
NAMELESS = "answers without ids"
UNSEEN, NO_CANDIDATE = "shown Semantic IDs unknown", "candidates unknown"
NOTHING = {"label_cond": "no behaviour", "interactive": "no keyword"}  # that a row asks for


def write_task(
    path: Path, task: str, into: Path | None, corpus: Kept, most: int | None, faults: Faults
) -> dict[str, int]:
    """Write a task's table (schema.RECIF_TASK) a part at a time; counts by what became of its rows. Ids that the corpus
    does not have are item -1.
    """
    kind = PRODUCT if task == "product" else PHOTO
    counts = _counts(task)
    writer = None if into is None else pq.ParquetWriter(into, RECIF_TASK, compression="zstd")
    kept = 0
    for samples in progress(_samples(path, task, most, faults, counts), f"parts of {path.name}"):
        answers = [corpus.items(kind, _numbers(sample.answer_ids)) for sample in samples]
        candidates = corpus.items(PHOTO, _numbers([sample.candidate for sample in samples]))
        counts[UNKNOWN] += sum(int((own < 0).sum()) for own in answers)
        counts[UNSEEN] += sum(int((~corpus.bears(_numbers(sample.shown))).sum()) for sample in samples)
        if task == "label_pred":
            counts[NO_CANDIDATE] += int((candidates < 0).sum())
        else:
            counts[NAMELESS] += sum(not sample.answer_ids for sample in samples)
        if task in BY_BEHAVIOUR:
            told = np.concatenate([_numbers(sample.behaviours) for sample in samples] or [_numbers([])])
            for place, name in enumerate((*BEHAVIOURS, "")):
                counts[_shown_under(name)] += int((told == (place if name else -1)).sum())
        for sample in samples if task in NOTHING else []:
            counts[_asking(task, sample.condition)] += 1
        columns = [
            np.arange(kept, kept + len(samples)),
            [json.dumps(sample.messages, ensure_ascii=False) for sample in samples],
            [sample.shown for sample in samples],
            [sample.behaviours for sample in samples],
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


def _counts(task: str) -> dict[str, int]:
    """What is counted of a task's rows, 0 each."""
    names = ["rows", *(f"without {name}" for name in EMPTY), UNKNOWN, REPEATED, UNSEEN]
    names.append(NO_CANDIDATE if task == "label_pred" else NAMELESS)
    if task in BY_BEHAVIOUR:
        names += map(_shown_under, (*BEHAVIOURS, ""))
    asked = {"label_cond": [*WORDS, ""], "interactive": ["a keyword", ""]}
    names += [_asking(task, condition) for condition in asked.get(task, [])]
    return dict.fromkeys(names, 0)


def _shown_under(name: str) -> str:
    """The count that a Semantic ID of a prompt with lists by behaviour stands in; of label_pred, candidates as well."""
    return f"shown under {name}" if name else "shown under no behaviour"


def _asking(task: str, condition: str) -> str:
    """The count that a row of label_cond or interactive stands in; keywords are many, and one count."""
    if not condition:
        return f"asking for {NOTHING[task]}"
    return f"asking for {condition}" if task == "label_cond" else "asking for a keyword"


def _numbers(ids: list[int]) -> Ints:
    return np.array(ids, dtype=np.int64).reshape(-1)


def _samples(path: Path, task: str, most: int | None, faults: Faults, counts: dict[str, int]) -> Iterator[list[Sample]]:
    file = opened(path)
    columns = ["messages", "metadata"] + (["candidate_pid"] if task == "label_pred" else [])
    demand_columns(file, path, columns)
    for batch in batches(file, path, columns, ROWS):
        samples = []
        for row in batch.slice(0, None if most is None else max(0, most - counts["rows"])).to_pylist():
            try:
                sample = sample_of(row, task)
            except EmptyError as empty:
                counts[f"without {empty}"] += 1
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                said = " ".join(str(error).split())[:100]
                faults.count(f"{path.name}: no row of {task}", 1, [(counts["rows"], f" ({said})")])
            else:
                counts[REPEATED] += sample[1]
                samples.append(sample[0])
            counts["rows"] += 1
        yield samples
