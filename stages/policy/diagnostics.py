"""What a run of RL says of itself: a rollout's updates as one row of the curve, and the curve as one row of a table."""

import torch
from torch import Tensor

BOUND_SHARES = ("at_upper_bound", "at_lower_bound", "at_dual_clip", "bounded_rewarded", "bounded_rejected")
"""Shares of samples whose gradient a bound stops or lessens: PPO's clip fraction, but of those with A > 0, or A < 0."""

SHOWN = (
    *(name for name in BOUND_SHARES if name != "at_dual_clip"),
    *("bound_share_max", "no_signal_share", "gbpo_cosine", "kl", "ratio_q05", "ratio_q95"),
)
CORRELATION, AND = "correlation_", "~"  # correlation_click~like: a column of the curve
MOSTLY = 0.5  # share of groups without signal from which on a run says little


def of_rollout(steps: list[dict[str, Tensor]], minibatches: int) -> dict[str, Tensor]:
    """What a rollout's optimizer steps, in order, come to: the means over the last update's minibatches.

    The ratio's extremes are those of that update; what only the last minibatch knows, such as the cosine, is its own.
    `bound_share_max` is the largest share at any bound in all of the updates.
    """
    update = steps[-minibatches:]
    reduce = {"ratio_min": torch.min, "ratio_max": torch.max}
    found = {name: reduce.get(name, torch.mean)(torch.stack([step[name] for step in update])) for name in update[0]}
    found |= {name: value for name, value in update[-1].items() if name not in found}
    shares = [step[name] for step in steps for name in BOUND_SHARES if name in step]
    found["bound_share_max"] = torch.stack(shares).max() if shares else torch.zeros_like(next(iter(found.values())))
    return found


def of_run(rows: list[dict[str, float | int | str]]) -> dict[str, object]:
    """A run in at most 9 scalars, and why it compares no optimizers, where it does not.

    Means over its steps; `kl` over its looks at the reserve, where it is known whatever its weight in the loss.
    `no_comparison` is a list, empty for a run that does: without bounds that act an optimizer is its advantages alone,
    and groups without signal teach nothing. `correlations` lists how each two objectives go together over a rollout's
    slates.
    """
    looks = [row for row in rows if "gbpo_cosine" in row]  # where every optimizer knows its divergence
    values = {name: _column(looks if name == "kl" else rows, name) for name in SHOWN}
    found: dict[str, object] = {name: sum(own) / len(own) for name, own in values.items() if own}
    if "no_signal_share" not in found:
        return {"no_comparison": ["no step of RL"]}
    reasons = []
    if not any(values["bound_share_max"]):
        reasons.append("no bound ever acted")
    if sum(values["no_signal_share"]) > MOSTLY * len(values["no_signal_share"]):
        reasons.append("most groups carried no signal")
    return {**found, "correlations": _correlations(rows), "no_comparison": reasons}


def _correlations(rows: list[dict[str, float | int | str]]) -> list[list[str | float]]:
    """Pairs of objectives and their correlation, mean over the steps in which both vary."""
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(CORRELATION))
    values = {name: _column(rows, name) for name in names}
    return [[*name.removeprefix(CORRELATION).split(AND), sum(own) / len(own)] for name, own in values.items()]


def _column(rows: list[dict[str, float | int | str]], name: str) -> list[float]:
    """The values of one column; a row may lack it, or hold no number."""
    return [float(row[name]) for row in rows if row.get(name) not in (None, "")]
