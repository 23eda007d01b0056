"""Supervised fine-tuning: a language model learns to write recommendations in the chosen action space.

Trains on the training part less what RL and its reserve keep (stages/corpus/reserve.py), judges each epoch by the loss
on the validation items and keeps the best. Writes models/<dataset>/<space>/warmup/seed-<n>, its curve and metrics.
Interrupted, it goes on from its last checkpoint when it is started again with the same parameters, inputs and code
(docs/runs.md). With SAGE_PROCESSES=n in the environment, n processes share out every batch.

    python -m stages.sft --dataset ml-100k --space semantic_id --seed 1
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from stages.action_spaces.base import ActionSpace, Asking
from stages.baselines import transitions
from stages.core import params, paths, stage
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.errors import InputError, one_of
from stages.core.files import fresh_folder, write_json
from stages.core.params import Params
from stages.core.provenance import MODELS, fingerprint, made_by, provenance
from stages.corpus.histories import Histories, Ints, load
from stages.corpus.reserve import divide
from stages.corpus.task_samples import Logs, drawn_samples
from stages.corpus.tasks import tasks_of
from stages.policy import backbone, training
from stages.policy.device import accelerator
from stages.policy.history_label import HistoryLessons
from stages.policy.item_lessons import ItemLessons, MixedLessons
from stages.policy.lessons import Lessons, NextItems
from stages.policy.slate_label import SlateLessons
from stages.policy.task_lessons import TaskLessons


def main(dataset: str, space: str, seed: int) -> None:
    train(params.load().on(space), dataset, space, seed, ("sft", {"dataset": dataset, "space": space, "seed": seed}))


def train(
    settings: Params,
    dataset: str,
    space: str,
    seed: int,
    cell: tuple[str, dict[str, str | int]],
    name: str = "warmup",
    more: Callable[[ActionSpace, Asking, Histories], Lessons] | None = None,
) -> None:
    """Train a cell's policy, on `more` lessons beside its own, and write it under a name."""
    sft, body, source = settings.sft, settings.backbone, paths.backbone(settings.axes.backbone)
    histories = load(paths.corpus(dataset))
    machine = accelerator(body.precision)
    spelling = params.load_module("action_spaces", space, "--space")
    tokenizer = backbone.tokenizer(source)
    actions = spelling.Actions(paths.actions(dataset, space), histories, tokenizer, settings.policy).to(machine.device)
    histories = actions.histories  # those of shared ids have one item for each
    label = sft.label or actions.LABELS[0]
    one_of("sft.label", label, list(actions.LABELS), f"labels of {space}")
    asking = Asking(label, sft.history_items, settings.corpus(dataset).exclude_seen, settings.rl.slate_length)
    model = backbone.create(body, source, actions.new_tokens, seed)
    stage.log.info("%s parameters, %d new tokens", f"{model.num_parameters():,}", actions.new_tokens)
    recipe = training.Recipe(
        epochs=sft.epochs,
        max_examples=sft.max_examples,
        batch_items=sft.batch_items,
        lr=body.sft_lr,
        lr_warmup=sft.lr_warmup,
        weight_decay=sft.weight_decay,
        max_grad_norm=sft.max_grad_norm,
        patience=sft.patience,
        seed=seed,
        align_epochs=getattr(settings.policy, "align_epochs", 0),
    )
    taught = lessons(histories, settings, dataset, actions, asking, seed)
    taught = with_items(taught, settings.policy, histories, tokenizer)
    taught = with_tasks(taught, settings, dataset, histories, actions, paths.actions(dataset, space), asking, seed)
    if more:
        taught = MixedLessons([taught, more(actions, asking, histories)])
    origin = provenance(*cell, MODELS)
    checkpoint = Checkpoint(*fingerprint(origin))
    checkpoint.claim()
    curve = Curve(paths.curve(dataset, paths.row(space, name), seed))
    best_epoch = training.fit(
        model,
        taught,
        NextItems(actions, asking, histories, sft.valid_users, seed),
        recipe,
        machine,
        checkpoint,
        curve,
    )
    if not machine.is_main_process:
        return
    with fresh_folder(paths.model(dataset, space, name, seed)) as folder:
        backbone.save(model, backbone.Card(label, actions.fingerprint, made_by(origin)), folder)
    found = {"best_epoch": best_epoch, "valid_loss": min(row["valid_loss"] for row in curve.rows)}
    told = {**found, "provenance": origin}
    write_json(paths.sft_metrics(dataset, paths.row(space, name), seed), told)
    checkpoint.drop()
    stage.log.info("best epoch %d, validation loss %s", *found.values())


