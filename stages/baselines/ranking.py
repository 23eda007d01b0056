"""Lists out of scores of the whole catalogue."""

import torch
from torch import Tensor
from torch.nn import functional


def best_items(scores: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The items of the highest scores [U, N], best first [U, length], and their scores.

    Equal scores: lower item number first. Items at -inf are none: -1 with score 0, as is what lies behind the end of a
    small catalogue.
    """
    count = min(length, scores.shape[1])
    values, items = scores.topk(min(count + 1, scores.shape[1]))
    tied = values[:, count - 1] == values[:, -1] if count < scores.shape[1] else torch.zeros_like(values[:, 0]).bool()
    if tied.any():  # topk leaves open which of them it takes
        items[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, : count + 1]
    items = items[:, :count].sort(dim=1).values
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    none = values == -torch.inf
    items, values = items.gather(1, order).masked_fill(none, -1), values.masked_fill(none, 0.0)
    behind = (0, length - count)
    return functional.pad(items, behind, value=-1), functional.pad(values, behind)
