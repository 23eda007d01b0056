"""The supervised training loop: epochs, schedule, early stop, resume."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from stages.core.checkpoints import (
    Checkpoint,
    State,
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
from stages.policy.processes import any_of, own_share, sum_gradients, total


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

    The validation loss is the mean negative log-probability (nats) of a validation item given its context. A run that
    is taken up again from a checkpoint, after an epoch or between two batches, ends with the same weights as an
    undisturbed one. Several processes share out every batch, and end with the weights of one process but for the order
    of sums.
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
    run = Run(model, optimizer, schedule, curve, torch.zeros(2, device=accelerator.device), snapshot("best", model))
    run.resume(checkpoint)
    while run.epoch < recipe.epochs and run.epoch - run.best_epoch <= recipe.patience:
        batches = epoch_batches(lessons, recipe, run.epoch)
        frozen = [weight for weight in trained if id(weight) not in new_rows] if run.epoch < recipe.align_epochs else []
        model.train()
        for batch in progress(batches[run.step :], f"epoch {run.epoch + 1}/{recipe.epochs}"):
            torch.manual_seed(derived_seed(recipe.seed, "dropout", run.epoch, run.step) + accelerator.process_index)
            run.sums = run.sums + _one_step(model, lessons, batch, optimizer, recipe, accelerator, frozen)
            schedule.step()
            run.step += 1
            checkpoint.after_step(any_of(checkpoint.stop_asked, accelerator), run.state)
        run.finish_epoch(validation.loss(model, accelerator), lessons.counts)
        checkpoint.after_step(any_of(checkpoint.stop_asked, accelerator), run.state, always=True)
    checkpoint.steps_done()
    if run.best_epoch < 0:
        raise InputError("SFT diverged: no epoch has a finite validation loss; lower the backbone's sft_lr")
    load_model_state("best", model, run.best)
    return run.best_epoch + 1


@dataclass
class Run:
    """Where a run stands: whole epochs, batches of the one it is in, the best weights so far."""

    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    curve: Curve
    sums: torch.Tensor  # [2] of the epoch's batches: weighted losses (nats), and weights
    best: dict[str, torch.Tensor]
    best_epoch: int = -1  # from 0 on
    best_loss: float = float("inf")
    epoch: int = 0
    step: int = 0

    def finish_epoch(self, valid_loss: float, counts: dict[str, int]) -> None:
        """Write the epoch down, and keep its weights where they are the best."""
        train_loss = float(self.sums[0] / self.sums[1].clamp(min=1))
        log.info("epoch %d: train loss %.4f, validation loss %.4f nats", self.epoch + 1, train_loss, valid_loss)
        self.curve.add(epoch=self.epoch + 1, train_loss=train_loss, valid_loss=valid_loss, **counts)
        if valid_loss < self.best_loss:
            self.best_epoch, self.best_loss = self.epoch, valid_loss
            self.best = snapshot("best", self.model)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, torch.zeros_like(self.sums)

    def state(self) -> State:
        """What a checkpoint holds."""
        weights = {**model_state("model", self.model), **self.best}
        return {**weights, **optimizer_state(self.optimizer), "sums": self.sums}, {
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "curve": self.curve.rows,
        }

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to the last checkpoint, if there is one."""
        if (state := checkpoint.load()) is None:
            return
        tensors, values = state
        load_model_state("model", self.model, tensors)
        load_optimizer_state(self.optimizer, tensors)
        self.schedule.load_state_dict(values["schedule"])
        for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        self.best = {name: tensors[name] for name in self.best}
        self.best_epoch, self.best_loss = values["best_epoch"], values["best_loss"]
        self.epoch, self.step, self.sums = values["epoch"], values["step"], tensors["sums"].to(self.sums)
        self.curve.restore(values["curve"])


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


def _one_step(
    model: PreTrainedModel,
    lessons: Lessons,
    batch: list[Any],
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    accelerator: Accelerator,
    frozen: list[torch.nn.Parameter],
) -> torch.Tensor:
    """Learn from one batch, leaving `frozen` as it is; the weighted sum of its losses, in nats, and of weights: [2]."""
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
    optimizer.zero_grad()
    return both
