"""What the SFT policy itself holds to be the next item, for rewards by it (stages/rewards/modelled.py).

    P(j | c) = pi_SFT(j first | c) for the items that a beam of `width` finds, 0 for others

SFT teaches the next item behind each item. Written as a slate, every item is conditioned on those before it as if the
user had taken them, so the slate drifts from the context, and ranks worse than the beam of the same policy. Rewards by
this belief ask for the beam's ranking, weighed by how often an item carries the objective, written as a slate. On
contexts that SFT has seen (rl.learns_from: visible) the belief holds what SFT remembers of them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from stages.action_spaces.base import ActionSpace, Asking
from stages.corpus.histories import Ints
from stages.policy.backbone import Model
from stages.policy.beam import next_items
from stages.policy.processes import gather, own_share
from stages.policy.sharing import Reading
from stages.rewards.feedback import Floats

CONTEXTS = 64  # searched at once


@dataclass(frozen=True)
class Belief:
    """Next items under a frozen policy; N items."""

    policy: Callable[[], AbstractContextManager[Model]]
    space: ActionSpace
    """One that holds to what can be recommended, also where slates are written freely."""
    asking: Asking
    width: int
    accelerator: Accelerator

    def __call__(self, contexts: Ints) -> Floats:
        """P(j | c) of contexts [B, 2] of (user, position): [B, N]."""
        count = max(-(-len(contexts) // CONTEXTS), min(self.accelerator.num_processes, len(contexts)))
        with self.policy() as frozen:
            done = [
                (number, self._searched(frozen, part))
                for number, part in own_share(np.array_split(contexts, count), self.accelerator)
            ]
        items, score = (torch.cat(parts).cpu().numpy() for parts in zip(*gather(done, self.accelerator), strict=True))
        found = np.zeros((len(contexts), self.space.item_count))
        row, place = np.nonzero(items >= 0)
        found[row, items[row, place]] = np.exp(score[row, place])
        return found

    def _searched(self, policy: Model, contexts: Ints) -> tuple[Tensor, Tensor]:
        """Items [B, width], -1 for none, and their log-probabilities."""
        asked = self.space.prompts(contexts, self.asking).to(self.accelerator.device)
        return next_items(Reading(policy, asked), self.space, self.width, self.width)
