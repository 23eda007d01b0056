"""What the SFT policy itself holds to be the next item: a reward that a slate earns by writing what its policy knows.

    P(j | c) = pi_SFT(j first | c) for the `width` likeliest items, 0 for others

SFT teaches the next item behind each item. Written as a slate, every item is conditioned on those before it as if the
user had taken them, so the slate drifts from the context: its ranking is worse than the beam's, which reads the same
policy. This reward asks for the beam's ranking, written as a slate.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from stages.action_spaces.base import ActionSpace, Asking
from stages.corpus.histories import Ints
from stages.policy.backbone import Model
from stages.policy.beam import next_items
from stages.policy.sharing import Reading
from stages.rewards.feedback import Floats

CONTEXTS = 64  # searched at once


@dataclass(frozen=True)
class Belief:
    """Next items under a frozen policy; N items."""

    policy: Callable[[], AbstractContextManager[Model]]
    space: ActionSpace
    asking: Asking
    width: int

    def __call__(self, contexts: Ints) -> Floats:
        """P(j | c) of contexts [B, 2] of (user, position): [B, N]."""
        found = np.zeros((len(contexts), self.space.item_count))
        with self.policy() as frozen:
            for start in range(0, len(contexts), CONTEXTS):
                part = contexts[start : start + CONTEXTS]
                asked = self.space.prompts(part, self.asking).to(frozen.device)
                items, score = next_items(Reading(frozen, asked), self.space, self.width, self.width)
                items, chance = items.cpu().numpy(), score.exp().cpu().numpy()
                row, place = np.nonzero(items >= 0)
                found[start + row, items[row, place]] = chance[row, place]
        return found
