"""Whether two rows differ in the number of items that their users' slates show together: a randomisation test.

Were the rows alike, a user's slates could be the other row's. A coverage is no mean over users, so that its bootstrap
is biased (stages/measures/bootstrap.py); swaps keep every user.
"""

import numpy as np
import pandas as pd

Frame = pd.DataFrame
Shown = tuple[np.ndarray, np.ndarray, np.ndarray]


def randomised(parts: list[Shown], rounds: int, generator: np.random.Generator) -> tuple[float, float, float, float]:
    """The difference in items, mean over seeds; bounds of 95% of those after swaps; the two-sided p. parts: by seed.

    A user is swapped in all seeds at once.
    """
    users = np.unique(np.concatenate([user for user, _, _ in parts]))
    found = np.empty(rounds + 1)
    for turn in range(rounds + 1):
        other = generator.random(len(users)) < 0.5 if turn else np.zeros(len(users), bool)
        found[turn] = np.mean([difference(*part, other[np.searchsorted(users, part[0])]) for part in parts])
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return found[0], low, high, float((1 + (np.abs(found[1:]) >= abs(found[0])).sum()) / (1 + rounds))


def shown(first: Frame, second: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User, cold item (numbered from 0) and whose slate, 0 or 1, of everything cold that two rows show."""
    both = pd.concat([first.assign(whose=0), second.assign(whose=1)])
    return both["user"].to_numpy(), np.unique(both["item"], return_inverse=True)[1], both["whose"].to_numpy()


def difference(user: np.ndarray, item: np.ndarray, whose: np.ndarray, swap: np.ndarray) -> int:
    """Cold items that the first row shows somewhere, less those of the second, where some users' slates are swapped."""
    shown = np.zeros((2, item.max(initial=-1) + 1), bool)
    shown[whose ^ swap, item] = True
    return int(shown[0].sum()) - int(shown[1].sum())
