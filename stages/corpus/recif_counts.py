"""Which item a Semantic ID stands for: the published counts, sid2pid.json and sid2iid.json.

{"<Semantic ID>": [{"pid" or "iid": .., "count": .., "count_after_downsample": ..}, ..], ..}, read as a stream: as one
object, a file of millions would take ten times its size.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.core.errors import InputError
from stages.core.seeding import numpy_generator
from stages.core.stage import progress
from stages.corpus.raw_log import Ints
from stages.corpus.recif_catalogue import KINDS, Catalogue, sid_of

ENTRY = re.compile(r'"(\d+)"\s*:\s*(\[[^\]]*\])')
CHUNK = 1 << 22  # characters
ID = ("pid", "iid")
BLOCK = 1 << 20  # entries


def chosen(path: Path, kind: int, catalogue: Catalogue, dropped: dict[str, int]) -> Ints:
    """Rows of the catalogue that Semantic IDs stand for: of each, the item with the largest count_after_downsample.

    Of equal counts one is drawn, by a fixed seed; the official evaluation draws without one.
    """
    best: list[tuple[Ints, Ints, Ints]] = []
    generator = numpy_generator("recif", ID[kind])
    strange = 0
    for block in progress(_blocks(path, ID[kind]), f"blocks of {path.name}"):
        sid, ids, count = np.array(block, dtype=np.int64).T
        row = catalogue.rows(kind, ids).astype(np.int64)
        wrong = (row < 0) | (sid_of(catalogue.codes[row]) != sid)
        strange += int(wrong.sum())
        sid, row, count = sid[~wrong], row[~wrong], count[~wrong]
        order = np.lexsort((generator.random(len(sid)), -count, sid))
        first = order[np.r_[True, np.diff(sid[order]) > 0]] if len(order) else order
        best.append((sid[first], row[first], count[first]))
    dropped[f"counts: a {KINDS[kind]} without that Semantic ID"] = strange
    return np.concatenate([row for _, row, _ in best]) if best else np.empty(0, np.int64)


def _blocks(path: Path, name: str) -> Iterator[list[tuple[int, int, int]]]:
    """(Semantic ID, id, count) of entries, whole Semantic IDs at a time."""
    block: list[tuple[int, int, int]] = []
    for sid, entries in _entries(path):
        try:
            block += [(sid, int(entry[name]), int(entry["count_after_downsample"])) for entry in entries]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: Semantic ID {sid}: every entry has to have {name} and count_after_downsample ({error!r}); "
                "this is another version of the file"
            ) from error
        if len(block) >= BLOCK:
            yield block
            block = []
    if block:
        yield block


def _entries(path: Path) -> Iterator[tuple[int, list[dict[str, object]]]]:
    """Key and list of each entry. Raises InputError where the file ends within one."""
    rest, begun = "", False
    with path.open(encoding="utf-8") as file:
        while chunk := file.read(CHUNK):
            rest, end = rest + chunk, 0
            for entry in ENTRY.finditer(rest):
                begun, end = True, entry.end()
                yield int(entry[1]), json.loads(entry[2])
            rest = rest[end:]
    if rest.split() != (["}"] if begun else ["{}"]):
        raise InputError(
            f"{path}: no object of Semantic IDs, or a partial download: it does not end as one; fetch it again"
        )
