"""Supervised fine-tuning: a language model learns to write the items of a history in the chosen action space.

Trains on the training part less what RL and its reserve keep (stages/corpus/reserve.py), judges each epoch by the loss
on the validation items and keeps the best. Writes models/<dataset>/<space>/warmup/seed-<n> and its curve. Interrupted,
it goes on from the last whole epoch when it is started again with the same parameters, inputs and code.
Left out: several processes; one process uses one GPU, or the CPU.

    python -m stages.sft --dataset ml-100k --space semantic_id --seed 1
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stages.baselines import transitions
from stages.core import params, paths, stage
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.files import fresh_folder
from stages.core.params import Params
from stages.core.provenance import cell_fingerprint, made_by
from stages.core.sections import Corpus
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, Ints, load
from stages.corpus.reserve import divide
from stages.policy import backbone, training
from stages.policy.device import accelerator
from stages.policy.supervised import Example, SlateLabels, history_examples, slate_examples


def main(dataset: str, space: str, seed: int) -> None:
    settings = params.load()
    sft, body, corpus = settings.sft, settings.backbone, settings.corpus(dataset)
    histories = load(paths.corpus(dataset))
    spelling = params.load_module("action_spaces", space, "--space")
    actions = spelling.Actions(paths.actions(dataset, space), histories.item_count)
    model = backbone.create(body, actions.vocabulary, seed)
    stage.log.info("%s parameters, %d tokens", f"{model.num_parameters():,}", actions.vocabulary)
    judged = np.flatnonzero(histories.valid >= 0)
    contexts = [histories.context(user, "valid") for user in judged]
    recipe = training.Recipe(
        label=sft.label,
        epochs=sft.epochs,
        batch_items=sft.batch_items,
        lr=body.sft_lr,
        warmup=sft.warmup,
        weight_decay=sft.weight_decay,
        max_grad_norm=sft.max_grad_norm,
        patience=sft.patience,
        seed=seed,
    )
    coordinates = {"dataset": dataset, "space": space, "seed": seed}
    checkpoint = Checkpoint(*cell_fingerprint("sft", coordinates))
    curve = Curve(paths.curve(dataset, paths.row(space, "warmup"), seed))
    best_epoch = training.fit(
        model,
        actions,
        epoch_examples(histories, settings, corpus, seed),
        training.next_item_examples(contexts, histories.valid[judged], sft.history_items, corpus.exclude_seen),
        recipe,
        accelerator(body.precision),
        checkpoint,
        curve,
    )
    with fresh_folder(paths.model(dataset, space, "warmup", seed)) as folder:
        backbone.save(model, backbone.Card(sft.label, actions.fingerprint, made_by("sft", coordinates)), folder)
    checkpoint.drop()
    stage.log.info("best epoch %d, validation loss %s", best_epoch, min(row["valid_loss"] for row in curve.rows))


def epoch_examples(histories: Histories, settings: Params, corpus: Corpus, seed: int) -> Callable[[int], list[Example]]:
    """The examples of an epoch, drawn from (seed, epoch) by the label that params.yaml names."""
    sft, slate_length = settings.sft, settings.rl.slate_length
    seen = divide(histories, sft.holdback, sft.reserve, sft.min_items, seed).sft_length
    if sft.label == "slate":
        counts = transitions.Params(**sft.fill.model_dump(), list_length=slate_length)
        fill = retriever(histories, seen, counts)
        plan = SlateLabels(
            slate_length, sft.label_horizon, sft.history_items, sft.fill_weight, corpus.exclude_seen, fill
        )
        return lambda epoch: list(slate_examples(histories, seen, plan, numpy_generator(seed, "sft", epoch)))
    sequences = [histories.train(user)[:length] for user, length in enumerate(seen)]
    ties = [histories.train_ties(user)[:length] for user, length in enumerate(seen)] if corpus.shuffle_ties else None
    window = sft.history_items + slate_length  # a prompt and the slate behind it: no position is new at inference
    return lambda epoch: list(
        history_examples(
            sequences, ties, window, sft.item_dropout, corpus.exclude_seen, numpy_generator(seed, "sft", epoch)
        )
    )


def retriever(histories: Histories, seen: Ints, counts: transitions.Params) -> Callable[[list[Ints], Ints], Ints]:
    """Fill slates from the transition counts of what SFT may see, leaving out what is logged or in the context."""
    visible = replace(histories, train_length=seen)
    matrix = transitions.transition_matrix(visible, counts.window)
    shown = np.concatenate([visible.train(user) for user in range(len(seen))])
    popularity = np.bincount(shown, minlength=histories.item_count)

    def fill(contexts: list[Ints], logged: Ints) -> Ints:
        hidden = [np.union1d(context, own) for context, own in zip(contexts, logged, strict=True)]
        found = transitions.scores(matrix, contexts, counts)
        return transitions.rank_items(found, hidden, popularity, counts.list_length)[0]

    return fill


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "space", "seed")
