"""Turn raw files into one corpus: items, users and interactions with split, cold items and feedback columns.

Writes data/<dataset>/corpus and the counts, metrics/<dataset>/prepare.json: scalars for what a run is compared by,
lists, which `dvc metrics diff` leaves out, for the reasons of what was dropped and for what is missing.

    python -m stages.prepare --dataset ml-100k
    python -m stages.prepare --dataset mine --check    the faults of the files, with their rows; writes nothing
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from stages.core import params, paths, schema, stage
from stages.core.corpora import Corpus
from stages.core.errors import InputError
from stages.core.files import fresh_folder, write_json
from stages.core.provenance import provenance
from stages.corpus.cut import Cut, cut
from stages.corpus.ordering import blocks
from stages.corpus.writing import Described, write_corpus


def main(dataset: str, check: bool = False) -> None:
    settings = params.load().corpus(dataset)
    source = params.load_module("corpus", settings.source, f"corpora.{dataset}.source")
    with _files(source, settings, paths.raw(dataset), check) as raw:
        corpus = cut(source.read(raw, settings), settings)
        found = counts(corpus)
        if hasattr(source, "published"):
            _hold_to(source.published(settings), found, dataset, raw)
        if check:
            described = Described()
            for _ in described.watch(corpus.items()):
                pass
            accompanied(corpus, None)
        else:
            with fresh_folder(paths.corpus(dataset)) as folder:
                described = write_corpus(corpus, folder)
                found |= accompanied(corpus, folder)
    found |= described.counts()
    if check:
        stage.log.info("%s: no fault in %s; nothing was written", dataset, settings.path or raw)
    else:
        told = found | {"provenance": provenance("prepare", {"dataset": dataset})}
        write_json(paths.stage_metrics(dataset, "prepare"), told)
    for key in ("users", "items", "interactions", "categories", "cold_items", "cold_test_targets"):
        stage.log.info("%s: %s %s", dataset, f"{found[key]:,}", key.replace("_", " "))
    for reason, count in corpus.dropped.items():
        if count:
            stage.log.info("%s: dropped %s %s", dataset, f"{count:,}", reason)


@contextmanager
def _files(source: ModuleType, settings: Corpus, raw: Path, check: bool) -> Iterator[Path]:
    """The folder that is read: what `download` brought, or in a dry run what it would copy, if that is the user's."""
    if check and hasattr(source, "own_files"):
        with source.own_files(settings) as own:
            yield raw if own is None else own
    else:
        yield raw


def counts(corpus: Cut) -> dict[str, object]:
    """What prepare.json holds, less what `Described` counts. `again` counts interactions with an item that the user had
    before, which no list that leaves out the history can hit.
    """
    interactions, items = len(corpus.rows), len(corpus.item_rows)
    again, cold_targets, carried = interactions, 0, dict.fromkeys(corpus.rules, 0)
    for start, end in blocks(corpus.offsets):
        item = corpus.item[start:end]
        pairs = np.sort(corpus.user(start, end) * items + item)
        again -= 1 + int(np.count_nonzero(np.diff(pairs)))
        is_test = corpus.split[start:end] == schema.SPLITS.index("test")
        cold_targets += int(corpus.cold[item[is_test]].sum())
        for name in carried:
            carried[name] += int(corpus.carried(name, start, end).sum())
    splits = np.bincount(corpus.split, minlength=len(schema.SPLITS)).tolist()  # longer only where users are held out
    return {
        "users": len(corpus.user_rows),
        "items": items,
        "interactions": interactions,
        "cold_items": int(corpus.cold.sum()),
        "cold_test_targets": cold_targets,
        **{
            f"dropped_{kind}": sum(count for reason, count in corpus.dropped.items() if reason.startswith(kind))
            for kind in ("users", "items", "interactions")
        },
        "share": {name: count / interactions for name, count in carried.items()},
        "dropped": [[reason, count] for reason, count in corpus.dropped.items()],
        "splits": [list(pair) for pair in zip(schema.EVERY_SPLIT, splits, strict=False)],
        "again": [["interactions", again]],
    }


def accompanied(corpus: Cut, folder: Path | None) -> dict[str, object]:
    """What the source has beside items, users and log: written into the folder, if any, and counted."""
    return {} if corpus.raw.accompany is None else corpus.raw.accompany(corpus.user_rows, corpus.item_rows, folder)


def _hold_to(published: dict[str, int], found: dict[str, object], dataset: str, raw: Path) -> None:
    """Refuse a set that is named after a published one and has other counts."""
    missed = [
        f"{found[key]:,} {key}, {found[key] - right:+,}" for key, right in published.items() if found[key] != right
    ]
    if missed:
        right = ", ".join(f"{count:,} {key}" for key, count in published.items())
        raise InputError(
            f"{raw}: the published set has {right}; found {'; '.join(missed)}. Fetch it again: "
            f"dvc repro -f download@{dataset}; where the files are meant to differ, give them as source local"
        )


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", flags={"check": "read and cut without writing: lists the faults of the files"})
