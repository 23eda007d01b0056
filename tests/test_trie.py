"""The trie in tensors against a dictionary of prefixes, on random catalogues."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.action_spaces.trie import ROOT, Trie
from stages.core.errors import InputError


def catalogue(seed: int, items: int, depth: int, size: int) -> np.ndarray:
    """Distinct ids [N, depth] over `size` tokens, in random order: every level has the same tokens."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(size**depth, min(items, size**depth), replace=False)
    return np.stack([chosen // size**level % size for level in range(depth)], 1).astype(np.int64)


def prefixes(tokens: np.ndarray) -> dict[tuple[int, ...], set[int]]:
    """Items behind each prefix: the naive trie."""
    behind: dict[tuple[int, ...], set[int]] = {}
    for item, row in enumerate(tokens.tolist()):
        for end in range(len(row) + 1):
            behind.setdefault(tuple(row[:end]), set()).add(item)
    return behind


def padded(banned: set[int], width: int, generator: np.random.Generator) -> torch.Tensor:
    """The banned items in random places of [1, width], -1 elsewhere."""
    row = np.full(width, -1)
    row[generator.choice(width, len(banned), replace=False)] = list(banned)
    return torch.from_numpy(row)[None]


def walk(trie: Trie, prefix: tuple[int, ...]) -> torch.Tensor:
    node = trie.start(1, 1)
    for token in prefix:
        node = trie.advance(node, torch.tensor([[token]]))
    return node


def tokens_of(mask: torch.Tensor) -> set[int]:
    return set(mask.nonzero()[:, -1].tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 14), st.integers(1, 4), st.integers(2, 4), st.floats(0, 1))
def test_allowed_at_every_node(seed, items, depth, size, share):
    """A code is allowed where an item that may be named lies behind it: at every prefix, whichever list says so."""
    generator = np.random.default_rng(seed)
    tokens = catalogue(seed, items, depth, size)
    trie, behind = Trie(tokens), prefixes(tokens)
    banned = set(np.flatnonzero(generator.random(len(tokens)) < share).tolist())
    whole = padded(banned, len(tokens) + 2, generator)
    own = {item for item in banned if generator.random() < 0.5}
    seen, mine = padded(banned - own, len(tokens), generator), padded(own, len(tokens) + 1, generator)[None]
    listed = set(np.flatnonzero(generator.random(len(tokens)) < 0.5).tolist()) | banned
    only = padded(listed, len(tokens) + 3, generator)
    for prefix, members in behind.items():
        node = walk(trie, prefix)
        assert int(trie.leaves[node]) == len(members)
        if len(prefix) == depth:
            assert {int(trie.item_at(node))} == members
            continue
        assert int(trie.item_at(node)) == -1
        want = {token for token in range(size + 1) if behind.get((*prefix, token), set()) - banned}
        assert tokens_of(trie.allowed(node, len(prefix), whole)) == want
        assert tokens_of(trie.allowed(node, len(prefix), seen, mine)) == want
        want = {token for token in want if behind[(*prefix, token)] & listed - banned}
        assert tokens_of(trie.allowed(node, len(prefix), seen, mine, only)) == want


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 14), st.integers(1, 4), st.integers(2, 4))
def test_no_dead_end_while_an_item_is_left(seed, items, depth, size):
    """Random walks that ban each item they end at name every item exactly once; then nothing is allowed."""
    generator = np.random.default_rng(seed)
    tokens = catalogue(seed, items, depth, size)
    trie = Trie(tokens)
    found: list[int] = []
    for _ in range(len(tokens)):
        node, spelled, row = trie.start(1, 1), [], padded(set(found), len(tokens), generator)
        for level in range(depth):
            allowed = sorted(tokens_of(trie.allowed(node, level, row)))
            assert allowed
            spelled.append(int(generator.choice(allowed)))
            node = trie.advance(node, torch.tensor([spelled[-1:]]))
        found.append(int(trie.item_at(node)))
        assert tokens[found[-1]].tolist() == spelled
    assert sorted(found) == list(range(len(tokens)))
    assert not trie.allowed(trie.start(1, 1), 0, padded(set(found), len(tokens), generator)).any()


def test_rows_do_not_mix():
    """Users at different nodes with lists of their own, as one by one; items 00, 01, 10, 11."""
    trie = Trie(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    node = torch.cat([walk(trie, (0,)), walk(trie, (1,)), walk(trie, (1,))])
    banned = torch.tensor([[0, 2], [0, 2], [3, -1]])
    assert trie.allowed(node, 1, banned)[:, 0].tolist() == [[False, True], [False, True], [True, False]]
    root = trie.allowed(trie.start(3, 1), 0, torch.tensor([[0, 1], [0, 2], [2, 3]]))
    assert root[:, 0].tolist() == [[False, True], [True, True], [True, False]]


def test_rows_of_a_user_share_what_is_banned_and_keep_their_own():
    """Item 0 is banned for both rows; the first has item 1 in its slate as well, the second item 3."""
    trie = Trie(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    banned, own = torch.tensor([[0, -1]]), torch.tensor([[[1], [3]]])
    assert trie.allowed(trie.start(1, 2), 0, banned, own)[0].tolist() == [[False, True], [True, True]]
    node = torch.cat([walk(trie, (1,)), walk(trie, (1,))], 1)
    assert trie.allowed(node, 1, banned, own)[0].tolist() == [[True, True], [True, False]]


def test_without_banned_items():
    trie = Trie(np.array([[0, 2], [1, 2]]))
    nothing = torch.empty(1, 0, dtype=torch.int64)
    assert trie.allowed(trie.start(1, 1), 0, nothing)[0].tolist() == [[True, True, False]]


def test_paths_lead_to_the_items():
    """`node` [N, D + 1] is the path that `advance` takes from the root."""
    tokens = catalogue(5, 12, 3, 3)
    trie = Trie(tokens)
    for item, row in enumerate(tokens.tolist()):
        assert trie.node[item].tolist() == [int(walk(trie, tuple(row[:end]))) for end in range(4)]
    assert (trie.node[:, 0] == ROOT).all()


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 3), (0, 3)])
def test_twins_are_refused_by_name(first, second):
    tokens = np.array([[0, 1, 2], [1, 0, 2], [2, 2, 1], [2, 0, 0]])
    tokens[second] = tokens[first]
    with pytest.raises(InputError, match=rf"items {first} and {second} have the same id \[{tokens[first, 0]}, "):
        Trie(tokens)
