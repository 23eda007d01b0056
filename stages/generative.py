"""Train a recommender that writes ids learnt from text, to compare with, and write its lists (decoder `list`).

Reads data/<dataset>/corpus, the sentence encoder and the backbone; writes
data/<dataset>/slates/<baseline>/seed-<n>.parquet, the weights in models/<dataset>/<baseline>/seed-<n> and a curve.
Test items are read by nothing, validation items by the early stop alone. Interrupted, it goes on from its last
checkpoint when it is started again (docs/runs.md).

    python -m stages.generative --dataset ml-100k --baseline tiger --seed 1
"""

from stages.baselines.base import GivenModels
from stages.core import params, paths, stage
from stages.sequential import learn


def main(dataset: str, baseline: str, seed: int) -> None:
    settings = params.load()
    learn(
        "generative",
        dataset,
        baseline,
        seed,
        (settings.evaluate.max_users, settings.evaluate.seed),
        GivenModels,
        encoder=paths.encoder(settings.axes.encoder),
        backbone=paths.backbone(settings.axes.backbone),
        language_model=settings.backbone,
    )


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "baseline", "seed")
