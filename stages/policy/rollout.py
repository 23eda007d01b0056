"""Sample slates: K per user from one reading of the prompt, in the words that the action space has open.

All rows take each step together; masks, draws and look-ups are tensor operations on the device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.action_spaces.base import ActionSpace, Slates
from stages.policy.constrained import log_softmax
from stages.policy.noise import gumbel
from stages.policy.sharing import Reading


@torch.no_grad()
def sample_slates(
    reading: Reading,
    space: ActionSpace,
    temperatures: Sequence[float],
    length: int,
    keys: Tensor | None,
    nucleus: float = 1.0,
) -> Slates:
    """Sample one slate of `length` items per user and temperature; 0 takes the likeliest token each time.

    keys [B]: what each user's draws hang on (`noise.keys_of`); None where nothing is drawn. nucleus: below 1, only the
    likeliest choices that have so much probability together are drawn from (top-p). The log-probabilities are
    those of the policy over what is open, at that temperature (at 1 for temperature 0). Raises InputError where a user
    has fewer than `length` items left.
    """
    model, prompts = reading.model, reading.prompts
    given = torch.tensor(temperatures, device=prompts.tokens.device)[:, None]  # [K, 1]
    scale = given.where(given > 0, 1.0)
    walk = space.walk(prompts, len(temperatures), length)
    hidden = reading.start()[:, None].expand(-1, len(temperatures), -1)
    steps: list[tuple[Tensor, ...]] = []
    while (real := walk.writing).any():
        if steps:
            hidden = reading.read(steps[-1][0])
        open_, place = walk.open(), walk.place
        logits = space.logits(model, hidden[:, :, None], prompts, len(steps))[:, :, 0]
        log_probs = log_softmax(logits, open_, scale)  # [B, K, C]
        noise = 0.0 if keys is None else gumbel(keys, len(temperatures), len(steps), log_probs.shape[2]) * (given > 0)
        drawn_from = log_probs if nucleus == 1 else within_nucleus(log_probs, nucleus)
        choice = (drawn_from + noise).argmax(-1)
        own = log_probs.gather(2, choice[..., None])[..., 0].where(real, 0)
        steps.append((walk.take(choice), choice, open_, place, real, own))
    return Slates(walk.items, *(torch.stack(parts, 2) for parts in zip(*steps, strict=True)))


def within_nucleus(log_probs: Tensor, share: float) -> Tensor:
    """Log-probabilities [.., C] with -inf for all but the fewest likeliest choices that reach the share together."""
    ordered, place = torch.sort(log_probs, dim=-1, descending=True, stable=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()  # of the likelier ones
    return log_probs.masked_fill((before >= share).gather(-1, place.argsort(-1)), -torch.inf)