def lessons(
    histories: Histories, settings: Params, dataset: str, space: ActionSpace, asking: Asking, seed: int
) -> Lessons:
    """What SFT learns from, under the label that is asked for."""
    sft, corpus = settings.sft, settings.corpus(dataset)
    seen = divide(histories, sft.holdback, sft.reserve, sft.min_items, seed).sft_length
    if asking.label == "history":
        users = range(histories.user_count)
        return HistoryLessons(
            space,
            sequences=[histories.train(user)[: seen[user]] for user in users],
            ties=[histories.train_ties(user)[: seen[user]] for user in users] if corpus.shuffle_ties else None,
            window=sft.history_items + asking.slate_length,  # a prompt and the slate behind it: no position is new then
            dropout=sft.item_dropout,
            exclude_seen=asking.exclude_seen,
            seed=seed,
        )
    counts = transitions.Params(**sft.fill.model_dump(), list_length=asking.slate_length)
    return SlateLessons(
        space,
        asking,
        histories,
        lengths=seen,
        horizon=sft.label_horizon,
        fill_weight=sft.fill_weight,
        fill=retriever(histories, seen, counts),
        objectives=corpus.objectives,
        seed=seed,
    )


def with_items(
    taught: Lessons, policy: Any, histories: Histories, tokenizer: PreTrainedTokenizerBase | None
) -> Lessons:
    """Mix in what ties Semantic IDs to titles, where the action space asks for it."""
    to_id, to_title = getattr(policy, "title_to_id", 0.0), getattr(policy, "id_to_title", 0.0)
    if not to_id and not to_title:
        return taught
    if tokenizer is None:
        raise InputError(
            "semantic_id.policy: title_to_id and id_to_title need a pretrained backbone, with tokens for titles; use 0"
        )
    titles = histories.items["title"].to_pylist()
    return MixedLessons([taught, ItemLessons.of(taught.space, tokenizer, titles, to_id, to_title)])


def with_tasks(
    taught: Lessons,
    settings: Params,
    dataset: str,
    histories: Histories,
    actions: Any,
    folder: Path,
    asking: Asking,
    seed: int,
) -> Lessons:
    """Mix in the tasks of a corpus that has some: the samples in the action space's folder where those have pools."""
    asked, sft = tasks_of(paths.corpus(dataset)), settings.sft
    if asked is None or actions.answers is None:
        return taught
    if (drawn := drawn_samples(folder)) is not None:
        return MixedLessons([taught, TaskLessons(actions, drawn, asking.history_items)])
    seen = divide(histories, sft.holdback, sft.reserve, sft.min_items, seed).sft_length
    logs = Logs.of(histories, asked, seen, actions.standing_for)
    return MixedLessons([taught, TaskLessons(actions, partial(logs.epoch, seed), asking.history_items)])


def retriever(histories: Histories, seen: Ints, counts: transitions.Params) -> Callable[[Ints, Ints], Sequence[Ints]]:
    """Fill slates from the transition counts of what SFT may see, leaving out what is logged or in the context."""

    @cache  # pools, where there are any, fill in its stead
    def counted() -> tuple[Any, Ints]:
        visible = replace(histories, train_length=seen)
        shown = np.concatenate([visible.train(user) for user in range(len(seen))])
        return transitions.transition_matrix(visible, counts.window), np.bincount(shown, minlength=histories.item_count)

    def fill(contexts: Ints, logged: Ints) -> Sequence[Ints]:
        matrix, popularity = counted()
        known = histories.items_before(contexts)
        hidden = [np.union1d(items, own) for items, own in zip(known, logged, strict=True)]
        return transitions.rank_items(
            transitions.scores(matrix, known, counts), hidden, popularity, counts.list_length
        )[0]

    return fill


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "space", "seed", shared_out=True)
