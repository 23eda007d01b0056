"""Where an RL run stands: its curves, its best policy so far, and how it is taken up again after a stop."""

from dataclasses import dataclass, field

from torch import Tensor

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
from stages.policy.algorithm import Learner
from stages.policy.heldout import Watch
from stages.policy.processes import any_of

PUBLISHED = ("heldout_reward", "heldout_greedy_reward")


@dataclass
class RunState:
    """Steps done, and the best policy by the selection half's greedy reward, looks after the first step only."""

    learner: Learner
    checkpoint: Checkpoint
    curve: Curve
    heldout: Curve
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_reward: float = float("-inf")
    best_step: int = 0

    def look(self, watch: Watch, step: int) -> None:
        """Judge the policy after `step` steps and keep it if it is the best."""
        found = watch.look(self.learner, step)
        if step > 0 and found["selection_reward"] > self.best_reward:
            self.best_reward, self.best_step = found["selection_reward"], step
            self.best = snapshot("best", self.learner.model)
        self.heldout.add(step=step, **found)

    def after_step(self, step: int, looked: bool) -> None:
        """Count a step; save after a look and where it is time, and stop where a process was asked to."""
        self.step = step
        stop = any_of(self.checkpoint.stop_asked, self.learner.accelerator)
        self.checkpoint.after_step(stop, self._state, always=looked)

    def _state(self) -> State:
        return {
            **model_state("model", self.learner.model),
            **self.best,
            **optimizer_state(self.learner.optimizer),
        }, {
            "step": self.step,
            "best_reward": self.best_reward if self.best else None,
            "best_step": self.best_step,
            "entropy_mean": self.learner.entropy_mean.value,
            "curve": self.curve.rows,
            "heldout": self.heldout.rows,
            "harvest": self.learner.harvest.rows() if self.learner.harvest else [],
        }

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        if (state := self.checkpoint.load()) is None:
            return
        tensors, values = state
        load_model_state("model", self.learner.model, tensors)
        load_optimizer_state(self.learner.optimizer, tensors)
        self.best = {name: tensor for name, tensor in tensors.items() if name.startswith("best.")}
        self.best_reward = values["best_reward"] if self.best else float("-inf")
        self.best_step = values["best_step"]
        self.learner.entropy_mean.value = values["entropy_mean"]
        self.step = values["step"]
        self.curve.restore(values["curve"])
        self.heldout.restore(values["heldout"])
        if self.learner.harvest:
            self.learner.harvest.restore(values["harvest"])

    def published(self) -> dict[str, float | int | str]:
        """Which step the best policy is of, 0 for a run without one, and its rewards on the reporting half."""
        (row,) = (row for row in self.heldout.rows if row["step"] == self.best_step)
        return {"published_step": self.best_step, **{name: row[name] for name in PUBLISHED}}

    def restore_best(self) -> None:
        """Put the best policy into the model; a run without a step keeps what it started from."""
        if self.best:
            load_model_state("best", self.learner.model, self.best)
