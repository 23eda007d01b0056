"""Lists out of scores of the whole catalogue."""

import torch
from torch import Tensor


def best_items(scores: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The items of the highest scores [U, N], best first [U, length], and their scores.

    Equal scores: lower item number first, which topk leaves open. Items at -inf are none: -1 with score 0, as is what
    lies behind the end of a small catalogue.
    """
    count = min(length, scores.shape[1])
    least = scores.topk(count).values[:, -1:]
    above, level = scores > least, scores == least
    level &= level.cumsum(1) <= count - above.sum(1, keepdim=True)
    items = (above | level).nonzero()[:, 1].view(-1, count)  # ascending
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    items = items.gather(1, order).masked_fill(values == -torch.inf, -1)
    values = values.masked_fill(values == -torch.inf, 0.0)
    behind = (0, length - count)
    return torch.nn.functional.pad(items, behind, value=-1), torch.nn.functional.pad(values, behind)
