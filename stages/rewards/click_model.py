"""Dense rewards: a sequential click model, fitted on the log, says how likely each item of a slate is to be taken.

    P(j | c)    = (1 - s) score(j | c) / sum_j score(j | c) + s count(j) / sum_j count(j)      s: smoothing
    P_m(j | c)  = P(j | c) (interactions with j that carry feedback m, + b_m) / (interactions with j, + 1)
                  b_m: share of all interactions that carry it
    R_m(S)      = sum_t d_t P_m(i_t | c) / the best slate's,   d_t = 1 / log2(t + 1)

score: the transition counts of stages/baselines/transitions.py, less what the context's own user added to them, or what
the user went on to would be its own reason. A reward from the log is 0 for all but the few items that the user went on
to; this one tells any two slates apart, as OneRec's reward model does (arXiv 2502.18965). It is only as true as its
counts: what is measured stays the log.
"""

from dataclasses import dataclass

import numpy as np

from stages.baselines import transitions
from stages.baselines.others import OthersCounts
from stages.corpus.histories import Histories, Ints
from stages.rewards.environment import LoggedFeedback
from stages.rewards.feedback import Floats, discounts, weighted_mean


@dataclass(frozen=True)
class ClickModel:
    """Probabilities of feedback; N items, M objectives."""

    counts: OthersCounts
    smoothing: float
    popularity: Floats  # [N] share of each item among the interactions
    inclination: Floats  # [M, N] smoothed share of an item's interactions that carry each objective

    @classmethod
    def fit(
        cls, visible: Histories, objectives: list[str], counts: transitions.Params, smoothing: float
    ) -> "ClickModel":
        """Count the training parts of `visible`, which the caller has cut to what may be learnt from."""
        lengths, items = visible.train_length, visible.item_count
        starts = visible.offsets[:-1]
        at = np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths, strict=True)])
        count = np.bincount(visible.item[at], minlength=items)
        carried = [np.bincount(visible.item[at], visible.feedback[name][at], items) for name in objectives]
        return cls(
            counts=OthersCounts(visible, visible.train_length, counts),
            smoothing=smoothing,
            popularity=count / count.sum(),
            inclination=(np.array(carried) + np.sum(carried, 1, keepdims=True) / count.sum()) / (count + 1),
        )

    def probabilities(self, users: Ints, contexts: list[Ints]) -> Floats:
        """P_m of every item after each context (item numbers, oldest first) of users [B], -1 for nobody: [B, M, N]."""
        score = self.counts.scores(users, contexts).toarray()
        total = score.sum(1, keepdims=True)
        unknown = np.tile(self.popularity, (len(score), 1))  # after items that nothing ever followed
        followed = np.divide(score, total, out=unknown, where=total > 0)
        taken = (1 - self.smoothing) * followed + self.smoothing * self.popularity
        return np.asarray(taken[:, None, :] * self.inclination)

    def rewards(self, users: Ints, contexts: list[Ints], items: Ints) -> Floats:
        """R_m of slates [B, K, L]: [B, K, M]. 1 is the best slate there is, items of the context included.

        An objective that nothing in the log carries earns 0, as it does there.
        """
        chance, discount = self.probabilities(users, contexts), discounts(items.shape[-1])
        count = min(len(discount), chance.shape[2])
        best = -np.sort(np.partition(-chance, count - 1, axis=2)[..., :count], axis=2)
        ideal = best @ discount[:count]  # [B, M]
        found = np.stack([own[:, slates] * (slates >= 0) for own, slates in zip(chance, items, strict=True)])
        # [B, M, K, L]; a slot without item, -1, earns nothing
        earned = found @ discount
        ideal = np.broadcast_to(ideal[:, :, None], earned.shape)
        return np.moveaxis(np.divide(earned, ideal, out=np.zeros_like(earned), where=ideal > 0), 1, 2)


@dataclass(frozen=True)
class ModelledFeedback:
    """Rewards from a click model, alone or behind those from the log, under the same names with `_model` added."""

    log: LoggedFeedback
    model: ClickModel
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
        modelled = self.model.rewards(contexts[:, 0], self.histories.items_before(contexts), items)
        return np.concatenate([self.log.rewards(contexts, items), modelled], -1) if self.both else modelled

    def weighted(self, rewards: Floats) -> Floats:
        """Sum of w_m R_m over the objectives, over the sum of |w_m|: [B, K]."""
        return weighted_mean(rewards, self.weights)

    def entropy(self, items: Ints) -> Floats:
        """H(S), bits, of slates [.., L]."""
        return self.log.entropy(items)
