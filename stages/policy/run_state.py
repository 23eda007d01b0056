"""Where an RL run stands: its curves, its best policy so far, and how it is taken up again after a stop."""

from dataclasses import dataclass, field

from torch import Tensor

from stages.core.checkpoints import (
    Checkpoint,
    load_model_state,
    load_optimizer_state,
    model_state,
    optimizer_state,
    snapshot,
)
from stages.core.curves import Curve
from stages.policy.algorithm import Learner
from stages.policy.heldout import Watch


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

    def look(self, watch: Watch, step: int) -> None:
        """Judge the policy after `step` steps, keep it if it is the best, and make a checkpoint."""
        found = watch.look(self.learner, step)
        if step > 0 and found["selection_reward"] > self.best_reward:
            self.best_reward = found["selection_reward"]
            self.best = snapshot("best", self.learner.model)
        self.heldout.add(step=step, **found)
        self.step = step
        self.checkpoint.save(
            {
                **model_state("model", self.learner.model),
                **self.best,
                **optimizer_state(self.learner.optimizer),
            },
            {
                "step": step,
                "best_reward": self.best_reward if self.best else None,
                "entropy_mean": self.learner.entropy_mean.value,
                "curve": self.curve.rows,
                "heldout": self.heldout.rows,
            },
        )

    def resume(self) -> None:
        """Go back to the last look, if there was one."""
        if (state := self.checkpoint.load()) is None:
            return
        tensors, values = state
        load_model_state("model", self.learner.model, tensors)
        load_optimizer_state(self.learner.optimizer, tensors)
        self.best = {name: tensor for name, tensor in tensors.items() if name.startswith("best.")}
        self.best_reward = values["best_reward"] if self.best else float("-inf")
        self.learner.entropy_mean.value = values["entropy_mean"]
        self.step = values["step"]
        self.curve.restore(values["curve"])
        self.heldout.restore(values["heldout"])

    def restore_best(self) -> None:
        """Put the best policy into the model; a run without a step keeps what it started from."""
        if self.best:
            load_model_state("best", self.learner.model, self.best)


SHARES = ("at_upper_bound", "at_lower_bound", "bounded_rewarded", "bounded_rejected")
SHOWN = (*SHARES, "bound_share_max", "no_signal_share", "gbpo_cosine", "kl", "ratio_q05", "ratio_q95")
MOSTLY = 0.5  # share of groups without signal from which on a run says little


def summary(rows: list[dict[str, float | int | str]]) -> dict[str, object]:
    """A run in at most 10 scalars, means over its steps, and why it compares no optimizers, where it does not.

    `no_comparison` is a list, empty for a run that does: without bounds that act an optimizer is its advantages alone,
    and groups without signal teach nothing. A run without a step has nothing to say.
    """
    values = {name: [float(row[name]) for row in rows if row.get(name) not in (None, "")] for name in SHOWN}
    found: dict[str, object] = {name: sum(own) / len(own) for name, own in values.items() if own}
    if "no_signal_share" not in found:
        return {}
    reasons = []
    if not any(values["bound_share_max"]):
        reasons.append("no bound ever acted")
    if sum(values["no_signal_share"]) > MOSTLY * len(values["no_signal_share"]):
        reasons.append("most groups carried no signal")
    return {**found, "no_comparison": reasons}
