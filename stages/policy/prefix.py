"""The part of a sequence that several continuations share: read once, then continued by each.

Everything here is differentiable: the keys and values of the prompt carry gradients, so that a loss on K slates trains
through one pass over their prompt.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from stages.action_spaces.base import Prompts
from stages.policy.room import with_room


@dataclass
class Prefix:
    """R rows that have read P tokens each (left-padded) and are about to continue."""

    cache: DynamicCache
    mask: Tensor  # [R, P] 1 where there is a token
    length: Tensor  # [R] tokens without padding: the next position
    logits: Tensor  # [R, V] of the next token

    def repeated(self, copies: int, room: int = 0) -> "Prefix":
        """Every row `copies` times, side by side; `room` (without gradients only) holds that many tokens in place."""
        if room:
            self.cache = with_room(self.cache, copies, room)
        elif copies > 1:
            self.cache.batch_repeat_interleave(copies)
        repeat = (tensor.repeat_interleave(copies, 0) for tensor in (self.mask, self.length, self.logits))
        return Prefix(self.cache, *repeat)

    def selected(self, rows: Tensor) -> "Prefix":
        """The rows named [R'], in that order."""
        self.cache.batch_select_indices(rows)
        return Prefix(self.cache, self.mask[rows], self.length[rows], self.logits[rows])


def read_prompts(model: PreTrainedModel, prompts: Prompts) -> Prefix:
    """Read the prompts: one row per user."""
    positions = (prompts.mask.cumsum(1) - 1).clamp(min=0)
    output = model(
        input_ids=prompts.tokens,
        attention_mask=prompts.mask,
        position_ids=positions,
        past_key_values=DynamicCache(),
        use_cache=True,
        logits_to_keep=1,
    )
    return Prefix(output.past_key_values, prompts.mask, prompts.mask.sum(1), output.logits[:, -1].float())


def read_on(model: PreTrainedModel, prefix: Prefix, tokens: Tensor) -> tuple[Prefix, Tensor]:
    """Continue each row by `tokens` [R, T]; return the longer prefix and the logits [R, T, V] behind each token."""
    steps = tokens.shape[1]
    mask = torch.cat([prefix.mask, prefix.mask.new_ones(len(tokens), steps)], 1)
    output = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=prefix.length[:, None] + torch.arange(steps, device=tokens.device),
        past_key_values=prefix.cache,
        use_cache=True,
    )
    logits = output.logits.float()
    return Prefix(output.past_key_values, mask, prefix.length + steps, logits[:, -1]), logits
