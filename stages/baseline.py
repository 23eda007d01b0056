"""Count what a recommender to compare with counts, and write its lists in the schema of slates (decoder `list`).

Reads data/<dataset>/corpus, writes data/<dataset>/slates/<baseline>/seed-<n>.parquet. No measure is taken here.
Baselines that learn have stages of their own: sequential.py and generative.py.
"""

from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa

from stages.core import params, paths, stage
from stages.core.cells import on_axis
from stages.core.files import write_table
from stages.core.schema import slate_table
from stages.corpus import histories
from stages.corpus.tasks import JUDGING, RECOMMENDING, split_of, tasks_of


def main(dataset: str, baseline: str, seed: int) -> None:
    settings = params.load()
    module = params.load_module("baselines", baseline, "--baseline")
    on_axis("--baseline", baseline, "baselines")
    corpus = histories.load(paths.corpus(dataset))
    tables = []
    for split in ("test", "valid"):
        items, scores = module.recommend(
            corpus, settings.own[baseline], split, settings.corpus(dataset).exclude_seen, seed
        )
        users = np.flatnonzero(corpus.target(split) >= 0)
        tables.append(slate_table(users, split, "list", items, scores))
    tables += of_tasks(module, corpus, paths.corpus(dataset))
    path = paths.slates(dataset, baseline, seed)
    write_table(path, pa.concat_tables(tables).combine_chunks())
    stage.log.info("%s: %d lists of %d items", path, 2 * len(users), items.shape[1])


def of_tasks(module: ModuleType, corpus: histories.Histories, folder: Path) -> list[pa.Table]:
    """Lists for the tasks of a corpus that has some, by a baseline that has any for tasks."""
    asked, tables = tasks_of(folder), []
    if asked is None or not hasattr(module, "recommend_task"):
        return tables
    for task in RECOMMENDING:
        samples = asked.table(task).num_rows
        items, scores = module.recommend_task(corpus, asked, task, samples)
        tables.append(slate_table(np.arange(samples), split_of(task), "list", items, scores))
    candidates = asked.table(JUDGING)["candidate"].to_numpy()
    scores = module.judge_task(corpus, asked, candidates)[:, None]
    tables.append(slate_table(np.arange(len(scores)), split_of(JUDGING), "label", candidates[:, None], scores))
    return tables


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "baseline", "seed")
