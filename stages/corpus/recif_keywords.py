"""RecIF's keywords: what a user did under each, {keyword: [pid, ..]} as JSON, of users that are learnt from."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.schema import RECIF_KEYWORDS
from stages.corpus.raw_log import Ints
from stages.corpus.recif_catalogue import Kept, batches
from stages.corpus.recif_files import RELEASE, demand_columns, opened
from stages.corpus.recif_parts import PHOTO
from stages.corpus.recif_release import USERS, Release

COLUMN = "inter_keyword_to_items"


def write_keywords(log: Release, user_rows: Ints, corpus: Kept, into: Path | None) -> dict[str, int]:
    """Write the table, a batch of users at a time; counts by what became of its pids."""
    file, first, counts = opened(log.path), 0, {"keywords": 0, "keywords: pids of no item that is kept": 0}
    demand_columns(file, log.path, [COLUMN])
    writer = None if into is None else pq.ParquetWriter(into, RECIF_KEYWORDS, compression="zstd")
    for batch in batches(file, log.path, [COLUMN], USERS):
        found: list[tuple[int, str, Ints]] = []
        for row, told in enumerate(batch[COLUMN].to_pylist(), first):
            place = int(np.searchsorted(user_rows, row))
            if not told or log.held_out[row] or place == len(user_rows) or user_rows[place] != row:
                continue
            try:
                listed = {str(word): np.array(pids, dtype=np.int64) for word, pids in json.loads(told).items()}
            except (ValueError, TypeError, AttributeError, OverflowError) as error:
                log.faults.count(f"{RELEASE}: {COLUMN} has to be {{keyword: [pid, ..]}}", 1, [(row, f" ({error})")])
                continue
            for word, pids in listed.items():
                items = corpus.items(PHOTO, pids)
                counts["keywords: pids of no item that is kept"] += int((items < 0).sum())
                found.append((place, word, items[items >= 0]))
        first += batch.num_rows
        counts["keywords"] += len(found)
        if writer is not None and found:
            columns = zip(*found, strict=True)
            arrays = [pa.array(list(own), field.type) for own, field in zip(columns, RECIF_KEYWORDS, strict=True)]
            writer.write_table(pa.table(arrays, schema=RECIF_KEYWORDS))
    if writer is not None:
        writer.close()
    return counts
