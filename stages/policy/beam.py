"""Beam search for the next item: the most likely items of the catalogue, given the context."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import Prompts
from stages.action_spaces.trie import Trie
from stages.policy.constrained import log_softmax
from stages.policy.prefix import read_on, read_prompts


@torch.no_grad()
def beam_items(model: PreTrainedModel, prompts: Prompts, trie: Trie, width: int, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best items per user [B, count], best first, and their log-probabilities [B, count].

    `width` prefixes are kept per level. Where fewer items are found than asked for, the rest is -1 with -inf.
    """
    users = len(prompts.tokens)
    prefix = read_prompts(model, prompts)
    banned = prompts.banned
    node = trie.start(users)
    score = prefix.logits.new_zeros(users, 1)  # [B, beams]
    for level in range(trie.depth):
        log_probs = log_softmax(prefix.logits, trie.allowed(node, level, banned))  # [B * beams, V]
        total = score[..., None] + log_probs.nan_to_num(nan=-torch.inf, neginf=-torch.inf).unflatten(0, (users, -1))
        last = level == trie.depth - 1
        kept = min(count if last else width, total[0].numel())
        score, choice = total.flatten(1).topk(kept)
        beam, token = choice // total.shape[-1], choice % total.shape[-1]
        rows = (torch.arange(users, device=beam.device)[:, None] * total.shape[1] + beam).flatten()
        alive = score.flatten() > -torch.inf
        node = torch.where(alive, trie.advance(node[rows], token.flatten()), trie.start(len(rows)))
        if not last:
            banned = banned[rows]
            prefix, _ = read_on(model, prefix.selected(rows), token.flatten()[:, None])
    items = torch.where(alive, trie.item[node], -1).unflatten(0, (users, -1))
    missing = count - items.shape[1]
    return torch.nn.functional.pad(items, (0, missing), value=-1), torch.nn.functional.pad(
        score, (0, missing), value=-torch.inf
    )
