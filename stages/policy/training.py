"""The supervised training loop: epochs, schedule, early stop, resume."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from stages.core.checkpoints import (
    Checkpoint,
    load_model_state,
    load_optimizer_state,
    model_state,
    optimizer_state,
    snapshot,
)
from stages.core.curves import Curve
from stages.core.errors import InputError
from stages.core.seeding import derived_seed, numpy_generator
from stages.core.stage import log, progress
from stages.policy import adapters
from stages.policy.lessons import Lessons, NextItems
from stages.policy.processes import own_share, sum_gradients, total


@dataclass(frozen=True)
class Recipe:
    """How to train; see the section `sft` of params.yaml."""

    epochs: int
    max_examples: int | None  # of an epoch
    batch_items: int  # items per step, padding included
    lr: float
    lr_warmup: float  # share of the steps
    weight_decay: float
    max_grad_norm: float
    patience: int  # epochs
    seed: int
    align_epochs: int = 0  # of the first epochs, in which a pretrained model learns new tokens alone


def fit(
    model: PreTrainedModel,
    lessons: Lessons,
    validation: NextItems,
    recipe: Recipe,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
    curve: Curve,
) -> int:
    """Train the model in place on the lessons and leave it at the epoch of the best validation loss, returned.

    The validation loss is the mean negative log-probability (nats) of a validation item given its context. Every epoch
    is a checkpoint; a resumed run ends with the same weights as an undisturbed one. Several processes share out every
    batch, and end with the weights of one process but for the order of sums.
    """
    steps = recipe.epochs * len(epoch_batches(lessons, recipe, 0))
    if steps == 0:
        raise InputError("no training sequence: the histories are shorter than what is held back (sft.holdback)")
    model.to(accelerator.device)
    new_rows = adapters.new_rows(model)
    if recipe.align_epochs and not new_rows:
        raise InputError("semantic_id.policy.align_epochs: the backbone has no rows of new tokens apart (lora); use 0")
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(recipe.lr_warmup * steps), steps)
    best_epoch, best_loss, first = -1, float("inf"), 0
    best = snapshot("best", model)
    if (state := checkpoint.load()) is not None:
        tensors, values = state
        load_model_state("model", model, tensors)
        load_optimizer_state(optimizer, tensors)
        schedule.load_state_dict(values["schedule"])
        for group, rate in zip(optimizer.param_groups, schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        best = {name: tensors[name] for name in best}
        best_epoch, best_loss, first = values["best_epoch"], values["best_loss"], values["epoch"] + 1
        curve.restore(values["curve"])
    for epoch in range(first, recipe.epochs):
        if epoch - best_epoch > recipe.patience:
            break
        torch.manual_seed(derived_seed(recipe.seed, "dropout", epoch) + accelerator.process_index)
        batches = progress(epoch_batches(lessons, recipe, epoch), f"epoch {epoch + 1}/{recipe.epochs}")
        frozen = [weight for weight in trained if id(weight) not in new_rows] if epoch < recipe.align_epochs else []
        train_loss = _one_epoch(model, lessons, batches, optimizer, schedule, recipe, accelerator, frozen)
        valid_loss = validation.loss(model, accelerator)
        log.info("epoch %d: train loss %.4f, validation loss %.4f nats", epoch + 1, train_loss, valid_loss)
        curve.add(epoch=epoch + 1, train_loss=train_loss, valid_loss=valid_loss, **lessons.counts)
        if valid_loss < best_loss:
            best_epoch, best_loss = epoch, valid_loss
            best = snapshot("best", model)
        if accelerator.is_main_process:
            checkpoint.save(
                {**model_state("model", model), **best, **optimizer_state(optimizer)},
                {
                    "schedule": schedule.state_dict(),
                    "epoch": epoch,
                    "best_epoch": best_epoch,
                    "best_loss": best_loss,
                    "curve": curve.rows,
                },
            )
    if best_epoch < 0:
        raise InputError("SFT diverged: no epoch has a finite validation loss; lower the backbone's sft_lr")
    load_model_state("best", model, best)
    return best_epoch + 1


def epoch_batches(lessons: Lessons, recipe: Recipe, epoch: int) -> list[list[Any]]:
    """Batches of like sizes, padded to at most `batch_items` items each, in an order drawn from (seed, epoch).

    Batches of equally many items, not rows: little is padded, and a step on short histories weighs as much as one on
    long ones.
    """
    examples, generator = lessons.epoch(epoch), numpy_generator(recipe.seed, "order", epoch)
    order = generator.permutation(len(examples))[: recipe.max_examples]
    size = np.array([lessons.size(examples[index]) for index in order])
    batches: list[list[Any]] = []
    width = 0
    for place in np.argsort(-size, kind="stable"):
        if not batches or (len(batches[-1]) + 1) * width > recipe.batch_items:
            batches.append([])
            width = max(1, int(size[place]))
        batches[-1].append(examples[order[place]])
    return [batches[index] for index in generator.permutation(len(batches))]


def _one_epoch(
    model: PreTrainedModel,
    lessons: Lessons,
    batches: Iterable[list[Any]],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
    accelerator: Accelerator,
    frozen: list[torch.nn.Parameter],
) -> float:
    """One pass over the batches, which leaves `frozen` as it is; the weighted mean loss per token, in nats."""
    model.train()
    sums = torch.zeros(2, device=accelerator.device)
    for batch in batches:
        loss = weight = torch.zeros((), device=accelerator.device)
        if own := [example for _, example in own_share(batch, accelerator)]:
            with accelerator.autocast():
                loss, weight = lessons.loss(model, own)
        both = total(torch.stack([loss.detach(), weight.to(loss)]), accelerator)
        if own:
            accelerator.backward(loss / both[1].clamp(min=1))  # 0 where nothing in the batch may be recommended
        sum_gradients(model.parameters(), accelerator)
        for still in frozen:
            still.grad = None  # which AdamW passes over
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        sums += both
    return float(sums[0] / sums[1].clamp(min=1))
