"""Score given slates under a policy, with gradients."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace, Prompts, Slates
from stages.action_spaces.tasked import Question, Tasked
from stages.policy.constrained import entropy, log_softmax, output_logits
from stages.policy.sharing import read_at_once


def token_log_probs(
    model: PreTrainedModel, prompts: Prompts, space: ActionSpace, slates: Slates, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probability of each token [B, K, T] and entropy (nats) of the choice it was taken from, the same shape.

    The softmax runs over the choices that there were, at `temperature`, just as in sampling. 0 at padding.
    """
    hidden = read_at_once(model, prompts, slates.tokens)
    log_probs = log_softmax(space.logits(model, hidden, prompts), slates.open, temperature)  # [B, K, T, C]
    chosen = log_probs.gather(-1, slates.choice[..., None])[..., 0]
    return chosen.where(slates.real, 0), entropy(log_probs.detach()).where(slates.real, 0)


def spell(prompts: Prompts, space: ActionSpace, items: Tensor) -> tuple[Slates, Tensor]:
    """Given slates `items` [B, K, L], -1 behind the last, token by token; and which of them can be written: [B, K].

    A slate that cannot, for an item that is banned or in no pool, breaks off there.
    """
    walk, steps = space.walk(prompts, *items.shape[1:]), []
    possible = torch.ones(items.shape[:2], dtype=torch.bool, device=items.device)
    while True:
        real = possible & walk.writing & (items.gather(2, walk.place[..., None]) >= 0)[..., 0]
        if steps and not real.any():
            break
        open_, place = walk.open(), walk.place
        choice, there = walk.towards(items)
        there &= open_.gather(2, choice[..., None].clamp(max=open_.shape[2] - 1))[..., 0]
        possible &= there | ~real
        real &= there
        one = torch.arange(open_.shape[2], device=items.device) == 0  # padding has one choice
        token = walk.take(choice)
        steps.append((token, choice.where(real, 0), open_.where(real[..., None], one), place, real))
    parts = [torch.stack(part, 2) for part in zip(*steps, strict=True)]
    return Slates(items, *parts, torch.zeros_like(parts[0], dtype=torch.float32)), possible


def answer_logits(model: PreTrainedModel, space: Tasked, asked: list[Question]) -> Tensor:
    """Logits of yes and no behind prompts: [B, 2]."""
    assert space.answers is not None
    prompts = space.task_prompts(asked).to(model.device)
    states = model.get_decoder()(input_ids=prompts.tokens, use_cache=False).last_hidden_state
    last = states[torch.arange(len(states), device=model.device), prompts.mask.sum(1) - 1]
    return output_logits(model, last, torch.from_numpy(space.answers).to(model.device))
