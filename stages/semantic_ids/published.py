"""Semantic IDs that a corpus brings along, as RecIF's does: 3 levels of 8192 codes, which several items may share.

The table of ids then has a column `alike`: the item that an id stands for. A policy writes ids, so it cannot tell
items of one id apart, and wherever it meets one of them it takes that item.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.core.schema import RECIF_SIDS, read
from stages.corpus.recif_parts import CODES, LEVELS
from stages.semantic_ids.quantised import Ints
from stages.semantic_ids.report import collision_rate, items_per_prefix, perplexity, usage
from stages.semantic_ids.table import ALIKE, id_table

FILE = "sids.parquet"


def brought(corpus: Path) -> pa.Table | None:
    """The table of ids out of the corpus's own; None where it has none."""
    path = corpus / FILE
    if not path.exists():
        return None
    table = read(path, RECIF_SIDS)
    codes = np.stack([table[f"code_{level}"].to_numpy() for level in range(LEVELS)], axis=1).astype(np.int64)
    found = id_table(codes, [CODES] * LEVELS)
    stands, kind = table["stands"].to_numpy(), table["kind"].to_numpy()
    return found.append_column(ALIKE, pa.array(representatives(codes, stands, kind), pa.int32()))


def representatives(codes: Ints, stands: np.ndarray, kind: np.ndarray) -> Ints:
    """[N] for each item of codes [N, D] the one that its id stands for: of those that share it, one that the published
    counts name, a photo before a product, then the lowest number.
    """
    same = np.unique(codes, axis=0, return_inverse=True)[1].ravel()
    order = np.lexsort((np.arange(len(codes)), kind, ~stands, same))
    first = order[np.r_[True, np.diff(same[order]) > 0]] if len(order) else order
    return first[same]


def describe(codes: Ints) -> dict[str, Any]:
    """The report on ids [N, D]: the part of report.describe that needs no embedding. They are kept as they are."""
    rate = collision_rate(codes)
    return {
        "items": len(codes),
        "levels": codes.shape[1],
        "collision_rate_before": rate,
        "collision_rate_after": rate,
        "items_reassigned": 0.0,
        "items_suffixed": 0.0,
        "usage": usage(codes, [CODES] * codes.shape[1]),
        "perplexity": perplexity(codes),
        "items_per_prefix": items_per_prefix(codes),
    }
