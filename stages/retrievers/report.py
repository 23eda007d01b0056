"""How much of what users did the pools hold: the most that any policy that picks from them can reach."""

from typing import Any

import numpy as np

from stages.corpus.histories import Histories, Ints
from stages.retrievers.pools import recall

FIRST = 10  # of a pool, as a list of recommendations


def every_context(histories: Histories) -> Ints:
    """[interactions, 2] user and position of every interaction; the context is what is before it."""
    user = np.repeat(np.arange(histories.user_count), np.diff(histories.offsets))
    return np.stack([user, np.arange(len(user)) - histories.offsets[user]], axis=1)


def describe(histories: Histories, visible: Ints, pools: Ints, slate_length: int) -> dict[str, Any]:
    """Shares of contexts whose pool [interactions, N] holds the item that followed, and holds it among its first 10.

    `held_back` are the training items that SFT does not see and RL is rewarded for; `train` are all. `short_pools` have
    fewer items than a slate.
    """
    user, position = every_context(histories).T
    behind = position - histories.train_length[user]  # 0: the valid item, 1: the test item, where the user has them
    rows = {
        "train": behind < 0,
        "held_back": (behind < 0) & (position >= visible[user]),
        "valid": (behind == 0) & (histories.valid[user] >= 0),
        "test": (position == histories.contexts(user, "test")[:, 1]) & (histories.test[user] >= 0),
    }
    short = int(((pools >= 0).sum(1) < slate_length).sum())
    return {
        "pool_recall": {name: recall(pools[row], histories.item[row]) for name, row in rows.items()},
        f"recall@{FIRST}": {
            name: recall(pools[rows[name], :FIRST], histories.item[rows[name]]) for name in ("valid", "test")
        },
        "short_pools": [["contexts", short], ["of", len(pools)]],
    }
