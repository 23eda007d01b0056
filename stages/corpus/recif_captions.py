"""RecIF's captions of photos: an item's text. Products have none.

Millions of captions are more than memory holds, and their file has an order of its own: they are dealt to scratch
files, one for each share of the items, and told share by share.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.core.stage import progress
from stages.corpus.item_text import as_lists, clean
from stages.corpus.raw_log import ITEM, Ints
from stages.corpus.recif_catalogue import BATCH, Catalogue, batches
from stages.corpus.recif_files import CAPTIONS, demand_columns, opened
from stages.corpus.recif_parts import PHOTO
from stages.corpus.tables import plain

SHARE = 1 << 20  # items whose captions are in memory at once
COLUMN = ("dense_caption", "caption")  # the second is its name in an earlier release
EMPTY, SPARE, AGAIN = "captions: empty", "captions: of no item that is kept", "captions: of a photo that has one"


@dataclass(frozen=True)
class Captions:
    """The file of captions, and what of it came to nothing, by reason; complete once items are described."""

    path: Path
    catalogue: Catalogue
    title_length: int
    counts: dict[str, int]

    def describe(self, rows: Ints, keys: pa.Array) -> Iterator[pa.Table]:
        """Tables of ITEM for rows of the catalogue, ascending, SHARE of them at a time."""
        self.counts.update(dict.fromkeys((EMPTY, SPARE, AGAIN), 0))
        shares = max(1, -(-len(rows) // SHARE))
        with tempfile.TemporaryDirectory(prefix="captions-") as scratch:
            files = [Path(scratch, f"{share}.arrow") for share in range(shares)]
            self._deal(rows, files)
            for share, file in enumerate(files):
                own = rows[share * SHARE : (share + 1) * SHARE]
                place, text = _captions_in(file)
                file.unlink()
                first = np.unique(place, return_index=True)[1]  # of two captions, the first
                self.counts[AGAIN] += len(place) - len(first)
                all_text = pa.chunked_array([text.take(pa.array(first)), pa.array([""])]).combine_chunks()
                where_is = np.full(len(own), len(first))
                where_is[place[first]] = np.arange(len(first))
                yield self._told(all_text.take(pa.array(where_is)), own)

    def _deal(self, rows: Ints, files: list[Path]) -> None:
        """Write each caption to the scratch file of its item's share, with its place there."""
        file = opened(self.path)
        kinds = demand_columns(file, self.path, ["pid"])
        name = next((name for name in COLUMN if name in kinds), None)
        if name is None:
            demand_columns(file, self.path, COLUMN[:1])
        assert name is not None
        fields = pa.schema([("place", pa.int32()), ("text", pa.string())])
        writers = [pa.ipc.new_stream(str(file), fields) for file in files]
        for batch in progress(batches(file, self.path, ["pid", name], BATCH), f"batches of {CAPTIONS}"):
            pid, text = (plain(batch[column]) for column in ("pid", name))
            self.counts[EMPTY] += text.null_count
            row = self.catalogue.rows(PHOTO, pid.cast(pa.int64()).fill_null(-1).to_numpy())
            item = np.searchsorted(rows, row)
            known = (row >= 0) & (item < len(rows)) & text.is_valid().to_numpy(False)
            known[known] = rows[item[known]] == row[known]
            self.counts[SPARE] += int((~known).sum()) - text.null_count
            order = np.flatnonzero(known)
            order = order[np.argsort(item[order] // SHARE, kind="stable")]
            bounds = np.searchsorted(item[order] // SHARE, np.arange(len(files) + 1))
            said = clean(text.cast(pa.string()))
            for share, writer in enumerate(writers):
                part = order[bounds[share] : bounds[share + 1]]
                if len(part):
                    places = pa.array((item[part] % SHARE).astype(np.int32))
                    writer.write_table(pa.table([places, said.take(pa.array(part))], schema=fields))
        for writer in writers:
            writer.close()

    def _told(self, text: pa.Array, rows: Ints) -> pa.Table:
        """Title: the caption's beginning. Category: the first code of the Semantic ID, for want of any other."""
        title = pc.utf8_slice_codeunits(text, 0, self.title_length)
        code = pa.array(self.catalogue.codes[rows, 0]).cast(pa.string())
        prefix = pc.binary_join_element_wise("sid ", code, "")
        one = np.ones(len(rows), dtype=np.int64)
        paths = as_lists(as_lists(prefix, one), one)
        return pa.table([pc.utf8_trim(title, " "), text, paths], schema=ITEM)


def _captions_in(file: Path) -> tuple[Ints, pa.Array]:
    """Places and captions of a scratch file."""
    with pa.ipc.open_stream(str(file)) as reader:
        table = reader.read_all()
    return table["place"].to_numpy().astype(np.int64), table["text"].combine_chunks()
