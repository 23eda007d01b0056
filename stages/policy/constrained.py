"""The constrained policy: softmax over the tokens that the trie allows, in sampling and in every loss alike."""

import torch
from torch import Tensor


def log_softmax(logits: Tensor, allowed: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities [.., V] of logits [.., V] over the tokens of the mask [.., V]; -inf outside it."""
    return torch.log_softmax((logits.float() / temperature).masked_fill(~allowed, -torch.inf), -1)


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy [..] in nats of log-probabilities [.., V] that may hold -inf."""
    return -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum(-1)
