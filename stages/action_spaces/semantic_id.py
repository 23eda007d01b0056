"""Semantic IDs (TIGER, OneRec): an item is one code per level, and every level has its own tokens.

Token ids: 0 padding, 1 start of a history, 2 request for a slate, then level 0's codes, level 1's, ...
"""

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
import torch

from stages.action_spaces.trie import Trie
from stages.core.errors import InputError
from stages.core.schema import read
from stages.corpus.histories import Ints
from stages.semantic_ids.table import IDS, code_columns

PADDING, START, SLATE, FIRST_CODE = 0, 1, 2, 3


class Actions:
    """The action space of `data/<dataset>/actions/semantic_id`."""

    def __init__(self, folder: Path) -> None:
        """Read the ids. Raises InputError where an item has none or shares its own."""
        table = read(folder / "ids.parquet", IDS)
        codes = np.stack([table[name].to_numpy() for name in code_columns(table)], axis=1).astype(np.int64)
        if not np.array_equal(table["item"].to_numpy(), np.arange(len(codes))):
            raise InputError(f"{folder}/ids.parquet: items have to be 0..{len(codes) - 1}, each once; rerun tokenize")
        if not len(codes):
            raise InputError(f"{folder}/ids.parquet: no item; rerun tokenize")
        if codes.min() < 0:
            raise InputError(f"{folder}/ids.parquet: a code is negative; rerun tokenize")
        self.trie = Trie(codes)
        first = FIRST_CODE + self.trie.size * np.arange(codes.shape[1])  # [D] the token of code 0
        self.tokens = codes + first  # [N, D]
        self.vocabulary = FIRST_CODE + self.trie.size * codes.shape[1]
        self.columns = torch.from_numpy(first[:, None] + np.arange(self.trie.size))
        self.fingerprint = hashlib.sha256(self.tokens.tobytes()).hexdigest()[:16]
        self.slate_token = SLATE

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors."""
        self.trie.to(device)
        self.columns = self.columns.to(device)
        return self

    def history(self, items: Ints) -> Ints:
        """START, then the items' codes: [1 + D * items]."""
        return np.concatenate([[START], self.tokens[items].ravel()])
