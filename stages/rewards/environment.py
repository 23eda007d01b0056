"""Contexts with what their users did next: what a policy's slates earn, and how diverse they are."""

from dataclasses import dataclass
from typing import Protocol

from stages.corpus.histories import Histories
from stages.corpus.reserve import logged_after
from stages.measures.diversity import slate_entropy
from stages.rewards.feedback import Floats, Ints, logged_rewards, weighted_mean


class Rewards(Protocol):
    """What rewards come from. B contexts, K slates, L items, M objectives."""

    @property
    def histories(self) -> Histories:
        """The log."""

    @property
    def weights(self) -> dict[str, float]:
        """w_m of Eq. 7, by objective; the order of the reward's last axis."""

    @property
    def horizon(self) -> int:
        """Logged items after a context that count."""

    def rewards(self, contexts: Ints, items: Ints) -> Floats:
        """R_m of slates [B, K, L] for contexts [B, 2] of (user, position): [B, K, M]."""

    def weighted(self, rewards: Floats) -> Floats:
        """Sum of w_m R_m over the objectives, over the sum of |w_m|: [B, K]."""

    def entropy(self, items: Ints) -> Floats:
        """H(S), bits, of slates [.., L]: the measure entropy_slate, as the reports use it."""


@dataclass(frozen=True)
class LoggedFeedback:
    """Rewards from the log alone. B contexts, K slates, L items, M objectives."""

    histories: Histories
    weights: dict[str, float]
    """w_m of Eq. 7, by objective; the order of the reward's last axis."""
    horizon: int
    """Logged items after the context that count."""
    shares: Floats
    """[N, C] each item's share in each category."""

    def rewards(self, contexts: Ints, items: Ints) -> Floats:
        """R_m of slates [B, K, L] for contexts [B, 2] of (user, position): [B, K, M]."""
        logged, feedback = logged_after(self.histories, contexts, self.horizon)
        return logged_rewards(items, logged, {name: feedback[name] for name in self.weights})

    def weighted(self, rewards: Floats) -> Floats:
        """Sum of w_m R_m over the objectives, over the sum of |w_m|: [B, K]."""
        return weighted_mean(rewards, self.weights)

    def entropy(self, items: Ints) -> Floats:
        """H(S), bits, of slates [.., L]: the measure entropy_slate, as the reports use it."""
        return slate_entropy(items, self.shares)
