"""Turn raw files into one corpus: items, users and interactions with split, cold items and feedback columns.

Writes data/<dataset>/corpus and the counts, metrics/<dataset>/prepare.json: scalars for what a run is compared by,
lists, which `dvc metrics diff` leaves out, for the reasons of what was dropped and for what is missing.

    python -m stages.prepare --dataset ml-100k
"""

import numpy as np
import pyarrow.compute as pc

from stages.core import params, paths, schema, stage
from stages.core.files import fresh_folder, write_json, write_table
from stages.corpus.cut import Cut, cut


def main(dataset: str) -> None:
    settings = params.load().corpus(dataset)
    source = params.load_module("corpus", settings.source, f"corpora.{dataset}.source")
    corpus = cut(source.read(paths.raw(dataset)), settings)
    with fresh_folder(paths.corpus(dataset)) as folder:
        write_table(folder / "items.parquet", corpus.items)
        write_table(folder / "users.parquet", corpus.users)
        write_table(folder / "interactions.parquet", corpus.interactions)
    found = counts(corpus)
    write_json(paths.stage_metrics(dataset, "prepare"), found)
    for key in ("users", "items", "interactions", "categories", "cold_items", "cold_test_targets"):
        stage.log.info("%s: %s %s", dataset, f"{found[key]:,}", key.replace("_", " "))
    for reason, count in corpus.dropped.items():
        if count:
            stage.log.info("%s: dropped %s %s", dataset, f"{count:,}", reason)


def counts(corpus: Cut) -> dict[str, object]:
    """What prepare.json holds. `again` counts interactions with an item that the user had before, which no list that
    leaves out the history can hit.
    """
    log, items = corpus.interactions, corpus.items
    user, item = log["user"].to_numpy().astype(np.int64), log["item"].to_numpy()
    cold = items["cold"].to_numpy()
    is_test = pc.equal(log["split"], "test").to_numpy()
    objectives = [name for name in log.column_names if name not in schema.INTERACTIONS.names]
    return {
        "users": corpus.users.num_rows,
        "items": items.num_rows,
        "interactions": log.num_rows,
        "categories": len({entry for row in items["categories"].to_pylist() for entry in row}),
        "cold_items": int(cold.sum()),
        "cold_test_targets": int(cold[item[is_test]].sum()),
        **{
            f"dropped_{kind}": sum(count for reason, count in corpus.dropped.items() if reason.startswith(kind))
            for kind in ("users", "items", "interactions")
        },
        "share": {name: float(log[name].to_numpy().mean()) for name in objectives},
        "dropped": [[reason, count] for reason, count in corpus.dropped.items()],
        "splits": [[name, pc.sum(pc.equal(log["split"], name)).as_py()] for name in schema.SPLITS],
        "items_without": [
            ["title", pc.sum(pc.equal(items["title"], "")).as_py()],
            ["text", pc.sum(pc.equal(items["text"], "")).as_py()],
            ["category", pc.sum(pc.equal(pc.list_value_length(items["categories"]), 0)).as_py()],
        ],
        "again": [["interactions", log.num_rows - len(np.unique(user * items.num_rows + item))]],
    }


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset")
