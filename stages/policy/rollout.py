"""Sample slates: K per user from one reading of the prompt, every item distinct and in the catalogue.

All rows take each step together; masks, draws and look-ups are tensor operations on the device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace, Prompts
from stages.core.errors import InputError
from stages.policy.constrained import code_logits, log_softmax
from stages.policy.sharing import Reading


class Slates(NamedTuple):
    """K slates of L items for each of B users; an item is spelled by D codes out of C."""

    items: Tensor  # [B, K, L]
    codes: Tensor  # [B, K, L, D]
    allowed: Tensor  # [B, K, L, D, C] what the trie allowed at each choice
    log_probs: Tensor  # [B, K, L, D] the sampler's, at its temperature

    @property
    def item_log_probs(self) -> Tensor:
        """Log-probability of each item given those before it: [B, K, L]."""
        return self.log_probs.sum(-1)


@torch.no_grad()
def sample_slates(
    model: PreTrainedModel,
    prompts: Prompts,
    space: ActionSpace,
    temperatures: Sequence[float],
    length: int,
    generator: torch.Generator | None,
) -> Slates:
    """Sample one slate of `length` distinct items per user and temperature; 0 takes the likeliest code each time.

    The log-probabilities are those of the constrained policy at that temperature (at 1 for temperature 0). Raises
    InputError where a user has fewer than `length` items left.
    """
    trie, users, slates = space.trie, len(prompts.tokens), len(temperatures)
    given = torch.tensor(temperatures, device=prompts.tokens.device)[:, None]  # [K, 1]
    scale = given.where(given > 0, 1.0)
    offered = len(trie.codes) if prompts.only is None else (prompts.only >= 0).sum(1)
    if int((offered - (prompts.banned >= 0).sum(1)).min()) < length:
        raise InputError(f"a user has fewer than {length} items left that may be recommended; shorten rl.slate_length")
    own = torch.full((users, slates, length), -1, device=prompts.tokens.device)
    reading = Reading(model, prompts, length * trie.depth)
    hidden = reading.start()[:, None].expand(-1, slates, -1)
    codes, masks, log_probs = [], [], []
    for place in range(length):
        node = trie.start(users, slates)
        for level, columns in enumerate(space.columns):
            if codes:  # the code before the first level's is the last level's
                hidden = reading.read(space.columns[level - 1, codes[-1]])
            choices = trie.choices(node, level, prompts.banned, own, prompts.only)
            masks.append(trie.as_mask(choices))
            logits = trie.pick(code_logits(model, hidden, columns), choices, level)
            log_prob = log_softmax(logits, choices.open, scale)  # [B, K, W]
            drawn = _draw(log_prob, given > 0, generator)[..., None]
            log_probs.append(log_prob.gather(2, drawn)[..., 0])
            node = choices.child.gather(2, drawn)[..., 0]
            codes.append(trie.code[node].long())
        own[:, :, place] = trie.item_at(node)
    return Slates(own, *(torch.stack(parts, 2).unflatten(2, (length, -1)) for parts in (codes, masks, log_probs)))


def _draw(log_probs: Tensor, drawn: Tensor, generator: torch.Generator | None) -> Tensor:
    """One place per row of log_probs [B, K, W]: the likeliest, after Gumbel noise for the slates `drawn` [K, 1]."""
    if generator is None:
        return log_probs.argmax(-1)
    uniform = torch.rand(log_probs.shape, generator=generator, device=log_probs.device)
    return (log_probs - drawn * (-uniform.clamp_min(1e-20).log()).log()).argmax(-1)
