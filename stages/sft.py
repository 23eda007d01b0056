"""Supervised fine-tuning: a language model learns to write the items of a history in the chosen action space.

Trains on the training part less what RL and its reserve keep (stages/corpus/reserve.py), judges each epoch by the loss
on the validation items and keeps the best. Writes models/<dataset>/<space>/warmup/seed-<n> and its curve. Interrupted,
it goes on from the last whole epoch when it is started again with the same parameters, inputs and code.

    python -m stages.sft --dataset ml-100k --space semantic_id --seed 1
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from accelerate import Accelerator

from stages.baselines import transitions
from stages.core import params, paths, stage
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.files import fresh_folder
from stages.core.provenance import cell_fingerprint
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, Ints, load
from stages.corpus.reserve import divide
from stages.policy import backbone, training
from stages.policy.supervised import Example, SlateLabels, history_examples, slate_examples


def main(dataset: str, space: str, seed: int) -> None:
    settings = params.load()
    sft, body = settings.sft, settings.backbone
    histories = load(paths.corpus(dataset))
    actions = params.load_module("action_spaces", space, "action_spaces").Actions(paths.actions(dataset, space))
    model = backbone.create(body, actions.vocabulary, seed)
    stage.log.info("%s parameters, %d tokens", f"{model.num_parameters():,}", actions.vocabulary)
    judged = np.flatnonzero(histories.valid >= 0)
    contexts = [histories.context(user, "valid") for user in judged]
    best_epoch = training.fit(
        model,
        actions,
        epoch_examples(histories, settings, dataset, seed),
        training.next_item_examples(contexts, histories.valid[judged], sft.history_items),
        training.Recipe(
            sft.label, sft.epochs, sft.batch_size, body.sft_lr, sft.warmup, sft.weight_decay, sft.max_grad_norm,
            sft.patience, seed,
        ),
        Accelerator(mixed_precision="bf16" if body.precision == "bf16" else "no"),
        checkpoint := Checkpoint(*cell_fingerprint("sft", {"dataset": dataset, "space": space, "seed": seed})),
        curve := Curve(paths.curve(dataset, paths.row(space, "warmup"), seed)),
        stage.progress,
    )  # fmt: skip
    with fresh_folder(paths.model(dataset, space, "warmup", seed)) as folder:
        backbone.save(model, backbone.Card(sft.label, actions.fingerprint), folder)
    checkpoint.drop()
    stage.log.info("best epoch %d, validation loss %s", best_epoch, min(row["valid_loss"] for row in curve.rows))


def epoch_examples(
    histories: Histories, settings: params.Params, dataset: str, seed: int
) -> Callable[[int], list[Example]]:
    """The examples of an epoch, drawn from (seed, epoch) by the label that params.yaml names."""
    sft, corpus = settings.sft, settings.corpus(dataset)
    seen = divide(histories, sft.holdback, sft.reserve, sft.min_items, seed).sft_length
    sequences = [histories.train(user)[:length] for user, length in enumerate(seen)]
    counts = transitions.Params(**sft.fill.model_dump(), list_length=settings.rl.slate_length)
    labels = SlateLabels(
        length=settings.rl.slate_length,
        horizon=settings.rl.horizon,
        history_items=sft.history_items,
        weights=corpus.objectives,
        fill_weight=sft.fill_weight,
        fill=retriever(histories, seen, counts, corpus.exclude_seen),
    )

    def draw(epoch: int) -> list[Example]:
        generator = numpy_generator(seed, "sft", epoch)
        if sft.label == "slate":
            return list(slate_examples(histories, seen, labels, generator))
        return list(history_examples(sequences, sft.history_items, sft.item_dropout, generator))

    return draw


def retriever(
    histories: Histories, seen: Ints, counts: transitions.Params, exclude_seen: bool
) -> Callable[[list[Ints], Ints], Ints]:
    """Fill slates from the transition counts of what SFT may see, leaving out what is logged or seen already."""
    matrix = transitions.transition_matrix(replace(histories, train_length=seen), counts.window)

    def fill(contexts: list[Ints], logged: Ints) -> Ints:
        hidden = [np.union1d(c, own) if exclude_seen else own for c, own in zip(contexts, logged, strict=True)]
        found = transitions.scores(matrix, contexts, counts)
        return transitions.rank_items(found, hidden, histories.train_count, counts.list_length)[0]

    return fill


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "space", "seed")
