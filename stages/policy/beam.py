"""The most likely next items: by beam search over the catalogue, or out of a pool, all of whose items are scored.

Probabilities are at temperature 1, log-probabilities in nats.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from stages.action_spaces.base import ActionSpace, Catalogue
from stages.action_spaces.trie import ROOT
from stages.policy.constrained import log_softmax, output_logits
from stages.policy.logprobs import spell
from stages.policy.sharing import Reading

ROWS = 2048  # candidates of all users together that are scored at once


def next_items(reading: Reading, space: ActionSpace, width: int, count: int) -> tuple[Tensor, Tensor]:
    """The `count` likeliest next items per user [B, count], best first, and their log-probabilities [B, count]."""
    if reading.prompts.pool is not None:
        return rank_pool(reading, space, count)
    return beam_items(reading, space, width, count)


@torch.no_grad()
def beam_items(reading: Reading, space: Catalogue, width: int, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best items per user [B, count], best first, and their log-probabilities [B, count].

    `width` prefixes are kept per level. Where fewer items are found than asked for, the rest is -1 with -inf.
    """
    model, prompts, trie = reading.model, reading.prompts, space.trie
    hidden = reading.start()[:, None]  # [B, beams, h]
    node = trie.start(len(prompts.tokens), 1)
    score = hidden.new_zeros(len(hidden), 1, dtype=torch.float32)  # [B, beams]
    for level, columns in enumerate(space.columns):
        choices = trie.choices(node, level, prompts.banned, only=prompts.only)
        logits = trie.pick(output_logits(model, hidden, columns), choices, level)
        log_probs = log_softmax(logits, choices.open)  # [B, beams, W]
        total = score[..., None] + log_probs.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        last = level == trie.depth - 1
        score, choice = total.flatten(1).topk(min(count if last else width, total[0].numel()))
        beam = choice // total.shape[-1]  # [B, kept]
        alive = score > -torch.inf
        node = torch.where(alive, choices.child.flatten(1).gather(1, choice), ROOT)
        if not last:
            reading.select(beam)
            hidden = reading.read(columns[trie.code[node].long()])
    items = torch.where(alive, trie.item_at(node), -1)
    missing = count - items.shape[1]
    return pad(items, (0, missing), value=-1), pad(score, (0, missing), value=-torch.inf)


@torch.no_grad()
def rank_pool(reading: Reading, space: ActionSpace, count: int) -> tuple[Tensor, Tensor]:
    """The `count` likeliest items of each user's pool [B, count] as the first of a slate, and their log-probabilities.

    Where a pool holds fewer items, the rest is -1 with -inf.
    """
    pool = reading.prompts.pool
    assert pool is not None
    parts = pool.items.split(max(1, ROWS // len(pool.items)), 1)
    score = torch.cat([_item_scores(reading, space, part) for part in parts], 1)
    score, best = score.topk(min(count, score.shape[1]))
    items = pool.items.gather(1, best).masked_fill(score == -torch.inf, -1)
    missing = count - items.shape[1]
    return pad(items, (0, missing), value=-1), pad(score, (0, missing), value=-torch.inf)


def _item_scores(reading: Reading, space: ActionSpace, items: Tensor) -> Tensor:
    """Log-probability of each of some items [B, n] as a slate's first, -inf where it cannot be: [B, n]."""
    slates, possible = spell(reading.prompts, space, items[..., None])  # slates of one item
    hidden = reading.start()[:, None].expand(-1, items.shape[1], -1)
    score = torch.zeros(items.shape, device=items.device)
    choosing = (slates.open.sum(3) > 1).flatten(0, 1).any(0).nonzero()  # steps that leave some item a choice
    for step in range(int(choosing[-1]) + 1 if len(choosing) else 0):  # behind the last, log-probabilities are 0
        if step:
            hidden = reading.read(slates.tokens[:, :, step - 1])
        logits = space.logits(reading.model, hidden[:, :, None], reading.prompts, step)[:, :, 0]
        log_probs = log_softmax(logits, slates.open[:, :, step])
        score = score + log_probs.gather(2, slates.choice[:, :, step, None])[..., 0]
    return score.masked_fill(~possible | (items < 0), -torch.inf)
