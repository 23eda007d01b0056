"""Ten steps of optimisation on a small problem, against curves kept in tests/golden: the maths stays what it was.

The policy is a table of logits, one row per user and position of a token; what it samples is its own inverse
distribution function at fixed numbers, so that nothing is drawn. Two rollouts of five updates at a large step, in
float64: ratios leave every bound.

A curve changes only in a commit that says why. To renew them, from the repository's root:

    python -m tests.test_golden_curves
"""

import csv
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.objectives import gbpo, grpo, sage
from stages.objectives.terms import ScoredSlates

FOLDER = Path(__file__).parent / "golden"
USERS, GROUP, LENGTH, DEPTH, CODES = 3, 6, 2, 2, 3
ROLLOUTS, UPDATES = 2, 5
STEP = {"grpo": 6.0, "gbpo": 6.0, "sage": 1.5}  # a token's share of the gradient is 1/T, and 1/L in SAGE
WEIGHTS = torch.tensor([1.0, 0.5], dtype=torch.float64)
OWN = {"lr": None, "kl": None}
OPTIMIZERS: dict[str, tuple[ModuleType, Any]] = {
    "grpo": (grpo, grpo.Params(eps_clip=0.2, **OWN)),
    "gbpo": (gbpo, gbpo.Params(level="token", **OWN)),
    "sage": (
        sage,
        sage.Params(
            form="surrogate",
            eps_boost=0.3,
            beta=0.5,
            eps_clip=0.2,
            dual_clip=None,
            ratio_norm="item",
            decouple=True,
            **OWN,
        ),
    ),
}
SINGLE = ("ratio_q05", "ratio_q95")  # quantiles are taken in float32


def sample(log_probs: Tensor, rollout: int) -> Tensor:
    """Tokens [B, K, T] of the policy [B, T, V] at fixed numbers, those of one rollout."""
    count = USERS * GROUP * LENGTH * DEPTH
    index = torch.arange(rollout * count + 1, (rollout + 1) * count + 1, dtype=torch.float64)
    uniform = (index * 0.6180339887498949).frac().view(USERS, GROUP, LENGTH * DEPTH)  # the golden ratio's sequence
    below = log_probs.detach().exp().cumsum(-1)[:, None, :, :-1]
    return (uniform[..., None] > below).sum(-1)


def rewards(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """R_0: share of items that are the user's; R_1: share whose first code is 2. And H of the first codes, in bits."""
    codes = tokens.unflatten(-1, (LENGTH, DEPTH))
    user = torch.arange(USERS)[:, None, None]
    hits = ((codes[..., 0] == user) & (codes[..., 1] == (user + 1) % CODES)).double().mean(-1)
    entropy = (codes[:, :, 0, 0] != codes[:, :, 1, 0]).double()  # two items: 1 bit or none
    return torch.stack([hits, (codes[..., 0] == 2).double().mean(-1)], -1), entropy


def expected_reward(log_probs: Tensor) -> float:
    """Mean over users of the weighted reward of the policy [B, T, V], over all its slates."""
    every = torch.cartesian_prod(*[torch.arange(CODES)] * (LENGTH * DEPTH)).expand(USERS, -1, -1)
    chosen = log_probs[:, None].expand(-1, every.shape[1], -1, -1).gather(-1, every[..., None])[..., 0]
    return float((chosen.sum(-1).exp() * (rewards(every)[0] @ WEIGHTS)).sum(-1).mean())


def curve(name: str) -> list[dict[str, float]]:
    """One row per update: expected reward, loss and what the optimizer logs, before the update."""
    objective, params = OPTIMIZERS[name]
    shape = (USERS, LENGTH * DEPTH, CODES)
    logits = torch.arange(36, dtype=torch.float64).mul(1.7).sin().view(shape).requires_grad_()
    item = (torch.arange(LENGTH * DEPTH) // DEPTH).expand(USERS, GROUP, -1)
    rows = []
    for rollout in range(ROLLOUTS):
        tokens = sample(logits.log_softmax(-1), rollout)
        earned, entropy = rewards(tokens)
        advantage = objective.advantages(earned, WEIGHTS, params, True)
        old = None
        for _ in range(UPDATES):
            policy = logits.log_softmax(-1)
            taken = policy[:, None].expand(-1, GROUP, -1, -1).gather(-1, tokens[..., None])[..., 0]
            old = taken.detach() if old is None else old
            slates = ScoredSlates(
                taken, old, torch.ones_like(tokens, dtype=torch.bool), item, LENGTH, entropy, torch.tensor(0.8).double()
            )
            value, diagnostics = objective.loss(slates, advantage, params)
            (gradient,) = torch.autograd.grad(value, logits)
            with torch.no_grad():
                logits -= STEP[name] * gradient
            row = {"step": len(rows) + 1, "reward": expected_reward(policy.detach()), "loss": float(value.detach())}
            row |= {key: float(found) for key, found in diagnostics.items() if key not in SINGLE}
            rows.append({**row, "gradient_norm": float(gradient.norm())})
    return rows


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_curve(name):
    found = curve(name)
    with (FOLDER / f"{name}.csv").open(newline="") as file:
        kept = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(kept) == ROLLOUTS * UPDATES
    for row, want in zip(found, kept, strict=True):
        assert row == pytest.approx(want, rel=1e-8, abs=1e-8), f"step {row['step']}; see the head of this file"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_problem_shows_the_optimizer(name):
    """r = 1 at the first update of a rollout; bounds act on both sides afterwards; the expected reward rises."""
    found = curve(name)
    first = [row for row in found if row["step"] % UPDATES == 1]
    assert [(row["ratio_min"], row["ratio_max"]) for row in first] == [(1.0, 1.0)] * ROLLOUTS
    bounds = [key for key in found[0] if key.startswith(("at_", "bounded_"))]
    for key in bounds:
        assert len({row[key] for row in found}) > 1, key
    assert len(bounds) == (4 if name == "sage" else 2)
    assert found[-1]["reward"] > found[0]["reward"] + 0.05


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in OPTIMIZERS:
        rows = curve(name)
        with (FOLDER / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            # round, so that a loss of 1e-17 at r = 1 is 0 on every machine
            writer.writerows({key: f"{round(value, 12) + 0.0:.10g}" for key, value in row.items()} for row in rows)


if __name__ == "__main__":
    write()
