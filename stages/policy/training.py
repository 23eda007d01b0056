"""The supervised training loop: epochs, schedule, early stop, resume. One process or several, by accelerate."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from stages.action_spaces.base import ActionSpace
from stages.core.checkpoints import Checkpoint, load_model_state, load_optimizer_state, model_state, optimizer_state
from stages.core.curves import Curve
from stages.core.seeding import derived_seed, numpy_generator
from stages.core.stage import log
from stages.policy.supervised import Batch, Example, collate, loss_sum

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """How to train; see the section `sft` of params.yaml."""

    label: str
    epochs: int
    batch_size: int  # sequences per step, over all processes
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
    progress: Callable[[Iterable[Batch], str, int], Iterator[Batch]],
) -> int:
    """Train the model in place on `examples(epoch)` and leave it at the epoch of the best validation loss, returned.

    The validation loss is the mean negative log-probability (nats) of a validation item given its context. Every epoch
    is a checkpoint; a resumed run ends with the same weights as an undisturbed one.
    """
    steps = recipe.epochs * (len(examples(0)) // recipe.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(recipe.warmup * steps), steps)
    best_epoch, best_loss, first = -1, float("inf"), 0
    best = {name: weight.detach().clone() for name, weight in model_state("best", model).items()}
    if (state := checkpoint.load()) is not None:
        tensors, values = state
        load_model_state("model", model, tensors)
        load_optimizer_state(optimizer, tensors)
        schedule.load_state_dict(values["schedule"])
        for group, rate in zip(optimizer.param_groups, schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        best = {name: tensors[name] for name in best}
        best_epoch, best_loss, first = values["best_epoch"], values["best_loss"], values["epoch"] + 1
        curve.rows = values["curve"]
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    space.trie.to(accelerator.device)
    for epoch in range(first, recipe.epochs):
        if epoch - best_epoch > recipe.patience:
            break
        torch.manual_seed(derived_seed(recipe.seed, "dropout", epoch))
        batches = epoch_batches(examples(epoch), space, recipe, epoch, accelerator)
        train_loss = _one_epoch(wrapped, space, progress(*batches), optimizer, schedule, recipe, accelerator)
        valid_loss = evaluate(model, space, validation, recipe.label)
        log.info("epoch %d: train loss %.4f, validation loss %.4f nats", epoch + 1, train_loss, valid_loss)
        curve.add(epoch=epoch + 1, train_loss=train_loss, valid_loss=valid_loss)
        if valid_loss < best_loss:
            best_epoch, best_loss = epoch, valid_loss
            best = {name: weight.detach().clone() for name, weight in model_state("best", model).items()}
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
    load_model_state("best", model, best)
    return best_epoch + 1


def epoch_batches(
    examples: list[Example], space: ActionSpace, recipe: Recipe, epoch: int, accelerator: Accelerator
) -> tuple[Iterator[Batch], str, int]:
    """Share global batches among the processes: own parts, a name, their number.

    A batch holds sequences of like length, so that little is padded; the batches come in random order. What does not
    fill the last batch is left out, the shortest sequences.
    """
    generator = numpy_generator(recipe.seed, "order", epoch)
    order = generator.permutation(len(examples))
    length = np.array([len(examples[index].context) + len(examples[index].targets) for index in order])
    count = len(examples) // recipe.batch_size
    whole = order[np.argsort(-length, kind="stable")][: count * recipe.batch_size].reshape(count, -1)
    whole = whole[generator.permutation(count)]

    def batches() -> Iterator[Batch]:
        for batch in whole:
            own = batch[accelerator.process_index :: accelerator.num_processes]
            yield collate([examples[index] for index in own], space, recipe.label)

    return batches(), f"epoch {epoch + 1}/{recipe.epochs}", count


def _one_epoch(
    model: torch.nn.Module,
    space: ActionSpace,
    batches: Iterator[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
    accelerator: Accelerator,
) -> float:
    """One pass over the batches; the mean loss per token, in nats, over all processes."""
    model.train()
    total = torch.zeros(2, device=accelerator.device)
    for batch in batches:
        with accelerator.autocast():
            loss = loss_sum(model, batch.to(accelerator.device), space)
        part = torch.stack([loss.detach(), batch.weights.sum().to(loss)])
        whole = accelerator.reduce(part, "sum")
        total += whole
        # the processes' gradients are averaged: scaled so that their mean is the gradient of the global token mean
        accelerator.backward(loss * accelerator.num_processes / whole[1])
        accelerator.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return float(total[0] / total[1])


@torch.no_grad()
def evaluate(model: PreTrainedModel, space: ActionSpace, examples: list[Example], label: str) -> float:
    """Mean over examples of the negative log-probability (nats) of all their targets."""
    model.eval()
    total = 0.0
    for start in range(0, len(examples), EVALUATION_BATCH):
        batch = collate(examples[start : start + EVALUATION_BATCH], space, label).to(model.device)
        total += float(loss_sum(model, batch, space))
    return total / len(examples)


def next_item_examples(contexts: list[np.ndarray], targets: np.ndarray, history_items: int) -> list[Example]:
    """One target behind each context, for `evaluate`."""
    one = np.ones(1, np.float32)
    return [Example(context[-history_items:], targets[i : i + 1], one) for i, context in enumerate(contexts)]
