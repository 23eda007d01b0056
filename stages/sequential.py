"""Train a recommender that learns from item numbers alone, to compare with, and write its lists (decoder `list`).

Reads data/<dataset>/corpus; writes data/<dataset>/slates/<baseline>/seed-<n>.parquet, the weights in
models/<dataset>/<baseline>/seed-<n> and a curve. Test items are read by nothing, validation items by the early stop
alone. Interrupted, it goes on from its last checkpoint when it is started again (docs/runs.md).

    python -m stages.sequential --dataset ml-100k --baseline sasrec --seed 1
"""

from stages.baselines.base import Given, device
from stages.core import params, paths, stage
from stages.core.cells import on_axis
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.provenance import MODELS, fingerprint, provenance
from stages.corpus import histories


def main(dataset: str, baseline: str, seed: int) -> None:
    settings = params.load()
    module = params.load_module("baselines", baseline, "--baseline")
    on_axis("--baseline", baseline, "sequential_baselines")
    corpus, own = histories.load(paths.corpus(dataset)), settings.corpus(dataset)
    origin = provenance("sequential", {"dataset": dataset, "baseline": baseline, "seed": seed}, MODELS)
    checkpoint = Checkpoint(*fingerprint(origin))
    checkpoint.claim()
    given = Given(
        histories=corpus,
        users={split: corpus.judged(split, None, seed) for split in ("test", "valid")},
        exclude_seen=own.exclude_seen,
        shuffle_ties=own.shuffle_ties,
        seed=seed,
        device=device(),
        checkpoint=checkpoint,
        curve=Curve(paths.curve(dataset, baseline, seed)),
    )
    outcome = module.recommend(given, settings.own[baseline])
    outcome.write(given.users, paths.slates(dataset, baseline, seed), paths.baseline_model(dataset, baseline, seed))
    checkpoint.drop()
    stage.log.info("%s: %d users", paths.slates(dataset, baseline, seed), len(given.users["test"]))


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "baseline", "seed")
