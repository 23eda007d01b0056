"""What `render` draws for RecIF's tasks: samples of the logs and test rows with pools, their tables and report."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.core.schema import TASK_LESSONS, TASK_POOLS
from stages.corpus.histories import Ints
from stages.corpus.task_samples import Logs, Sample, asked_samples
from stages.corpus.tasks import RECOMMENDING, Tasks
from stages.retrievers.shown import ShownPools


class Drawn(NamedTuple):
    """Samples with pools, but for those of label_pred, which have none."""

    lessons: list[list[Sample]]  # by draw
    tests: dict[str, list[Sample]]  # of each recommending task, in the order of its rows


def draw_tasks(logs: Logs, tasks: Tasks, pools: ShownPools, draws: int) -> Drawn:
    """Draw from the logs so many times, and pools for that and for the test rows."""
    lessons = [_with_pools(list(logs.epoch(0, draw)), pools) for draw in range(draws)]
    return Drawn(lessons, {task: _with_pools(asked_samples(tasks, task), pools) for task in RECOMMENDING})


def _with_pools(samples: list[Sample], pools: ShownPools) -> list[Sample]:
    return [own._replace(pool=pool) for own, pool in zip(samples, pools.draw(samples), strict=True)]


def lesson_table(lessons: list[list[Sample]]) -> pa.Table:
    """Rows of TASK_LESSONS."""
    rows = [{"draw": draw, **own._asdict()} for draw, samples in enumerate(lessons) for own in samples]
    return pa.Table.from_pylist(rows, TASK_LESSONS)


def pool_table(tests: dict[str, list[Sample]]) -> pa.Table:
    """Rows of TASK_POOLS."""
    rows = [
        {"task": task, "sample": number, "pool": own.pool}
        for task, samples in tests.items()
        for number, own in enumerate(samples)
    ]
    return pa.Table.from_pylist(rows, TASK_POOLS)


def describe_tasks(drawn: Drawn, tasks: Tasks) -> dict[str, Any]:
    """How many samples have an answer in their pool, and what share of all answers the pools hold: the most that any
    policy which picks from them can reach. Of test rows by Semantic ID, as they are measured.
    """
    sid, found = tasks.ids.sid, dict[str, Any]()
    found["task_pools"], found["task_lessons"] = [], []
    for task in RECOMMENDING:
        answers = map(np.array, tasks.table(task)["answer"].to_pylist())
        pairs = zip(answers, (sid[own.pool] for own in drawn.tests[task]), strict=True)
        found["task_pools"].append([task, *_held(pairs)])
        samples = [own for draw in drawn.lessons for own in draw if own.task == task]
        found["task_lessons"].append([task, *_held((own.answer, own.pool) for own in samples)])
    return found


def _held(pairs: Iterable[tuple[Ints, Any]]) -> list[list[Any]]:
    """Of pairs of answers and pools."""
    held = [np.isin(answer, pool) for answer, pool in pairs]
    answers = sum(map(len, held))
    return [
        ["samples", len(held)],
        ["with an answer in the pool", sum(bool(own.any()) for own in held)],
        ["answers", answers],
        ["answers in the pool", sum(int(own.sum()) for own in held)],
    ]
