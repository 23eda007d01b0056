"""The corpus as files: what `Cut` gives, piece by piece, and what can be counted on the way."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.core import schema
from stages.core.files import write_table
from stages.core.stage import progress
from stages.corpus.cut import Cut
from stages.corpus.histories import map_columns


class Described:
    """What items.parquet says of items, counted as its pieces pass."""

    def __init__(self) -> None:
        self.categories: set[str] = set()
        self.without = {"title": 0, "text": 0, "category": 0}

    def watch(self, pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for items in pieces:
            self.categories |= set(pc.unique(pc.list_flatten(items["categories"])).to_pylist())
            for name in ("title", "text"):
                self.without[name] += pc.sum(pc.equal(items[name], "")).as_py()
            self.without["category"] += pc.sum(pc.equal(pc.list_value_length(items["categories"]), 0)).as_py()
            yield items

    def counts(self) -> dict[str, object]:
        return {
            "categories": len(self.categories),
            "items_without": [[name, count] for name, count in self.without.items()],
        }


def write_corpus(corpus: Cut, folder: Path) -> Described:
    """Write items, users and interactions into a folder, a row group at a time, and the columns of a long log."""
    described = Described()
    write_pieces(folder / "items.parquet", schema.ITEMS, described.watch(corpus.items()))
    write_table(folder / "users.parquet", corpus.users())
    pieces = progress(corpus.interactions(), "row groups of interactions")
    if corpus.is_long:
        pieces = map_columns(pieces, folder, len(corpus.rows), len(corpus.user_rows))
    write_pieces(folder / "interactions.parquet", corpus.interactions_schema, pieces)
    return described


def write_pieces(path: Path, kinds: pa.Schema, pieces: Iterator[pa.Table]) -> None:
    """Write a table piece by piece, each a row group: the bytes that `write_table` gives the whole."""
    with pq.ParquetWriter(path, kinds, compression="zstd") as writer:
        for piece in pieces:
            writer.write_table(piece)
