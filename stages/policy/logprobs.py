"""Score given slates under a policy, with gradients."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import Prompts
from stages.policy.constrained import code_logits, entropy, log_softmax
from stages.policy.sharing import read_at_once


def slate_log_probs(
    model: PreTrainedModel, prompts: Prompts, columns: Tensor, codes: Tensor, allowed: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probability of each code [B, K, L, D] and entropy (nats) of the choice it was taken from, the same shape.

    codes [B, K, L, D] and allowed [B, K, L, D, C], the mask of each choice; columns [D, C], the token of each code. The
    softmax runs over the mask, at `temperature`, just as in sampling.
    """
    level = torch.arange(codes.shape[-1], device=codes.device)
    hidden = read_at_once(model, prompts, columns[level, codes].flatten(2)).unflatten(2, codes.shape[2:])
    chosen, uncertainty = [], []
    for depth, own in enumerate(columns):
        logits = code_logits(model, hidden[..., depth, :], own)  # [B, K, L, C]
        log_probs = log_softmax(logits, allowed[..., depth, :], temperature)
        chosen.append(log_probs.gather(-1, codes[..., depth, None])[..., 0])
        uncertainty.append(entropy(log_probs.detach()))
    return torch.stack(chosen, -1), torch.stack(uncertainty, -1)
