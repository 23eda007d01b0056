"""Sample slates: K per user from one reading of the prompt, every item distinct and in the catalogue.

All rows take each step together; masks, draws and look-ups are tensor operations on the device.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import Prompts
from stages.action_spaces.trie import Trie
from stages.core.errors import InputError
from stages.policy.constrained import log_softmax
from stages.policy.prefix import read_on, read_prompts


class Slates(NamedTuple):
    """K slates of L items for each of B users; T = L * D tokens, D per item; V tokens in the vocabulary."""

    items: Tensor  # [B, K, L]
    tokens: Tensor  # [B, K, T]
    allowed: Tensor  # [B, K, T, V] what the trie allowed at each step
    log_probs: Tensor  # [B, K, T] the sampler's, at its temperature

    @property
    def item_log_probs(self) -> Tensor:
        """Log-probability of each item given those before it: [B, K, L]."""
        return self.log_probs.unflatten(-1, (self.items.shape[-1], -1)).sum(-1)


@torch.no_grad()
def sample_slates(
    model: PreTrainedModel,
    prompts: Prompts,
    trie: Trie,
    slates: int,
    length: int,
    temperature: float,
    generator: torch.Generator | None,
) -> Slates:
    """Sample `slates` slates of `length` distinct items per user; temperature 0 takes the likeliest token each time.

    The log-probabilities are those of the constrained policy at that temperature (at 1 for temperature 0). Raises
    InputError where a user has fewer than `length` items left.
    """
    banned = prompts.banned.repeat_interleave(slates, 0)
    if int((banned >= 0).sum(1).max()) + length > len(trie.tokens):
        raise InputError(f"a user has fewer than {length} items left that may be recommended; shorten rl.slate_length")
    banned = torch.cat([banned, banned.new_full((len(banned), length), -1)], 1)
    prefix = read_prompts(model, prompts).repeated(slates, room=length * trie.depth)
    tokens, masks, log_probs, items = [], [], [], []
    steps, node = length * trie.depth, trie.start(len(banned))
    for step in range(steps):
        level = step % trie.depth
        if level == 0:
            node = trie.start(len(banned))
        allowed = trie.allowed(node, level, banned)
        log_prob = log_softmax(prefix.logits, allowed, temperature or 1.0)
        token = _draw(log_prob, temperature, generator)
        node = trie.advance(node, token)
        tokens.append(token)
        masks.append(allowed)
        log_probs.append(log_prob.gather(1, token[:, None])[:, 0])
        if level == trie.depth - 1:
            items.append(trie.item[node])
            banned[:, len(items) - 1 - length] = items[-1]
        if step + 1 < steps:
            prefix, _ = read_on(model, prefix, token[:, None])
    rows = (len(prompts.tokens), slates)
    return Slates(*(torch.stack(parts, 1).unflatten(0, rows) for parts in (items, tokens, masks, log_probs)))


def _draw(log_probs: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """One token per row [R] of log_probs [R, V]: the largest, after Gumbel noise where the temperature is above 0."""
    if temperature == 0:
        return log_probs.argmax(-1)
    uniform = torch.rand(log_probs.shape, generator=generator, device=log_probs.device)
    return (log_probs - (-uniform.clamp_min(1e-20).log()).log()).argmax(-1)
