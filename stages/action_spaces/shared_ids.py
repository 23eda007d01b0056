"""What Semantic IDs that items share, and whose tokens have published names, need beside those of a tokenizer here."""

from dataclasses import replace

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from stages.action_spaces.trie import Trie
from stages.corpus.histories import Histories, Ints

NAMES = "abcdefgh"  # of levels: <s_a_17>, <s_b_3>, ..
MARKS = ("<|sid_begin|>", "<|sid_end|>")  # around an id, as published


def in_use(codes: Ints) -> tuple[list[Ints], Ints]:
    """The codes of each level that items have, ascending, and codes [N, D] as places among them.

    Of 8192 a level a small catalogue has few, and a token for each of the others would be rows that nothing trains.
    """
    found = [np.unique(codes[:, level], return_inverse=True) for level in range(codes.shape[1])]
    return [used for used, _ in found], np.stack([place.ravel() for _, place in found], axis=1).astype(np.int64)


def named_columns(used: list[Ints], tokenizer: PreTrainedTokenizerBase | None, first_new: int) -> Ints:
    """[D, C] token of each code in use, and token `first_new` behind the last of a level that has fewer.

    A token of the tokenizer's where it has the published name, a new one otherwise.
    """
    known = {} if tokenizer is None else tokenizer.get_vocab()
    columns = np.full((len(used), max(map(len, used))), first_new, dtype=np.int64)
    new = first_new
    for level, codes in enumerate(used):
        for place, code in enumerate(codes.tolist()):
            name = name_of(level, code)
            columns[level, place] = known.get(name, new)
            new += name not in known
    return columns


def name_of(level: int, code: int) -> str:
    """The published name of a code's token."""
    return f"<s_{NAMES[level]}_{code}>"


def marks_of(tokenizer: PreTrainedTokenizerBase | None, first_new: int) -> Ints:
    """[2] tokens of MARKS: the tokenizer's where it has them, otherwise `first_new` and the next."""
    known = {} if tokenizer is None else tokenizer.get_vocab()
    new = [name for name in MARKS if name not in known]
    return np.array([known[name] if name in known else first_new + new.index(name) for name in MARKS], dtype=np.int64)


def named(used: list[Ints], columns: Ints, marks: Ints) -> dict[int, str]:
    """The published name of each token that has one."""
    codes = {
        int(columns[level, place]): name_of(level, code)
        for level, own in enumerate(used)
        for place, code in enumerate(own.tolist())
    }
    return codes | dict(zip(marks.tolist(), MARKS, strict=True))


def shared_trie(codes: Ints, alike: Ints) -> Trie:
    """The trie of the ids in codes [N, D]: a leaf is the item that stands for its id, and every item leads to one."""
    own = np.flatnonzero(alike == np.arange(len(alike)))
    trie, place = Trie(codes[own]), torch.from_numpy(np.searchsorted(own, alike))
    trie.items = torch.from_numpy(own.astype(np.int32))[trie.items.long()]
    trie.node, trie.codes = trie.node[place], trie.codes[place]
    return trie


def standing(histories: Histories, alike: Ints) -> Histories:
    """The histories with each item as the one that stands for its id."""
    held_out = {
        split: np.where(own >= 0, alike[own], -1)
        for split, own in (("valid", histories.valid), ("test", histories.test))
    }
    return replace(histories, item=alike[histories.item], **held_out)
