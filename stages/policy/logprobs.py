"""Score given slates under a policy, with gradients: one row per user for the prompt, one per slate behind it."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import Prompts
from stages.policy.constrained import entropy, log_softmax
from stages.policy.prefix import read_on, read_prompts


def slate_log_probs(
    model: PreTrainedModel, prompts: Prompts, tokens: Tensor, allowed: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probability of each token [B, K, T] and entropy (nats) of the choice it was taken from [B, K, T].

    tokens [B, K, T]; allowed [B, K, T, V], the mask of each choice; the softmax runs over the mask, at `temperature`,
    just as in sampling.
    """
    slates = tokens.shape[1]
    flat = tokens.flatten(0, 1)
    prefix = read_prompts(model, prompts).repeated(slates)
    logits = prefix.logits[:, None]
    if flat.shape[1] > 1:
        _, behind = read_on(model, prefix, flat[:, :-1])
        logits = torch.cat([logits, behind], 1)
    log_probs = log_softmax(logits, allowed.flatten(0, 1), temperature)
    chosen = log_probs.gather(-1, flat[..., None])[..., 0]
    return chosen.unflatten(0, tokens.shape[:2]), entropy(log_probs.detach()).unflatten(0, tokens.shape[:2])
