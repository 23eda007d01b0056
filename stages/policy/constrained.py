"""The constrained policy: softmax over the choices that there are, in sampling and in every loss alike.

Only those rows of the output layer are computed that spell a choice, never the whole vocabulary.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedModel

from stages.policy.backbone import output_rows


def output_logits(model: PreTrainedModel, hidden: Tensor, columns: Tensor | None) -> Tensor:
    """Logits [.., C] of the tokens `columns` [C], None for all, from hidden states [.., h]."""
    if columns is None:
        columns = torch.arange(model.config.vocab_size, device=hidden.device)
    return linear(hidden, output_rows(model, columns)).float()


def log_softmax(logits: Tensor, allowed: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Log-probabilities [.., C] of logits [.., C] over the choices of the mask [.., C]; -inf outside it."""
    return torch.log_softmax((logits / temperature).masked_fill(~allowed, -torch.inf), -1)


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy [..] in nats of log-probabilities [.., C] that may hold -inf."""
    return -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum(-1)
