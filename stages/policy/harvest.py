"""The best slates that RL comes upon, kept for a second round of SFT (Sec. 3.3).

Of a slate only the items stay that earned its reward, those that the user went on to. They lie in the training part,
as RL's contexts do, so that no validation or test item is ever taught by what RL happened to write.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.errors import InputError
from stages.core.schema import HARVEST
from stages.corpus.histories import Histories, Ints
from stages.corpus.reserve import logged_after


@dataclass
class Harvest:
    """By context, the best slate of all updates that learnt from it, where one earned anything."""

    histories: Histories
    horizon: int
    """Logged items after a context that count."""
    score: Callable[[Ints, Ints], npt.NDArray[np.float64]]
    """Rewards [B, K] by the log, whatever RL learns from, of contexts [B, 2] and slates [B, K, L]."""
    kept: dict[tuple[int, int], tuple[float, list[int]]] = field(default_factory=dict)
    """(user, position) -> reward, items."""

    def take(self, contexts: Ints, items: Ints) -> None:
        """Look at what a rollout's updates learn from: contexts [B, 2], slates [B, K, L] with -1 for null actions."""
        total = self.score(contexts, items)
        best = total.argmax(1)
        logged, _ = logged_after(self.histories, contexts, self.horizon)
        for row, (user, position) in enumerate(contexts.tolist()):
            slate, reward = items[row, best[row]], float(total[row, best[row]])
            hits = slate[np.isin(slate, logged[row]) & (slate >= 0)].tolist()
            if hits and reward > self.kept.get((user, position), (0.0, []))[0]:
                self.kept[user, position] = reward, hits

    def rows(self) -> list[tuple[int, int, float, list[int]]]:
        """What is kept, by user and position."""
        return [(*context, *self.kept[context]) for context in sorted(self.kept)]

    def restore(self, rows: list[tuple[int, int, float, list[int]]]) -> None:
        """Go on from `rows` of an interrupted run."""
        self.kept = {(user, position): (reward, items) for user, position, reward, items in rows}

    def table(self) -> pa.Table:
        """As data/<dataset>/harvest/<row>/seed-<n>.parquet."""
        users, positions, rewards, items = zip(*self.rows(), strict=True) if self.kept else ((), (), (), ())
        return pa.table([users, positions, rewards, items], schema=HARVEST)


def best_of(harvest: pa.Table, min_reward: float) -> pa.Table:
    """The rows that a second round learns from. Raises InputError where there are none."""
    found = harvest.filter(pc.greater_equal(harvest["reward"], min_reward))
    if not found.num_rows:
        best = max(harvest["reward"].to_pylist(), default=0.0)
        raise InputError(
            f"no slate of the first round earned {min_reward:g} (harvest.min_reward), the best of {harvest.num_rows} "
            f"contexts {best:.3g}; lower it, or let RL see more contexts (rl.rollouts, rl.contexts)"
        )
    return found


def of_others(contexts: Ints, harvest: pa.Table, fewest: int) -> Ints:
    """The contexts [C, 2] of users of whom SFT was taught nothing: on the others RL would be rewarded for memory.

    Raises InputError where fewer than `fewest` are left.
    """
    left = contexts[~np.isin(contexts[:, 0], harvest["user"].to_numpy())]
    if len(left) < fewest:
        raise InputError(
            f"{len(left)} contexts are of users whose slates the second SFT was not taught, RL asks for {fewest} "
            "(rl.contexts); raise harvest.min_reward, or lower sft.reserve"
        )
    return left
