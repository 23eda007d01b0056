"""Losses of states against items, none of which makes a tensor of all scores of a batch.

P positions, T states of each, h hidden, N items. Padding is dropped before: P counts real targets. Each function
returns the sum over positions, in nats.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.corpus.histories import Ints

SCORES = 1 << 20  # held at once: 4 MB, which stay in a CPU's caches


def cross_entropy(states: Tensor, items: Tensor, target: Tensor, share: Tensor, kl: float = 0.0) -> Tensor:
    """Softmax over all items, for T states of each position, less a reward for states that differ.

        sum over positions of  sum_t share_t (-log p_t[target])  -  kl / (T (T - 1)) sum over i != j of KL(p_i || p_j)

    p_t = softmax(items @ states_t). In the divergence p_j stands still: its gradient reaches p_i alone. states
    [P, T, h], items [N, h], target [P], share [T]. Value and gradient are formed together, some positions at a time.
    """
    total: Tensor = _CrossEntropy.apply(states, items, target, share, kl)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropy(torch.autograd.Function):
    """With logits z and a_i = (T - 1) log p_i - sum over j != i of log p_j: dKL/dz_i = p_i (a_i - p_i . a_i)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, target: Tensor, share: Tensor, kl: float) -> Tensor:
        by_state, by_item = torch.empty_like(states), torch.zeros_like(items)
        total, count = states.new_zeros((), dtype=torch.float64), states.shape[1]
        at_once = max(1, SCORES // (count * len(items)))
        for start in range(0, len(states), at_once):
            part = slice(start, start + at_once)
            log_p = (states[part] @ items.T).log_softmax(-1)  # [R, T, N]
            place = target[part, None, None].expand(-1, count, 1)
            total -= (log_p.gather(-1, place)[..., 0].double() * share).sum()
            slope = log_p.exp()  # of the logits
            if kl:
                weight, apart = kl / (count * (count - 1)), count * log_p - log_p.sum(1, keepdim=True)
                mean = (slope * apart).sum(-1, keepdim=True)
                total -= weight * mean.double().sum()
                slope = slope * (share[:, None] - weight * (apart - mean))
            else:
                slope *= share[:, None]
            slope.scatter_add_(-1, place, -share[:, None].expand_as(place).to(slope.dtype))
            torch.matmul(slope, items, out=by_state[part])
            by_item.addmm_(slope.flatten(0, 1).T, states[part].flatten(0, 1))
        ctx.save_for_backward(by_state, by_item)
        return total.to(states.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_state, by_item = ctx.saved_tensors
        return grads[0] * by_state, grads[0] * by_item, None, None, None


def binary_cross_entropy(states: Tensor, items: Tensor, target: Tensor, other: Tensor) -> Tensor:
    """The target against one other item, -log sigmoid(s_target) - log(1 - sigmoid(s_other)): SASRec's, Sec. III-E.

    states [P, h], items [N, h], target and other [P]; a position whose other is -1 has the first term alone.
    """
    score = (states * items[target]).sum(-1)
    against = (states * items[other.clamp(min=0)]).sum(-1)[other >= 0]
    return -functional.logsigmoid(score).sum() - functional.logsigmoid(-against).sum()


def sampled_cross_entropy(states: Tensor, items: Tensor, target: Tensor, drawn: Tensor) -> Tensor:
    """Softmax over the target and items drawn uniformly from the catalogue, the same for all positions.

        -log  e^s_target / (e^s_target + N / M sum over drawn j != target of e^s_j)

    N / M is the correction by log Q of M uniform draws: the denominator is the full softmax's in expectation. states
    [P, h], items [N, h], target [P], drawn [M].
    """
    score = (states * items[target]).sum(-1, keepdim=True)
    others = states @ items[drawn].T + torch.log(torch.tensor(len(items) / len(drawn)))
    others = others.masked_fill(drawn == target[:, None], -torch.inf)
    return -torch.cat([score, others], 1).log_softmax(-1)[:, 0].sum()


class Unseen:
    """Draws items that a user has not seen, evenly."""

    def __init__(self, seen: Sequence[Ints], items: int, device: torch.device) -> None:
        """seen: each user's items, ascending, without twins; items: N."""
        lengths = np.array([len(own) for own in seen])
        below = [own - np.arange(len(own)) for own in seen]  # unseen items below each seen one
        keys = np.concatenate(below) + np.repeat(np.arange(len(seen)), lengths) * (items + 1)
        self.items, self.keys = items, torch.from_numpy(keys).to(device)
        self.first = torch.from_numpy(np.cumsum(lengths) - lengths).to(device)
        self.free = torch.from_numpy(items - lengths).to(device)

    def draw(self, user: Tensor) -> Tensor:
        """One item for each of the users [P], from torch's generator; -1 for a user who has seen all."""
        place = torch.rand(len(user), device=user.device, dtype=torch.float64)
        place = (place * self.free[user]).long()  # the how-manieth of the unseen ones
        passed = torch.searchsorted(self.keys, place + user * (self.items + 1), right=True) - self.first[user]
        return torch.where(self.free[user] > 0, place + passed, -1)
