"""A sequential click model, fitted on the log: how likely each item is to be taken next.

    P(j | c) = (1 - s) score(j | c) / sum_j score(j | c) + s count(j) / sum_j count(j)      s: smoothing

score: the transition counts of stages/baselines/transitions.py, less what the context's own user added to them, or what
the user went on to would be its own reason.
"""

from dataclasses import dataclass

import numpy as np

from stages.baselines import transitions
from stages.baselines.others import OthersCounts
from stages.corpus.histories import Histories, Ints
from stages.rewards.feedback import Floats


@dataclass(frozen=True)
class ClickModel:
    """Probabilities of the next item; N items."""

    counts: OthersCounts
    smoothing: float
    popularity: Floats  # [N] share of each item among the interactions

    @classmethod
    def fit(cls, visible: Histories, counts: transitions.Params, smoothing: float) -> "ClickModel":
        """Count the training parts of `visible`, which the caller has cut to what may be learnt from."""
        count = np.bincount(visible.item[visible.in_training()], minlength=visible.item_count)
        return cls(OthersCounts(visible, visible.train_length, counts), smoothing, count / count.sum())

    def probabilities(self, users: Ints, contexts: list[Ints]) -> Floats:
        """P of every item after each context (item numbers, oldest first) of users [B], -1 for nobody: [B, N]."""
        score = self.counts.scores(users, contexts).toarray()
        total = score.sum(1, keepdims=True)
        unknown = np.tile(self.popularity, (len(score), 1))  # after items that nothing ever followed
        followed = np.divide(score, total, out=unknown, where=total > 0)
        return np.asarray((1 - self.smoothing) * followed + self.smoothing * self.popularity)
