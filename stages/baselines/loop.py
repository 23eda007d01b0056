"""The training loop of all learnt baselines: AdamW, learning rate, early stop on validation N@10, resume.

Training reads the training part alone. Of the validation items nothing is read but N@10 of the learner's lists, by
which the best epoch is chosen and training stops; of the test items nothing at all.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from stages.baselines.asked import of_users
from stages.baselines.base import Given, Learner
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
from stages.core.section import Count, NotNegative, Rate, Section, Share
from stages.core.seeding import derived_seed
from stages.core.stage import log, progress
from stages.corpus.histories import Ints
from stages.measures import accuracy

CUTOFF = 10  # of the validation measure


class Schedule(Section):
    """What the loop reads of a baseline's section."""

    epochs: Count
    """At most."""
    batch_size: Count
    """Examples per step; what an example is, the baseline says."""
    lr: Rate
    lr_warmup: Share
    """Share of the steps of all epochs over which the learning rate rises to its value."""
    lr_decay: Literal["none", "cosine"]
    """What it does then: stay, or fall to 0 at the end of the last epoch."""
    beta_2: Annotated[float, Field(gt=0, lt=1)]
    """Decay of Adam's second moment; that of the first is .9."""
    weight_decay: NotNegative
    """Decoupled (AdamW); with 0 it is Adam."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None
    """null: gradients are not clipped."""
    patience: Count
    """Looks at the validation lists without a better N@10 before training stops."""
    evaluate_every: Count
    """Epochs from one look to the next; the last epoch is always looked at."""
    valid_users: Count | None
    """Whose lists these are, drawn by seed; null: all users with a validation item."""
    list_length: Count
    """n, items per list; with fewer than the measures' cutoffs, the places behind them are misses."""


def train(learner: Learner, schedule: Schedule, given: Given, name: str) -> int:
    """Train the learner's model in place and leave it at the epoch of the best validation N@10, counted from 1.

    A run that is taken up again from a checkpoint, after an epoch or between two batches, ends with the same weights
    as an undisturbed one. name: of the baseline, for seeds and messages. Raises InputError where there is nothing to
    learn from or to judge by, and where the loss is no number.
    """
    users = given.histories.judged("valid", schedule.valid_users, given.seed)
    if not len(learner.batches(0)):
        raise InputError(f"{name}: nothing to learn from: no user has two training items")
    if not len(users):
        raise InputError(f"{name}: no validation item to judge an epoch by: no user has one")
    learner.model.to(given.device)
    trained = [weight for weight in learner.model.parameters() if weight.requires_grad]
    betas = (0.9, schedule.beta_2)
    optimizer = torch.optim.AdamW(trained, schedule.lr, betas, weight_decay=schedule.weight_decay, fused=True)
    sums = torch.zeros(2, dtype=torch.float64, device=given.device)
    run = Run(learner.model, optimizer, given.curve, sums, snapshot("best", learner.model))
    run.resume(given.checkpoint)
    while run.epoch < schedule.epochs and run.stale < schedule.patience:
        batches = learner.batches(run.epoch)
        learner.model.train()
        for batch in progress(batches[run.step :], f"{name}, epoch {run.epoch + 1}"):
            torch.manual_seed(derived_seed(given.seed, name, "step", run.epoch, run.step))
            rate = learning_rate(schedule, (run.epoch + (run.step + 0.5) / len(batches)) / schedule.epochs)
            run.sums += _one_step(learner, batch, optimizer, rate, trained, schedule.max_grad_norm)
            run.step += 1
            given.checkpoint.after_step(given.checkpoint.stop_asked, run.state)
        run.finish_epoch(name, _look(learner, schedule, given, users, run.epoch))
        given.checkpoint.after_step(given.checkpoint.stop_asked, run.state, always=True)
    given.checkpoint.steps_done()
    load_model_state("best", learner.model, run.best)
    learner.model.eval()
    log.info("%s: best epoch %d, validation N@%d %.4f", name, run.best_epoch + 1, CUTOFF, run.best_ndcg)
    return run.best_epoch + 1


