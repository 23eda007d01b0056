"""Beam search for the next item: the most likely items of the catalogue, given the context."""

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace, Prompts
from stages.action_spaces.trie import ROOT
from stages.policy.constrained import code_logits, log_softmax
from stages.policy.sharing import Reading


@torch.no_grad()
def beam_items(
    model: PreTrainedModel, prompts: Prompts, space: ActionSpace, width: int, count: int
) -> tuple[Tensor, Tensor]:
    """The `count` best items per user [B, count], best first, and their log-probabilities [B, count].

    `width` prefixes are kept per level. Where fewer items are found than asked for, the rest is -1 with -inf.
    """
    trie, users = space.trie, len(prompts.tokens)
    reading = Reading(model, prompts, trie.depth)
    hidden = reading.start()[:, None]  # [B, beams, h]
    node = trie.start(users, 1)
    score = hidden.new_zeros(users, 1, dtype=torch.float32)  # [B, beams]
    for level, columns in enumerate(space.columns):
        choices = trie.choices(node, level, prompts.banned, only=prompts.only)
        logits = trie.pick(code_logits(model, hidden, columns), choices, level)
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
