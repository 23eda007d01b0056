"""The tasks of a corpus that has some (RecIF's): test rows, and what Semantic IDs and items have to do with each other.

Lists of a task stand in the slates' table under split `test_<task>`, its `user` being the row of the task's table.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.core.schema import RECIF_DOMAINS, RECIF_KEYWORDS, RECIF_SIDS, RECIF_TASK, read
from stages.corpus.histories import Histories, Ints
from stages.corpus.recif_parts import CODES, JUDGING, LEVELS, PARTS, PHOTO, PLACES, PRODUCT, VIDEOS

RECOMMENDING = ("video", "ad", "product", "label_cond", "interactive")
DOMAIN = {"video": "video", "ad": "ad", "product": "goods", "label_cond": "video", "interactive": "video"}  # of answers


def split_of(task: str) -> str:
    return f"test_{task}"


SPLITS = tuple(map(split_of, (*RECOMMENDING, JUDGING)))


@dataclass(frozen=True)
class Ids:
    """The published Semantic IDs of N items, each as one number."""

    sid: Ints  # [N]
    kind: npt.NDArray[np.int8]  # [N] PHOTO or PRODUCT
    stands: npt.NDArray[np.bool_]  # [N] whether its id, among those of its kind, stands for it

    def standing(self, task: str) -> tuple[Ints, Ints]:
        """Semantic IDs, ascending, and the item of a task's domain that each stands for."""
        kind = PRODUCT if task == "product" else PHOTO
        items = np.flatnonzero(self.stands & (self.kind == kind))
        items = items[np.argsort(self.sid[items], kind="stable")]
        return self.sid[items], items

    @cached_property
    def alike(self) -> Ints:
        """[N] for each item the one that stands for its id among those of its kind; the first where none is named."""
        same = np.unique(2 * self.sid + self.kind, return_inverse=True)[1].ravel()
        order = np.lexsort((np.arange(len(same)), ~self.stands, same))
        return order[np.r_[True, np.diff(same[order]) > 0]][same]

    @cached_property
    def _ordered(self) -> tuple[Ints, Ints]:
        """Semantic IDs, ascending and each once, and the first item of each."""
        return np.unique(self.sid, return_index=True)

    def some_item(self, sid: Ints) -> Ints:
        """[n] an item of each Semantic ID [n]; -1 where none has it."""
        return _at(sid, *self._ordered)

    def shown(self, sid: Ints) -> Ints:
        """[n] the item that each Semantic ID [n] of a prompt stands for, a photo where photos and products share it; -1
        where none has it.
        """
        found = self.some_item(sid)
        for task in ("product", "video"):
            standing = _at(sid, *self.standing(task))
            found = np.where(standing >= 0, standing, found)
        return found

    def all_are(self, marked: npt.NDArray[np.bool_], sid: Ints) -> npt.NDArray[np.bool_]:
        """[n] whether all items of each Semantic ID [n] are marked [N]; also of an id that no item has."""
        known, _ = self._ordered
        some = np.zeros(len(known), dtype=bool)
        some[np.searchsorted(known, self.sid[~marked])] = True
        place = np.minimum(np.searchsorted(known, sid), len(known) - 1)
        return ~((known[place] == sid) & some[place])


@dataclass(frozen=True)
class Tasks:
    """What a corpus asks beside its next items."""

    folder: Path
    ids: Ids

    def parts(self) -> npt.NDArray[np.int8]:
        """[interactions] the part of its user's lists that each is of: an index into PARTS."""
        table = read(self.folder / "domains.parquet", RECIF_DOMAINS)
        lengths = np.stack([table[name].to_numpy() for name in PARTS], axis=1)
        order = np.argsort(PLACES, axis=1)[table["held_out"].to_numpy().astype(int)]
        return np.repeat(order.ravel().astype(np.int8), np.take_along_axis(lengths, order, axis=1).ravel())

    def longviews_known(self) -> npt.NDArray[np.bool_]:
        """[interactions] whether it is known of a video if it was watched for long; where not, 0 stands for want of it.
        Always, of advertisements and products, which have no behaviours.
        """
        table = read(self.folder / "domains.parquet", RECIF_DOMAINS)
        known = np.ones((table.num_rows, len(PARTS)), dtype=bool)
        for part in VIDEOS:
            known[:, PARTS.index(part)] = table[f"{part}_known"].to_numpy(zero_copy_only=False)
        lengths = sum(table[name].to_numpy().astype(np.int64) for name in PARTS)
        return np.asarray(known[np.repeat(np.arange(table.num_rows), lengths), self.parts()])

    def domain_sids(self, histories: Histories) -> dict[str, Ints]:
        """By domain of DOMAIN the Semantic IDs, ascending, of its items.

        Videos and advertisements are both photos: an id is of the domain in which training parts have photos that bear
        it, of both where none do, so that cold items are of one.
        """
        learnt_from, ids = histories.in_training(), self.ids
        item, part = histories.item[learnt_from], self.parts()[learnt_from]
        photos, seen = np.unique(ids.sid[ids.kind == PHOTO]), {}
        for domain in ("video", "ad"):
            own = [index for index, name in enumerate(PARTS) if name.endswith(domain)]
            there = np.bincount(item[np.isin(part, own)], minlength=len(ids.sid)) > 0
            seen[domain] = np.isin(photos, ids.sid[there])
        nowhere = ~(seen["video"] | seen["ad"])
        products = np.unique(ids.sid[ids.kind == PRODUCT])
        return {"goods": products, **{domain: photos[own | nowhere] for domain, own in seen.items()}}

    def keywords(self) -> dict[int, list[tuple[str, Ints]]]:
        """By user that is learnt from, keywords and their items."""
        table = read(self.folder / "keywords.parquet", RECIF_KEYWORDS)
        found: dict[int, list[tuple[str, Ints]]] = {}
        lists = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
        for user, word, items in lists:
            found.setdefault(user, []).append((word, np.array(items, dtype=np.int64)))
        return found

    def table(self, task: str, columns: list[str] | None = None) -> pa.Table:
        """The rows of a task (schema.RECIF_TASK), or some columns of them."""
        return read(self.folder / "tasks" / f"{task}.parquet", RECIF_TASK, columns)


def _at(sid: Ints, known: Ints, items: Ints) -> Ints:
    """[n] the item beside each of sid [n] among those known, ascending; -1 for the others."""
    if not len(known):
        return np.full(len(sid), -1)
    place = np.minimum(np.searchsorted(known, sid), len(known) - 1)
    return np.where(known[place] == sid, items[place], -1)


def tasks_of(corpus: Path) -> Tasks | None:
    """The tasks of a corpus; None where it has none."""
    if not (corpus / "tasks").is_dir():
        return None
    table = read(corpus / "sids.parquet", RECIF_SIDS)
    codes = [table[f"code_{level}"].to_numpy().astype(np.int64) for level in range(LEVELS)]
    sid = (codes[0] * CODES + codes[1]) * CODES + codes[2]
    return Tasks(corpus, Ids(sid, table["kind"].to_numpy(), table["stands"].to_numpy()))
