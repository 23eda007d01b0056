"""The constrained policy: softmax over the codes that the trie allows, in sampling and in every loss alike.

Only the columns of the output layer that spell a level's codes are computed, never the whole vocabulary.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedModel


def code_logits(model: PreTrainedModel, hidden: Tensor, columns: Tensor) -> Tensor:
    """Logits [.., C] of the tokens `columns` [C] from hidden states [.., h]."""
    return linear(hidden, model.get_output_embeddings().weight[columns]).float()


def log_softmax(logits: Tensor, allowed: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Log-probabilities [.., C] of logits [.., C] over the codes of the mask [.., C]; -inf outside it."""
    return torch.log_softmax((logits / temperature).masked_fill(~allowed, -torch.inf), -1)


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy [..] in nats of log-probabilities [.., C] that may hold -inf."""
    return -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum(-1)
