"""One RL step (K slates per user, rewards, two updates) beside TRL's GRPOTrainer on the same model and prompts.

    python -m venv .venv-trl && .venv-trl/bin/pip install torch==2.13.0 trl==1.16.0
    .venv/bin/python -m benchmarks.rl_step --trl .venv-trl/bin/python

Both sides run in processes of their own, one after the other, several rounds; speeds are medians, and only their ratio
means something on a machine with other work. TRL samples freely from the vocabulary; ours holds every slate to distinct
items of a catalogue, and renormalises in the loss. `--ours FILE` is what a child process runs.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.profiler import ProfilerActivity, profile

from stages.action_spaces.base import Asking
from stages.action_spaces.semantic_id import Actions
from stages.core import params
from stages.core.files import write_table
from stages.objectives import sage
from stages.policy import backbone, pretrained
from stages.policy.algorithm import Learner, Recipe
from stages.policy.task import Task
from stages.rewards.running_mean import RunningMean
from stages.semantic_ids.table import id_table

USERS = {20: 64, 170: 16}  # by items of the prompt, of 61 and 511 tokens: TRL needs minutes for more
GROUP, ITEMS, LEVELS, CODES, UPDATES, MICRO = 8, 10, 3, 256, 2, 64
CATALOGUE, TEMPERATURE = 12_000, 0.7
SHAPE = params.load().backbones["tiny"].architecture
assert SHAPE is not None


@dataclass(frozen=True)
class TwoRewards:
    """Two rewards that cost nothing, as on TRL's side."""

    weights = {"first": 1.0, "last": 1.0}  # noqa: RUF012 - a constant of a benchmark
    horizon = 1
    histories = None

    def rewards(self, contexts: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.stack([items[..., 0] % 7, items[..., -1] % 5], -1).astype(float)

    def weighted(self, rewards: np.ndarray) -> np.ndarray:
        return rewards.mean(-1)

    def entropy(self, items: np.ndarray) -> np.ndarray:
        return (items % 11).std(-1)


@dataclass(frozen=True)
class Given:
    """Histories that are the prompts themselves."""

    prompts: list[np.ndarray]
    item_count = CATALOGUE

    def items_before(self, contexts: np.ndarray) -> list[np.ndarray]:
        return [self.prompts[user] for user, _ in contexts]


def catalogue(items: list[list[int]]) -> Actions:
    """12,000 items of 3 codes, and prompts of these items."""
    folder = Path(tempfile.mkdtemp())
    chosen = np.random.default_rng(0).choice(CODES**LEVELS, CATALOGUE, replace=False)
    write_table(folder / "ids.parquet", id_table(np.stack([chosen // CODES**n % CODES for n in range(LEVELS)], 1)))
    return Actions(folder, Given([np.array(own) for own in items]))


def tiny(tokens: int) -> backbone.Model:
    """The shipped backbone from scratch."""
    body = params.load().backbones["tiny"]
    with tempfile.TemporaryDirectory() as folder:
        pretrained.fetch(body, Path(folder))
        return backbone.create(body, Path(folder), tokens, 1)


def learner(job: dict[str, Any]) -> Learner:
    """Algorithm 1 with SAGE."""
    space, machine = catalogue(job["items"]), Accelerator(cpu=True)
    model = tiny(space.new_tokens).eval()
    task = Task(
        space=space,
        environment=TwoRewards(),
        asking=Asking("history", len(job["items"][0]), False, ITEMS),
        group_size=GROUP,
        temperature=TEMPERATURE,
        accelerator=machine,
    )
    return Learner(
        model=model,
        reference=backbone.reference_of(model),
        optimizer=torch.optim.AdamW(model.parameters(), 1e-4),
        objective=sage,
        objective_params=sage.Params(
            form="surrogate",
            eps_boost=0.3,
            beta=0.5,
            eps_clip=0.2,
            dual_clip=None,
            ratio_norm="token",
            decouple=True,
            lr=None,
            kl=None,
        ),
        task=task,
        recipe=Recipe(UPDATES, 1, MICRO // GROUP, True, 0.0, 1.0),
        entropy_mean=RunningMean(0.05),
        accelerator=machine,
    )


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds per step, peak memory, and where the time of one more step goes."""
    torch.set_num_threads(job["threads"])
    own, seconds = learner(job), []
    contexts = np.array([[user, 0] for user in range(len(job["prompts"]))])

    def step(seed: int) -> None:
        own.step(contexts, contexts[:0], False, seed)

    step(0)
    for seed in range(job["rollouts"]):
        started = time.perf_counter()
        step(1 + seed)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    own.task.rollout(own.model, contexts, contexts[:0], 0, 9)
    sampling = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step(9)
    spent = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    products = sum(time for key, time in spent.items() if key in ("aten::mm", "aten::bmm", "aten::addmm"))
    attention = sum(time for key, time in spent.items() if "attention" in key)
    return {
        "seconds": seconds,
        "peak_mb": peak,
        "sampling_seconds": sampling,
        "share_of_time": {
            "matrix products, attention behind it included": products / sum(spent.values()),
            "attention in the prompt": attention / sum(spent.values()),
        },
        "matmul_gflops": matmul_rate(),
    }


def matmul_rate(size: int = 1024, repeats: int = 12) -> float:
    """Floating-point operations per second, in 1e9, of a square matrix product; the best of `repeats`."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def operations(items: int) -> float:
    """Floating-point operations, in 1e9, that a step cannot do without: every token read once per pass, no padding.

    A multiply and an add per weight and token; a training pass costs three forward passes.
    """
    prompt, users, written = 1 + LEVELS * items, USERS[items], ITEMS * LEVELS
    hidden, wide = SHAPE.hidden_size, SHAPE.feed_forward
    slates = users * GROUP
    weights = SHAPE.layers * (4 * hidden * hidden + 3 * hidden * wide)
    tokens = users * prompt + slates * (written - 1)
    pairs = users * prompt * prompt / 2 + slates * written * (prompt + written / 2)
    forward = 2 * weights * tokens + SHAPE.layers * 4 * hidden * pairs + 2 * hidden * CODES * slates * written
    return forward * (1 + 3 * UPDATES) / 1e9


def child(command: list[str], job: dict[str, Any], threads: int) -> dict[str, Any]:
    """Run one side in a process of its own; its last line is the result."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run([*command, file.name], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(trl: str, prompt: int, threads: int, rounds: int, rollouts: int, folder: Path) -> dict[str, float]:
    """Both sides in turn on one prompt length; prints what was measured."""
    items = np.random.default_rng(1).integers(CATALOGUE, size=(USERS[prompt], prompt))
    space = catalogue(items.tolist())
    tokens = [space.history(own).tolist() for own in items]
    job = {"threads": threads, "items": items.tolist(), "rollouts": rollouts, "updates": UPDATES, "group": GROUP}
    job |= {"model": str(folder), "prompts": tokens, "micro_batch": MICRO, "temperature": TEMPERATURE}
    job |= {"completion_tokens": ITEMS * LEVELS}
    mine, theirs = [], []
    for number in range(rounds):
        mine.append(child([sys.executable, "-m", "benchmarks.rl_step", "--ours"], job, threads))
        theirs.append(child([trl, str(Path(__file__).with_name("trl_step.py"))], job, threads))
        seconds = f"ours {mine[-1]['seconds']}, TRL {theirs[-1]['seconds']}"
        print(f"prompt of {1 + LEVELS * prompt} tokens, round {number + 1}: {seconds}", flush=True)
    own, other = (statistics.median(s for each in side for s in each["seconds"]) for side in (mine, theirs))
    memory = [max(each["peak_mb"] for each in side) for side in (mine, theirs)]
    rate = max(each["matmul_gflops"] for each in mine)
    floor = operations(prompt) / rate
    sampling = statistics.median(each["sampling_seconds"] for each in mine)
    slates = USERS[prompt] * GROUP
    print(f"  slates per second: ours {slates / own:.1f}, TRL {slates / other:.1f}, ratio {other / own:.2f}")
    print(f"  peak memory, MB: ours {memory[0]:.0f}, TRL {memory[1]:.0f}, ratio {memory[0] / memory[1]:.2f}")
    print(
        f"  floor: {operations(prompt):.0f}e9 operations at {rate:.0f}e9/s = {floor:.2f} s, {floor / own:.0%} of ours"
    )
    print(f"  of {own:.2f} s, {sampling:.2f} s sampling; by kind {mine[-1]['share_of_time']}")
    return {"ratio": other / own, "memory": memory[0] / memory[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", metavar="PYTHON", help="the Python of an environment that holds TRL")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on both sides (default 1)")
    parser.add_argument("--rounds", type=int, default=2, help="times that both sides run (default 2)")
    parser.add_argument("--rollouts", type=int, default=3, help="timed steps per side and round (default 3)")
    parser.add_argument("--ours", metavar="FILE", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.ours:
        print(json.dumps(ours(json.loads(Path(chosen.ours).read_text()))))
        return
    if not chosen.trl or not Path(chosen.trl).exists():
        parser.error(
            "--trl has to name the Python of an environment with TRL; see above for the two lines that make one"
        )
    with tempfile.TemporaryDirectory() as folder:
        tiny(3 + CODES * LEVELS).save_pretrained(folder)
        short, long = (
            compare(chosen.trl, prompt, chosen.threads, chosen.rounds, chosen.rollouts, Path(folder))
            for prompt in USERS
        )
    result = {
        "slates_per_second_ratio": short["ratio"],
        "slates_per_second_ratio_prompt512": long["ratio"],
        "peak_memory_ratio": max(short["memory"], long["memory"]),
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
