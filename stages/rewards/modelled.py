"""Dense rewards: by what a model holds to be the next item. A reward from the log is 0 for all but the few items that
the user went on to; this one tells most slates apart, as OneRec's reward model does (arXiv 2502.18965).

    P_m(j | c) = P(j | c) (interactions with j that carry feedback m, + b_m) / (interactions with j, + 1)
                 b_m: share of all interactions that carry it
    R_m(S)     = sum_t d_t P_m(i_t | c) / the best slate's,   d_t = 1 / log2(t + 1)

P(j | c) is a click model's (click_model.py), which may count items of the context too, or the SFT policy's own
(stages/policy/belief.py), which holds nothing of items outside its beam. R_m is the DCG that is to be expected of the
slate where the next item is drawn from P_m, over the best slate's. It is only as true as its model: what is measured
stays the log. B contexts, K slates, L items, M objectives, N items of the catalogue.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stages.corpus.histories import Histories, Ints
from stages.rewards.environment import LoggedFeedback
from stages.rewards.feedback import Floats, discounts, weighted_mean

NextItem = Callable[[Ints], Floats]
"""P(j | c): contexts [B, 2] of (user, position) -> [B, N]."""


@dataclass(frozen=True)
class ModelledFeedback:
    """Rewards from a model, alone or behind those from the log, under the same names with `_model` added."""

    log: LoggedFeedback
    next_item: NextItem
    inclination: Floats
    """[M, N] smoothed share of an item's interactions that carry each objective."""
    both: bool

    @property
    def histories(self) -> Histories:
        return self.log.histories

    @property
    def horizon(self) -> int:
        return self.log.horizon

    @property
    def weights(self) -> dict[str, float]:
        """w_m of Eq. 7: a modelled objective weighs as much as the logged one."""
        modelled = {f"{name}_model": weight for name, weight in self.log.weights.items()}
        return {**self.log.weights, **modelled} if self.both else modelled

    def rewards(self, contexts: Ints, items: Ints) -> Floats:
        """R_m of slates [B, K, L] for contexts [B, 2] of (user, position): [B, K, M]."""
        modelled = modelled_rewards(items, self.next_item(contexts)[:, None, :] * self.inclination)
        return np.concatenate([self.log.rewards(contexts, items), modelled], -1) if self.both else modelled

    def weighted(self, rewards: Floats) -> Floats:
        """Sum of w_m R_m over the objectives, over the sum of |w_m|: [B, K]."""
        return weighted_mean(rewards, self.weights)

    def entropy(self, items: Ints) -> Floats:
        """H(S), bits, of slates [.., L]."""
        return self.log.entropy(items)


def modelled_rewards(items: Ints, chance: Floats) -> Floats:
    """R_m of slates [B, K, L] by P_m [B, M, N]: [B, K, M]. 1 is the best slate there is.

    A slot without item, -1, earns nothing, and neither does an objective that nothing carries, as in the log.
    """
    discount = discounts(items.shape[-1])
    count = min(len(discount), chance.shape[2])
    best = -np.sort(np.partition(-chance, count - 1, axis=2)[..., :count], axis=2)
    found = np.stack([own[:, slates] * (slates >= 0) for own, slates in zip(chance, items, strict=True)])
    earned = found @ discount  # [B, M, K]
    ideal = np.broadcast_to((best @ discount[:count])[:, :, None], earned.shape)
    return np.moveaxis(np.divide(earned, ideal, out=np.zeros_like(earned), where=ideal > 0), 1, 2)


def inclinations(visible: Histories, objectives: list[str]) -> Floats:
    """Smoothed share of each item's interactions that carry each objective, in the training parts: [M, N]."""
    at, items = visible.in_training(), visible.item_count
    count = np.bincount(visible.item[at], minlength=items)
    carried = np.array([np.bincount(visible.item[at], visible.feedback[name][at], items) for name in objectives])
    return np.asarray((carried + carried.sum(1, keepdims=True) / count.sum()) / (count + 1))
