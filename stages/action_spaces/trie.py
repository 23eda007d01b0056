"""The catalogue's ids as a prefix tree in tensors: what may come next, in one vectorised step for all rows.

Nodes are numbered from the root = 0. Items that must not be named (seen by the user, or in the slate already) are given
as lists; a code is allowed where the subtree behind it holds more items than the lists take out of it. So a row never
runs into a dead end as long as one item is left, and the cost of a step depends on the length of the lists, not on the
size of the catalogue.
"""

import numpy as np
import torch
from torch import Tensor

from stages.core.errors import InputError
from stages.corpus.histories import Ints

ROOT = 0


class Trie:
    """Prefix tree of N items of D codes each, out of C = `size` codes per level."""

    def __init__(self, codes: Ints) -> None:
        """Build the tree from `codes` [N, D]. Raises InputError where two items share their codes."""
        count, self.depth = codes.shape
        self.size = int(codes.max()) + 1
        node = np.zeros((count, self.depth + 1), dtype=np.int64)
        parents, edges, leaves, nodes = [], [], [np.array([count])], 1
        for level in range(self.depth):
            keys, number, size = np.unique(
                node[:, level] * self.size + codes[:, level], return_inverse=True, return_counts=True
            )
            node[:, level + 1] = nodes + number
            parents.append(keys // self.size)
            edges.append(keys % self.size)
            leaves.append(size)
            nodes += len(keys)
        if (twins := np.flatnonzero(leaves[-1] > 1)).size:
            pair = np.flatnonzero(node[:, -1] == nodes - len(leaves[-1]) + twins[0])[:2]
            raise InputError(f"items {pair[0]} and {pair[1]} have the same id {codes[pair[0]].tolist()}")
        children = np.full((nodes - len(leaves[-1]), self.size), -1, dtype=np.int32)
        children[np.concatenate(parents), np.concatenate(edges)] = np.arange(1, nodes)
        item = np.full(nodes, -1, dtype=np.int64)
        item[node[:, -1]] = np.arange(count)
        self.paths = node[:, :-1]  # [N, D] on the CPU: the inner node before each code of an item
        self.codes = torch.from_numpy(codes.astype(np.int64))  # [N, D]
        self.node = torch.from_numpy(node)  # [N, D + 1] the nodes on each item's path
        self.children = torch.from_numpy(children)  # [inner nodes, C] next node, -1 where there is none
        self.leaves = torch.from_numpy(np.concatenate(leaves))  # [nodes] items behind each node
        self.item = torch.from_numpy(item)  # [nodes] the item of a leaf, -1 elsewhere

    def to(self, device: torch.device | str) -> "Trie":
        """Move the tensors."""
        for name in ("codes", "node", "children", "leaves", "item"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def start(self, *shape: int) -> Tensor:
        """The root, for each row of a shape."""
        return torch.full(shape, ROOT, dtype=torch.int64, device=self.node.device)

    def allowed(self, node: Tensor, level: int, banned: Tensor, own: Tensor | None = None) -> Tensor:
        """Mask [B, K, C] of the codes that lead from `node` [B, K] at `level` to an item that may be named.

        banned [B, X]: items that no row of a user may name; own [B, K, Y]: items that one row may not. Item numbers,
        each at most once in a row and in one of the two; -1 stands for none.
        """
        child = self.children[node].long()  # [B, K, C]
        items = torch.where(child >= 0, self.leaves[child], 0)
        taken = self._banned_behind(child, level, banned)
        if own is not None:
            inside = (own >= 0) & (self.node[own, level] == node[..., None])  # [B, K, Y]
            taken.scatter_add_(2, self.codes[own, level], inside.long())
        return items > taken

    def _banned_behind(self, child: Tensor, level: int, banned: Tensor) -> Tensor:
        """How many of the items banned [B, X] lie behind each node [B, K, C] below `level`: the same shape.

        Found in a user's sorted list, so that K rows share it and no table over the catalogue is needed.
        """
        behind = torch.where(banned >= 0, self.node[banned, level + 1], ROOT).sort(1).values  # [B, X]
        nodes = child.flatten(1)
        count = torch.searchsorted(behind, nodes, right=True) - torch.searchsorted(behind, nodes)
        return count.view_as(child)

    def advance(self, node: Tensor, code: Tensor) -> Tensor:
        """The node behind `code` from `node`, of one shape."""
        return self.children[node, code].long()