def learning_rate(schedule: Schedule, done: float) -> float:
    """The rate of a step when this share of all epochs' steps is done, half of its own counted."""
    if done < schedule.lr_warmup:
        return schedule.lr * done / schedule.lr_warmup
    if schedule.lr_decay == "none":
        return schedule.lr
    return schedule.lr * (1 + math.cos(math.pi * (done - schedule.lr_warmup) / (1 - schedule.lr_warmup))) / 2


def _one_step(
    learner: Learner,
    batch: Any,
    optimizer: torch.optim.Optimizer,
    rate: float,
    trained: list[nn.Parameter],
    most: float | None,
) -> Tensor:
    """Take a step on the mean loss over the batch's targets; the sum of the losses, and how many targets [2]."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    total, count = learner.loss(batch)
    optimizer.zero_grad()
    (total / torch.where(count > 0, count, 1)).backward()  # type: ignore[no-untyped-call]
    if most is not None:
        nn.utils.clip_grad_norm_(trained, most)
    optimizer.step()
    return torch.stack([total.detach().double(), count.double()])


@torch.no_grad()
def _look(learner: Learner, schedule: Schedule, given: Given, users: Ints, epoch: int) -> dict[str, float]:
    """Recall and N@10 of the validation lists, as `evaluate` measures them; nothing where it is not the time."""
    if (epoch + 1) % schedule.evaluate_every and epoch + 1 < schedule.epochs:
        return {}
    learner.model.eval()
    asked = of_users(given.histories, "valid", users, given.exclude_seen, schedule.list_length)
    rank = accuracy.rank_of(learner.ranked(asked)[0], given.histories.valid[users])
    return {
        f"valid_recall@{CUTOFF}": float(accuracy.recall_at_rank(rank, CUTOFF).mean()),
        f"valid_ndcg@{CUTOFF}": float(accuracy.ndcg_at_rank(rank, CUTOFF).mean()),
    }


@dataclass
class Run:
    """Where a run stands: whole epochs, batches of the one it is in, the best weights so far."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    curve: Curve
    sums: Tensor  # [2] of the epoch's batches: losses and targets
    best: dict[str, Tensor]
    best_epoch: int = -1  # from 0 on
    best_ndcg: float = -1.0
    stale: int = 0  # looks since then
    epoch: int = 0
    step: int = 0

    def finish_epoch(self, name: str, found: dict[str, float]) -> None:
        """Write the epoch down, and keep its weights where they are the best. Raises InputError for a loss of NaN."""
        loss = float(self.sums[0] / self.sums[1].clamp(min=1))
        if not math.isfinite(loss):
            raise InputError(f"{name} diverged: the loss of epoch {self.epoch + 1} is {loss}; lower {name}.lr")
        self.curve.add(epoch=self.epoch + 1, train_loss=loss, **found)
        ndcg = found.get(f"valid_ndcg@{CUTOFF}")
        said = "" if ndcg is None else f", validation N@{CUTOFF} {ndcg:.4f}"
        log.info("%s: epoch %d: train loss %.4f%s", name, self.epoch + 1, loss, said)
        self.stale += ndcg is not None
        if ndcg is not None and ndcg > self.best_ndcg:
            self.best_epoch, self.best_ndcg, self.stale = self.epoch, ndcg, 0
            self.best = snapshot("best", self.model)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, torch.zeros_like(self.sums)

    def state(self) -> State:
        """What a checkpoint holds."""
        weights = {**model_state("model", self.model), **self.best}
        return {**weights, **optimizer_state(self.optimizer), "sums": self.sums}, {
            "epoch": self.epoch,
            "step": self.step,
            "best_epoch": self.best_epoch,
            "best_ndcg": self.best_ndcg,
            "stale": self.stale,
            "curve": self.curve.rows,
        }

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to the last checkpoint, if there is one."""
        if (state := checkpoint.load()) is None:
            return
        tensors, values = state
        load_model_state("model", self.model, tensors)
        load_optimizer_state(self.optimizer, tensors)
        self.best = {name: tensors[name].to(self.sums.device) for name in self.best}
        self.best_epoch, self.best_ndcg, self.stale = (values[key] for key in ("best_epoch", "best_ndcg", "stale"))
        self.epoch, self.step, self.sums = values["epoch"], values["step"], tensors["sums"].to(self.sums)
        self.curve.restore(values["curve"])
