"""Train a recommender that writes ids learnt from text, to compare with, and write its lists (decoder `list`).

Reads data/<dataset>/corpus, the sentence encoder and the backbone; writes
data/<dataset>/slates/<baseline>/seed-<n>.parquet, the weights in models/<dataset>/<baseline>/seed-<n> and a curve.
Test items are read by nothing, validation items by the early stop alone. Interrupted, it goes on from its last
checkpoint when it is started again (docs/runs.md).

    python -m stages.generative --dataset ml-100k --baseline tiger --seed 1
"""

from stages.baselines.base import GivenModels, device
from stages.core import params, paths, stage
from stages.core.cells import on_axis
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.provenance import MODELS, fingerprint, provenance
from stages.corpus import histories


def main(dataset: str, baseline: str, seed: int) -> None:
    settings = params.load()
    module = params.load_module("baselines", baseline, "--baseline")
    on_axis("--baseline", baseline, "generative_baselines")
    corpus, own, most = histories.load(paths.corpus(dataset)), settings.corpus(dataset), settings.evaluate.max_users
    origin = provenance("generative", {"dataset": dataset, "baseline": baseline, "seed": seed}, MODELS)
    checkpoint = Checkpoint(*fingerprint(origin))
    checkpoint.claim()
    given = GivenModels(
        histories=corpus,
        users={split: corpus.judged(split, most, settings.evaluate.seed) for split in ("test", "valid")},
        exclude_seen=own.exclude_seen,
        shuffle_ties=own.shuffle_ties,
        seed=seed,
        device=device(),
        checkpoint=checkpoint,
        curve=Curve(paths.curve(dataset, baseline, seed)),
        encoder=paths.encoder(settings.axes.encoder),
        backbone=paths.backbone(settings.axes.backbone),
        language_model=settings.backbone,
    )
    outcome = module.recommend(given, settings.own[baseline])
    outcome.write(given.users, paths.slates(dataset, baseline, seed), paths.baseline_model(dataset, baseline, seed))
    checkpoint.drop()
    stage.log.info("%s: %d users", paths.slates(dataset, baseline, seed), len(given.users["test"]))


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "baseline", "seed")
