"""What a source hands to `prepare`, whatever its files look like: a log in batches, and what is known of its ids."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.corpus.faults import Faults

Ints = npt.NDArray[np.int64]
ROW = "\0row"  # columns of a batch that are not the file's; tables.py leaves out a file's columns with a NUL
BEYOND = "\0beyond"
SPLIT = "\0split"

ITEM = pa.schema(
    [
        ("title", pa.string()),  # "" where unknown, as the text
        ("text", pa.string()),
        ("categories", pa.list_(pa.list_(pa.string()))),  # paths, each root first
    ]
)


@dataclass(frozen=True)
class RawLog:
    """A log that is read once, in batches, so that no more of it is in memory than the numbers `cut` works on."""

    batches: Iterable[pa.Table]
    """In file order: user_id, item_id (string or int64), timestamp (int64, may be null), where it is finer than seconds
    BEYOND, its nanoseconds (int32), position (int64) where that is the order, numeric or boolean columns for the
    feedback rules, and ROW, the number of each row, if not 0, 1, ..; SPLIT (int8) where the source divides its users,
    the place in schema.EVERY_SPLIT. user_id and item_id of type int32 are rows of the users and of the catalogue.
    """
    item_ids: pa.Array | None
    """The catalogue, each once and of the log's type; None: the log's items, as they first appear."""
    users: pa.Table | None
    """user_id, each once and of the log's type, and one string column per profile field; None: as they first appear."""
    describe: Callable[[Ints, pa.Array], Iterator[pa.Table]]
    """Rows of the catalogue, ascending, and their ids -> tables of ITEM, in this order, in pieces of any size."""
    columns: tuple[str, ...] = ()
    """Columns that a feedback rule can name: for errors."""
    faults: Faults = field(default_factory=lambda: Faults(Path()))
    """What the source and `cut` found wrong; it is complete once the batches are read."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Interactions that the source itself left out, by reason; complete once the batches are read."""
    names: tuple[str, str, str] = ("interactions", "items", "users")
    """The files of log, items and users: for errors."""
    named: Callable[[pa.Array], pa.Array] = lambda ids: ids
    """Ids of items as people are shown them."""
    accompany: Callable[[Ints, Ints, Path | None], dict[str, object]] | None = None
    """Rows of users and of the catalogue that are kept, both ascending, and the corpus's folder, None in a dry run ->
    counts for prepare.json. Writes what further tables the source has."""


def in_memory(items: pa.Table, users: pa.Table | None, interactions: pa.Table) -> RawLog:
    """A log that is in memory: items with `item_id` and the columns of ITEM."""

    def describe(rows: Ints, ids: pa.Array) -> Iterator[pa.Table]:
        yield items.select(ITEM.names).take(rows)

    known = ("user_id", "item_id", "position")
    return RawLog(
        batches=[interactions],
        item_ids=items["item_id"].combine_chunks(),
        users=users,
        describe=describe,
        columns=tuple(name for name in interactions.column_names if name not in known),
    )
