"""The catalogue's ids as a prefix tree in tensors: what may come next, in one vectorised step for all rows.

Nodes are numbered from the root = 0. Items that a row must not name (seen, or in the slate already) are given as a
list per row; a token is allowed where the subtree behind it holds more items than the list takes out of it. So a row
never runs into a dead end as long as one item is left, and the cost of a step depends on the length of the lists, not
on the size of the catalogue.
"""

import numpy as np
import torch
from torch import Tensor

from stages.core.errors import InputError
from stages.corpus.histories import Ints

ROOT = 0


class Trie:
    """Prefix tree of N items of D tokens each, over V tokens."""

    def __init__(self, tokens: Ints, vocabulary: int) -> None:
        """Build the tree from `tokens` [N, D]. Raises InputError where two items share their tokens."""
        count, self.depth = tokens.shape
        node = np.zeros((count, self.depth + 1), dtype=np.int64)
        parents, edges, leaves, nodes = [], [], [np.array([count])], 1
        for level in range(self.depth):
            keys, number, size = np.unique(
                node[:, level] * vocabulary + tokens[:, level], return_inverse=True, return_counts=True
            )
            node[:, level + 1] = nodes + number
            parents.append(keys // vocabulary)
            edges.append(keys % vocabulary)
            leaves.append(size)
            nodes += len(keys)
        if (twins := np.flatnonzero(leaves[-1] > 1)).size:
            pair = np.flatnonzero(node[:, -1] == nodes - len(leaves[-1]) + twins[0])[:2]
            raise InputError(f"items {pair[0]} and {pair[1]} have the same id {tokens[pair[0]].tolist()}")
        children = np.full((nodes - len(leaves[-1]), vocabulary), -1, dtype=np.int32)
        children[np.concatenate(parents), np.concatenate(edges)] = np.arange(1, nodes)
        item = np.full(nodes, -1, dtype=np.int64)
        item[node[:, -1]] = np.arange(count)
        self.paths = node[:, :-1]  # [N, D] on the CPU: the inner node before each token of an item
        self.tokens = torch.from_numpy(tokens.astype(np.int64))  # [N, D]
        self.node = torch.from_numpy(node)  # [N, D + 1] the nodes on each item's path
        self.children = torch.from_numpy(children)  # [inner nodes, V] next node, -1 where there is none
        self.leaves = torch.from_numpy(np.concatenate(leaves))  # [nodes] items behind each node
        self.item = torch.from_numpy(item)  # [nodes] the item of a leaf, -1 elsewhere

    def to(self, device: torch.device | str) -> "Trie":
        """Move the tensors."""
        for name in ("tokens", "node", "children", "leaves", "item"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def start(self, rows: int) -> Tensor:
        """The root, for each of the rows: [R]."""
        return torch.full((rows,), ROOT, dtype=torch.int64, device=self.node.device)

    def allowed(self, node: Tensor, level: int, banned: Tensor) -> Tensor:
        """Mask [R, V] of the tokens that lead from `node` [R] at `level` to an item outside `banned` [R, X].

        `banned` holds item numbers, each at most once in a row; -1 stands for none.
        """
        child = self.children[node].long()  # [R, V]
        items = torch.where(child >= 0, self.leaves[child], 0)
        inside = (banned >= 0) & (self.node[banned, level] == node[:, None])  # [R, X]
        taken = torch.zeros_like(items).scatter_add_(1, self.tokens[banned, level], inside.long())
        return items > taken

    def advance(self, node: Tensor, token: Tensor) -> Tensor:
        """The node behind `token` [R] from `node` [R]."""
        return self.children[node, token].long()
