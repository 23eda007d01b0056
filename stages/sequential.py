"""Train a recommender that learns from item numbers alone, to compare with, and write its lists (decoder `list`).

Reads data/<dataset>/corpus; writes data/<dataset>/slates/<baseline>/seed-<n>.parquet, the weights in
models/<dataset>/<baseline>/seed-<n> and a curve. Test items are read by nothing, validation items by the early stop
alone. Interrupted, it goes on from its last checkpoint when it is started again (docs/runs.md).

    python -m stages.sequential --dataset ml-100k --baseline sasrec --seed 1
"""

from typing import Any

from stages.baselines.base import Given, device
from stages.baselines.task_asked import SPLITS
from stages.core import params, paths, stage
from stages.core.cells import on_axis
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.provenance import MODELS, fingerprint, provenance
from stages.corpus import histories
from stages.corpus.tasks import tasks_of


def main(dataset: str, baseline: str, seed: int) -> None:
    learn("sequential", dataset, baseline, seed, (None, seed), Given)


def learn(
    name: str, dataset: str, baseline: str, seed: int, judged: tuple[int | None, int], kind: type[Given], **models: Any
) -> None:
    """Train the baseline of a cell of stage `name`, and write what comes of it.

    judged: how many users of a split get lists, None for all, and the seed that they are drawn by; models: what a
    `kind` of Given has beside the log.
    """
    settings = params.load()
    module = params.load_module("baselines", baseline, "--baseline")
    on_axis("--baseline", baseline, f"{name}_baselines")
    corpus, own = histories.load(paths.corpus(dataset)), settings.corpus(dataset)
    origin = provenance(name, {"dataset": dataset, "baseline": baseline, "seed": seed}, MODELS)
    checkpoint = Checkpoint(*fingerprint(origin))
    checkpoint.claim()
    given = kind(
        histories=corpus,
        users={split: corpus.judged(split, *judged) for split in SPLITS},
        exclude_seen=own.exclude_seen,
        shuffle_ties=own.shuffle_ties,
        seed=seed,
        device=device(),
        checkpoint=checkpoint,
        curve=Curve(paths.curve(dataset, baseline, seed)),
        tasks=tasks_of(paths.corpus(dataset)),
        **models,
    )
    outcome = module.recommend(given, settings.own[baseline])
    outcome.write(given, paths.slates(dataset, baseline, seed), paths.baseline_model(dataset, baseline, seed))


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "baseline", "seed")
