"""The catalogue's ids as a prefix tree in tensors: what may come next, in one vectorised step for all rows.

Nodes are numbered from the root = 0, level by level and inside a level by their codes, so that a node's children are
neighbours: one number per node says where they start (compressed sparse rows), and the next state is the child's own
number. A step looks at the children of the nodes at hand alone, padded to as many as the level's widest node has; its
cost does not grow with the catalogue.

Items that must not be named (seen by the user, or in the slate already) are given as lists, and so are those that alone
may be (a category, what is new); a child may be taken where an item is left behind it when the lists are counted. So a
row never runs into a dead end as long as one item is left.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.core.errors import InputError
from stages.corpus.histories import Ints

ROOT = 0


class Choices(NamedTuple):
    """What may follow each of some nodes: W places, as many as the widest node of the level has children."""

    child: Tensor  # [.., W] the node that a place leads to; any node where the place is not open
    open: Tensor  # [.., W] whether it may be taken


class Trie:
    """Prefix tree of N items of D codes each, out of C = `size` codes per level."""

    def __init__(self, codes: Ints) -> None:
        """Build the tree from `codes` [N, D]. Raises InputError where two items share their codes."""
        count, self.depth = codes.shape
        self.size = int(codes.max()) + 1
        node = np.zeros((count, self.depth + 1), dtype=np.int32)
        code, children, leaves, nodes = [np.zeros(1, np.int32)], [], [np.array([count])], 1
        for level in range(self.depth):
            before = len(leaves[-1])  # nodes of this level
            keys, number, behind = np.unique(
                (node[:, level] - (nodes - before)) * np.int64(self.size) + codes[:, level],
                return_inverse=True,
                return_counts=True,
            )
            node[:, level + 1] = nodes + number
            code.append((keys % self.size).astype(np.int32))
            children.append(np.bincount(keys // self.size, minlength=before))
            leaves.append(behind)
            nodes += len(keys)
        if (twins := np.flatnonzero(leaves[-1] > 1)).size:
            pair = np.flatnonzero(node[:, -1] == nodes - len(leaves[-1]) + twins[0])[:2]
            raise InputError(f"items {pair[0]} and {pair[1]} have the same id {codes[pair[0]].tolist()}")
        item = np.empty(count, dtype=np.int32)
        item[node[:, -1] - (nodes - count)] = np.arange(count)
        self.widths = [int(own.max()) for own in children]  # children of the widest node of each level
        self.first_leaf = nodes - count
        self.codes = torch.from_numpy(codes.astype(np.int32))  # [N, D]
        self.node = torch.from_numpy(node)  # [N, D + 1] the nodes on each item's path
        self.code = torch.from_numpy(np.concatenate(code))  # [nodes] the code that leads to each
        start = np.cumsum(np.r_[1, np.concatenate(children)]).astype(np.int32)
        self.first = torch.from_numpy(start)  # [inner nodes + 1] first child of each; the next node's first ends them
        self.leaves = torch.from_numpy(np.concatenate(leaves).astype(np.int32))  # [nodes] items behind each node
        self.items = torch.from_numpy(item)  # [N] item of each leaf, in their order

    def to(self, device: torch.device | str) -> "Trie":
        """Move the tensors."""
        for name in ("codes", "node", "code", "first", "leaves", "items"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def start(self, *shape: int) -> Tensor:
        """The root, for each row of a shape."""
        return torch.full(shape, ROOT, dtype=torch.int64, device=self.node.device)

    def children(self, node: Tensor, level: int) -> Choices:
        """All children of `node` [..] at `level`, in the order of their codes: [.., W]."""
        if level == 0:  # one node, whose children all rows share
            child = torch.arange(1, self.widths[0] + 1, device=node.device).expand(*node.shape, -1)
            return Choices(child, torch.ones((), dtype=torch.bool, device=node.device).expand_as(child))
        start, end = self.first[node].long(), self.first[node + 1]
        child = start[..., None] + torch.arange(self.widths[level], device=node.device)
        inside = child < end[..., None]
        return Choices(torch.where(inside, child, start[..., None]), inside)

    def choices(
        self, node: Tensor, level: int, banned: Tensor, own: Tensor | None = None, only: Tensor | None = None
    ) -> Choices:
        """The children of `node` [B, K] at `level`, open where they lead to an item that may be named: [B, K, W].

        banned [B, X]: items that no row of a user may name; own [B, K, Y]: items that one row may not; only [B, Z]: the
        items that a user's rows may name at all, None for the catalogue. Item numbers, each at most once in a row and
        either banned or own, and then among `only`; -1 stands for none.
        """
        child, inside = self.children(node, level)
        one = child[:, :1] if level == 0 else child  # all K rows share the root's children
        left = self.leaves[one] if only is None else self._listed_behind(one, level, only)
        left = (left - self._listed_behind(one, level, banned)).expand_as(child)
        if own is not None:
            behind = self.node[own, level + 1].long()  # [B, K, Y]
            here = (own >= 0) & (self.node[own, level] == node[..., None])
            place = torch.where(here, behind - self.first[node][..., None], 0)
            left = left.scatter_add(2, place, -here.to(left.dtype))
        return Choices(child, inside & (left > 0))

    def allowed(
        self, node: Tensor, level: int, banned: Tensor, own: Tensor | None = None, only: Tensor | None = None
    ) -> Tensor:
        """The open choices as a mask over all codes: [B, K, C]."""
        return self.as_mask(self.choices(node, level, banned, own, only))

    def pick(self, values: Tensor, choices: Choices, level: int) -> Tensor:
        """Of one value per code [.., C] those of the choices at `level`: [.., W]."""
        if level > 0:
            return values.gather(-1, self.code[choices.child].long())
        return values if self.widths[0] == self.size else values.index_select(-1, self.code[1 : self.widths[0] + 1])

    def as_mask(self, choices: Choices) -> Tensor:
        """Choices [.., W] as a mask over all codes: [.., C]."""
        code = torch.where(choices.open, self.code[choices.child], self.size).long()  # closed ones go beyond the end
        mask = torch.zeros(*code.shape[:-1], self.size + 1, dtype=torch.bool, device=code.device)
        return mask.scatter_(-1, code, True)[..., :-1]

    def _listed_behind(self, child: Tensor, level: int, items: Tensor) -> Tensor:
        """How many of the items listed [B, X] lie behind each node [B, K, W] below `level`: the same shape.

        Found in a user's sorted list, so that K rows share it and no table over the catalogue is needed.
        """
        behind = torch.where(items >= 0, self.node[items, level + 1].long(), ROOT).sort(1).values  # [B, X]
        nodes = child.flatten(1).contiguous()
        count = torch.searchsorted(behind, nodes, right=True) - torch.searchsorted(behind, nodes)
        return count.view(child.shape)

    def advance(self, node: Tensor, code: Tensor) -> Tensor:
        """The child of `node` behind `code`, of one shape; the code has to be one of the node's."""
        low, high = self.first[node].long(), self.first[node + 1].long()
        for _ in range(max(self.widths).bit_length()):  # bisection in the node's children, all rows at once
            middle = (low + high) // 2
            beyond = self.code[middle.clamp(max=len(self.code) - 1)] > code
            low, high = torch.where(beyond | (middle >= high), low, middle), torch.where(beyond, middle, high)
        return low

    def item_at(self, node: Tensor) -> Tensor:
        """Item of each leaf [..], of the same shape; -1 at other nodes."""
        leaf = node - self.first_leaf
        return torch.where(leaf >= 0, self.items[leaf.clamp(min=0)].long(), -1)
