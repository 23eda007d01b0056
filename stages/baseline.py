"""Count what a recommender to compare with counts, and write its lists in the schema of slates (decoder `list`).

Reads data/<dataset>/corpus, writes data/<dataset>/slates/<baseline>/seed-<n>.parquet. No measure is taken here.
Baselines that learn have stages of their own: sequential.py and generative.py.
"""

import numpy as np
import pyarrow as pa

from stages.core import params, paths, stage
from stages.core.cells import on_axis
from stages.core.files import write_table
from stages.core.schema import slate_table
from stages.corpus import histories


def main(dataset: str, baseline: str, seed: int) -> None:
    settings = params.load()
    module = params.load_module("baselines", baseline, "--baseline")
    on_axis("--baseline", baseline, "baselines")
    corpus = histories.load(paths.corpus(dataset))
    tables = []
    for split in ("test", "valid"):
        items, scores = module.recommend(
            corpus, settings.own[baseline], split, settings.corpus(dataset).exclude_seen, seed
        )
        users = np.flatnonzero(corpus.target(split) >= 0)
        tables.append(slate_table(users, split, "list", items, scores))
    path = paths.slates(dataset, baseline, seed)
    write_table(path, pa.concat_tables(tables).combine_chunks())
    stage.log.info(
        "%s: %d lists of %d items", path, sum(table.num_rows for table in tables) // items.shape[1], items.shape[1]
    )


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "baseline", "seed")
