"""Slates written unaided: the likeliest token of the whole vocabulary each time, then read as names of the pool."""

import torch
from torch import Tensor

from stages.action_spaces.base import TextSpace
from stages.policy.constrained import output_logits
from stages.policy.sharing import Reading


@torch.no_grad()
def free_slates(reading: Reading, space: TextSpace, length: int) -> tuple[Tensor, Tensor]:
    """One greedy slate per user: items [B, L], -1 for a line that names no candidate, and scores of lines: the
    slate's log-probability over L.

    A user's slate ends with its L-th line, where the model ends its turn, or with as many tokens as L of the pool's
    longest names have. An item may come twice.
    """
    pool = reading.prompts.pool
    assert pool is not None
    most = length * pool.spelled.shape[2]
    hidden = reading.start()[:, None]  # [B, 1, h]
    breaks = space.line_breaks.to(hidden.device)  # [V] line breaks in each token
    written = torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device)
    tokens, scores = [], []
    while len(tokens) < most and (written < length).any():
        log_probs = torch.log_softmax(output_logits(reading.model, hidden[:, 0], None), -1)
        score, token = log_probs.max(-1)
        tokens.append(token.masked_fill(written >= length, max(space.end_of_turn, 0)))
        scores.append(score.masked_fill(written >= length, 0))
        written = torch.where(token == space.end_of_turn, length, written + breaks[token.clamp(max=len(breaks) - 1)])
        hidden = reading.read(token[:, None])
    items = space.parse(torch.stack(tokens, 1), pool, length)
    return items, torch.stack(scores, 1).sum(1)[:, None].expand(-1, length) / length
