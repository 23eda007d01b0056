"""R_m(S): how well a slate ranks the items that the user went on to, per objective (Sec. 3.1; the form is ours).

    R_m(S) = DCG of the slate's positions whose item carries feedback m in the log, over the best DCG possible

Shapes: B contexts, K slates, L items, H logged items after the context, M objectives.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def discounts(length: int) -> Floats:
    """DCG's weight of each rank, 1 / log2(rank + 1): [length]."""
    return 1 / np.log2(np.arange(length) + 2)


def logged_rewards(items: Ints, logged: Ints, feedback: dict[str, Ints]) -> Floats:
    """Rewards [B, K, M] of slates [B, K, L] given the log behind each context [B, H] and its feedback (m -> [B, H]).

    A logged item that occurs twice counts once, with the feedback of either occurrence. Contexts without feedback m
    give 0 for objective m.
    """
    first = _first_occurrence(logged)  # [B, H]
    length = items.shape[-1]
    best = np.concatenate([[0.0], np.cumsum(discounts(length))])
    same = logged[:, :, None] == logged[:, None, :]  # [B, H, H]
    rewards = []
    for values in feedback.values():
        carries = ((same & (values[:, None, :] > 0)).any(2)) & first  # [B, H]
        hit = ((items[..., None] == logged[:, None, None, :]) & carries[:, None, None, :]).any(-1)  # [B, K, L]
        gain = hit @ discounts(length)  # [B, K]
        ideal = best[np.minimum(carries.sum(1), length)]  # [B]
        rewards.append(gain / np.where(ideal > 0, ideal, 1.0)[:, None])
    return np.stack(rewards, -1)


def weighted_mean(rewards: Floats, weights: dict[str, float]) -> Floats:
    """Sum of w_m R_m over the objectives, over the sum of |w_m|: [.., M] -> [..]."""
    values = np.array(list(weights.values()))
    return np.asarray(rewards @ values / np.abs(values).sum())


def _first_occurrence(logged: Ints) -> npt.NDArray[np.bool_]:
    """Whether each logged item [B, H] is the first of its kind in its row."""
    same = logged[:, :, None] == logged[:, None, :]
    return np.asarray(same.argmax(2) == np.arange(logged.shape[1]))
