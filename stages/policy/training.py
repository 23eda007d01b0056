"""The supervised training loop: epochs, schedule, early stop, resume."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from stages.action_spaces.base import ActionSpace
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
from stages.policy.supervised import Example, collate, loss_sum

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """How to train; see the section `sft` of params.yaml."""

    label: str
    epochs: int
    batch_items: int  # items per step, padding included
    lr: float
    warmup: float  # share of the steps
    weight_decay: float
    max_grad_norm: float
    patience: int  # epochs
    seed: int


def fit(
    model: PreTrainedModel,
    space: ActionSpace,
    examples: Callable[[int], list[Example]],
    validation: list[Example],
    recipe: Recipe,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
    curve: Curve,
) -> int:
    """Train the model in place on `examples(epoch)` and leave it at the epoch of the best validation loss, returned.

    The validation loss is the mean negative log-probability (nats) of a validation item given its context. Every epoch
    is a checkpoint; a resumed run ends with the same weights as an undisturbed one.
    """
    steps = recipe.epochs * len(epoch_batches(examples(0), recipe, 0))
    if steps == 0:
        raise InputError("no training sequence: the histories are shorter than what is held back (sft.holdback)")
    model.to(accelerator.device)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(recipe.warmup * steps), steps)
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
    space.to(accelerator.device)
    for epoch in range(first, recipe.epochs):
        if epoch - best_epoch > recipe.patience:
            break
        torch.manual_seed(derived_seed(recipe.seed, "dropout", epoch))
        batches = progress(epoch_batches(examples(epoch), recipe, epoch), f"epoch {epoch + 1}/{recipe.epochs}")
        train_loss = _one_epoch(model, space, batches, optimizer, schedule, recipe, accelerator)
        valid_loss = evaluate(model, space, validation, recipe.label)
        log.info("epoch %d: train loss %.4f, validation loss %.4f nats", epoch + 1, train_loss, valid_loss)
        curve.add(epoch=epoch + 1, train_loss=train_loss, valid_loss=valid_loss)
        if valid_loss < best_loss:
            best_epoch, best_loss = epoch, valid_loss
            best = snapshot("best", model)
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


def epoch_batches(examples: list[Example], recipe: Recipe, epoch: int) -> list[list[Example]]:
    """Batches of like lengths, padded to at most `batch_items` items each, in an order drawn from (seed, epoch).

    Batches of equally many items, not rows: little is padded, and a step on short histories weighs as much as one on
    long ones.
    """
    generator = numpy_generator(recipe.seed, "order", epoch)
    order = generator.permutation(len(examples))
    length = np.array([len(examples[index].context) + len(examples[index].targets) for index in order])
    batches: list[list[Example]] = []
    width = 0
    for place in np.argsort(-length, kind="stable"):
        if not batches or (len(batches[-1]) + 1) * width > recipe.batch_items:
            batches.append([])
            width = max(1, int(length[place]))
        batches[-1].append(examples[order[place]])
    return [batches[index] for index in generator.permutation(len(batches))]


def _one_epoch(
    model: PreTrainedModel,
    space: ActionSpace,
    batches: Iterable[list[Example]],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
    accelerator: Accelerator,
) -> float:
    """One pass over the batches; the weighted mean loss per token, in nats."""
    model.train()
    total = torch.zeros(2, device=accelerator.device)
    for rows in batches:
        batch = collate(rows, space, recipe.label).to(accelerator.device)
        with accelerator.autocast():
            loss = loss_sum(model, batch, space)
        weight = batch.weight.sum().to(loss) * space.trie.depth
        accelerator.backward(loss / weight.clamp(min=1))  # 0 where nothing in the batch may be recommended
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += torch.stack([loss.detach(), weight])
    return float(total[0] / total[1].clamp(min=1))


@torch.no_grad()
def evaluate(model: PreTrainedModel, space: ActionSpace, examples: list[Example], label: str) -> float:
    """Mean over examples of the negative log-probability (nats) of all their targets, read in order of length."""
    model.eval()
    total, examples = 0.0, sorted(examples, key=lambda example: len(example.context) + len(example.targets))
    for start in range(0, len(examples), EVALUATION_BATCH):
        batch = collate(examples[start : start + EVALUATION_BATCH], space, label).to(model.device)
        total += float(loss_sum(model, batch, space))
    return total / len(examples)


def next_item_examples(
    contexts: list[np.ndarray], targets: np.ndarray, history_items: int, exclude_seen: bool
) -> list[Example]:
    """One target behind each context, for `evaluate`; where seen items are excluded, of those not seen.

    Raises InputError where none is left.
    """
    one, examples = np.ones(1, np.float32), []
    for index, context in enumerate(contexts):
        if not (exclude_seen and targets[index] in context):
            shown = context[-history_items:]
            known = np.setdiff1d(context, shown) if exclude_seen else None
            examples.append(Example(shown, targets[index : index + 1], one, known))
    if not examples:
        raise InputError("no validation item to judge SFT by: no user has one that may be recommended")
    return examples
