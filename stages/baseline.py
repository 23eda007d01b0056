"""Count what a recommender to compare with counts, and write its lists in the schema of slates (decoder `list`).

Reads data/<dataset>/corpus, writes data/<dataset>/slates/<baseline>/seed-<n>.parquet. No measure is taken here.
Baselines that learn have stages of their own: sequential.py and generative.py.
"""

from dataclasses import replace

from stages.baselines.task_asked import SPLITS, everything, slates
from stages.core import params, paths, stage
from stages.core.cells import on_axis
from stages.core.files import write_table
from stages.corpus import histories
from stages.corpus.tasks import tasks_of


def main(dataset: str, baseline: str, seed: int) -> None:
    settings = params.load()
    module = params.load_module("baselines", baseline, "--baseline")
    on_axis("--baseline", baseline, "baselines")
    corpus, own = histories.load(paths.corpus(dataset)), settings.own[baseline]
    users = {split: corpus.judged(split, None, seed) for split in SPLITS}
    tasks, exclude_seen = tasks_of(paths.corpus(dataset)), settings.corpus(dataset).exclude_seen
    if tasks is not None:
        corpus = replace(corpus, feedback_known=tasks.longviews_known())
    ranker = module.ranker(corpus, own)
    lists = {
        asked.split: asked.answered(ranker) for asked in everything(corpus, users, tasks, exclude_seen, own.list_length)
    }
    path = paths.slates(dataset, baseline, seed)
    write_table(path, slates(lists, users))
    stage.log.info("%s: %d lists of test users", path, len(users["test"]))


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "baseline", "seed")
