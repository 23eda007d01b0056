"""Does the engine learn? Every optimizer on a reward that any slate can raise: the share of one category in it.

    python -m benchmarks.dense_reward

Starts from the SFT policy of `dvc repro`, trains on the users of RL and looks at users of its reserve: steps of 256
slates, 30 at most, until the reward is above .95. Writes metrics/curves/dense_reward, which `dvc plots show` draws, and
prints each optimizer's first and last reward. What fails here is broken; what passes may still fail on the log's
sparse rewards.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stages import rl
from stages.core import params, paths
from stages.core.curves import Curve
from stages.core.errors import InputError
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories
from stages.corpus.reserve import divide, held_back_contexts
from stages.measures.diversity import slate_entropy
from stages.policy.algorithm import Learner

OPTIMIZERS = [name for name in params.modules("objectives") if name != "sft"]
USERS, GROUP, HELD_OUT = 16, 16, 64
ENOUGH = 0.95  # of the reward: nothing more to see


@dataclass(frozen=True)
class CategoryShare:
    """Share of a slate's items that are in one category, whatever the context."""

    histories: Histories
    inside: np.ndarray  # [N] whether an item is in the category
    shares: np.ndarray  # [N, C]
    weights = {"share": 1.0}  # noqa: RUF012 - a constant
    horizon = 1

    @classmethod
    def of(cls, histories: Histories, category: str) -> "CategoryShare":
        categories = histories.items["categories"].to_pylist()
        inside = np.array([category in (own or []) for own in categories])
        if not inside.any():
            raise InputError(f"--category {category}: no item is in it")
        return cls(histories, inside, histories.category_shares())

    def rewards(self, contexts: np.ndarray, items: np.ndarray) -> np.ndarray:
        return self.inside[items].mean(-1, keepdims=True)

    def weighted(self, rewards: np.ndarray) -> np.ndarray:
        return rewards[..., 0]

    def entropy(self, items: np.ndarray) -> np.ndarray:
        return slate_entropy(items, self.shares)


def train(learner: Learner, contexts: np.ndarray, held_out: np.ndarray, steps: int, seed: int) -> Iterator[float]:
    """Expected reward on held-out contexts before the first step and after each."""

    def expected() -> float:
        task = learner.task
        return float(task.sample(learner.model, held_out, [task.temperature] * 4, seed, "held out").total.mean())

    yield expected()
    for step in range(steps):
        drawn = numpy_generator(seed, "contexts", step).permutation(len(contexts))
        now, spare = np.split(contexts[drawn], [USERS])
        learner.step(now, spare, False, seed, step)
        yield expected()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k", help="a data set that `dvc repro` has run on (ml-100k)")
    parser.add_argument("--category", default="Comedy", help="of items.parquet (Comedy)")
    parser.add_argument("--steps", type=int, default=30, help="rollouts of 256 slates (30)")
    parser.add_argument("--lr", type=float, default=2e-4, help="learning rate (2e-4)")
    chosen, settings, seed = parser.parse_args(), params.load(), 1
    curves: dict[str, list[float]] = {}
    for optimizer in OPTIMIZERS:
        learner, log, _ = rl.start(settings, chosen.dataset, "semantic_id", optimizer, seed)
        learner.optimizer.defaults["lr"] = chosen.lr
        learner.set_rate(1.0)
        environment = CategoryShare.of(log.histories, chosen.category)
        learner.task = replace(learner.task, environment=environment, group_size=GROUP)
        sft = settings.sft
        reserve = divide(log.histories, sft.holdback, sft.reserve, sft.min_items, seed)
        contexts = held_back_contexts(log.histories, reserve, reserve.learners, 1)
        others = held_back_contexts(log.histories, reserve, np.r_[reserve.selection, reserve.report], 1)
        held_out = others[np.linspace(0, len(others) - 1, HELD_OUT).astype(int)]
        curves[optimizer], kept = [], Curve(paths.dense_reward(optimizer))
        for step, reward in enumerate(train(learner, contexts, held_out, chosen.steps, seed)):
            curves[optimizer].append(reward)
            kept.add(step=step, share=reward)
            print(f"{optimizer} step {step}: {reward:.3f}", flush=True)
            if reward > ENOUGH:
                break
    for optimizer, own in curves.items():
        above = next((step for step, reward in enumerate(own) if reward > 0.9), None)
        print(f"{optimizer}: {own[0]:.3f} -> {own[-1]:.3f}, above .90 from step {above}")


if __name__ == "__main__":
    main()
