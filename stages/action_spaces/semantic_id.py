"""Semantic IDs (TIGER, OneRec): an item is one code per level, and every level has its own tokens.

Token ids: 0 padding, 1 start of a history, 2 request for a slate, then level 0's codes, level 1's, ...
"""

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
import torch

from stages.action_spaces.trie import Trie
from stages.corpus.histories import Ints
from stages.semantic_ids.table import read_codes

PADDING, START, SLATE, FIRST_CODE = 0, 1, 2, 3


class Actions:
    """The action space of `data/<dataset>/actions/semantic_id`."""

    def __init__(self, folder: Path, items: int) -> None:
        """Read the ids of a catalogue of `items`. Raises InputError where an item has none or shares its own."""
        codes = read_codes(folder / "ids.parquet", items)
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
