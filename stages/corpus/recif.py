"""RecIF-Bench: three domains, five behaviours, published Semantic IDs, six tasks (see docs/recif.md).

Beside items, users and interactions the corpus has
sids.parquet          the published Semantic ID of each item, and whether it is the item that the ID stands for
domains.parquet       how many items of each part of their logs users have, in the order of recif_parts.PARTS, and
                      whether the behaviours of those that are videos are known
keywords.parquet      of users that are learnt from, what they did under which keyword
tasks/<task>.parquet  the official test rows
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.core.corpora import Corpus, Recif
from stages.core.files import write_table
from stages.core.schema import RECIF_DOMAINS, RECIF_SIDS
from stages.corpus import recif_files
from stages.corpus.faults import Faults
from stages.corpus.raw_log import Ints, RawLog
from stages.corpus.recif_captions import Captions
from stages.corpus.recif_catalogue import Kept, catalogue, named
from stages.corpus.recif_counts import chosen
from stages.corpus.recif_files import CAPTIONS, PHOTO_COUNTS, PHOTO_SIDS, PRODUCT_COUNTS, RELEASE, TASKS, TESTS
from stages.corpus.recif_keywords import write_keywords
from stages.corpus.recif_parts import BEHAVIOURS, PHOTO, PRODUCT
from stages.corpus.recif_release import Release, release
from stages.corpus.recif_tasks import write_task


@contextmanager
def own_files(settings: Corpus) -> Iterator[Path | None]:
    """The user's folder with the files, if one is named."""
    folder = recif_files.own_folder(settings)
    if folder is not None:
        recif_files.demand(folder, recif_files.NAME_IT)
    yield folder


def download(settings: Corpus, into: Path) -> None:
    """Bring the files: from the user's folder if one is named, otherwise from the hub."""
    recif_files.fetch(settings, into)


def read(raw: Path, settings: Corpus) -> RawLog:
    """Open the files. Raises InputError where one is missing, damaged or of another schema."""
    assert settings.recif is not None, "params.yaml is checked"
    recif_files.demand(raw, "run the download stage first")
    faults, dropped = Faults(raw), dict[str, int]()
    known = catalogue(raw, faults, dropped)
    log = release(raw / RELEASE, known, faults, dropped)
    captions = Captions(raw / CAPTIONS, known, settings.recif.title_length, {})
    beside = Beside(raw, settings.recif, log, captions)
    return RawLog(
        batches=log.batches(),
        item_ids=known.keys,
        users=log.users,
        describe=captions.describe,
        columns=BEHAVIOURS,
        faults=faults,
        dropped=dropped,
        names=(RELEASE, PHOTO_SIDS, RELEASE),
        named=named,
        accompany=beside.write,
    )


@dataclass(frozen=True)
class Beside:
    """What the corpus has beside items, users and interactions."""

    raw: Path
    settings: Recif
    log: Release
    captions: Captions

    def write(self, user_rows: Ints, item_rows: Ints, folder: Path | None) -> dict[str, object]:
        """See RawLog.accompany."""
        left_out = {**self.captions.counts}
        stands = np.zeros(len(self.log.catalogue.ids), dtype=bool)
        for kind, name in ((PHOTO, PHOTO_COUNTS), (PRODUCT, PRODUCT_COUNTS)):
            stands[chosen(self.raw / name, kind, self.log.catalogue, left_out)] = True
        if folder is not None:
            write_table(folder / "sids.parquet", self._sids(item_rows, stands))
            write_table(folder / "domains.parquet", self._domains(user_rows))
            (folder / "tasks").mkdir()
        corpus = Kept(self.log.catalogue, item_rows)
        words = folder / "keywords.parquet" if folder else None
        left_out |= write_keywords(self.log, user_rows, corpus, words)
        tasks = {
            task: write_task(
                self.raw / TESTS[task],
                task,
                folder / "tasks" / f"{task}.parquet" if folder else None,
                corpus,
                self.settings.task_rows,
                self.log.faults,
            )
            for task in TASKS
        }
        self.log.faults.check()
        return {
            "lists": [[what, count] for what, count in sorted(self.log.counts.items())],
            "beside": [[what, count] for what, count in left_out.items()],
            "tasks": [[task, *map(list, counts.items())] for task, counts in tasks.items()],
        }

    def _sids(self, item_rows: Ints, stands: np.ndarray) -> pa.Table:
        known = self.log.catalogue
        columns = [np.arange(len(item_rows)), *known.codes[item_rows].T, known.kind(item_rows), stands[item_rows]]
        arrays = [pa.array(own, field.type) for own, field in zip(columns, RECIF_SIDS, strict=True)]
        return pa.table(arrays, schema=RECIF_SIDS)

    def _domains(self, user_rows: Ints) -> pa.Table:
        lengths = np.concatenate(self.log.lengths)[user_rows]
        known = np.concatenate(self.log.known)[user_rows]
        columns = [np.arange(len(user_rows)), self.log.held_out[user_rows], *lengths.T, *known.T]
        arrays = [pa.array(own, field.type) for own, field in zip(columns, RECIF_DOMAINS, strict=True)]
        return pa.table(arrays, schema=RECIF_DOMAINS)
