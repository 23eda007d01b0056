"""Item text to Semantic IDs: sentence embedding, a tokenizer's codes, one id per item; or ids that the corpus brings.

Reads data/<dataset>/corpus and models/encoders/<encoder>; writes data/<dataset>/actions/semantic_id/ids.parquet, the
report metrics/<dataset>/semantic_id.json and how often each code is used, metrics/curves/<dataset>/codes.csv. Run it
with -m only: the standard library has a `tokenize` too.
"""

import pyarrow as pa
from threadpoolctl import threadpool_limits

from stages.core import params, paths, stage
from stages.core.curves import Curve
from stages.core.files import fresh_folder, write_json, write_table
from stages.core.provenance import MODELS, provenance
from stages.core.schema import ITEMS, read
from stages.core.spelling_sections import SemanticId
from stages.semantic_ids import published
from stages.semantic_ids.collisions import RULES
from stages.semantic_ids.embedding import embed
from stages.semantic_ids.quantised import Floats, Quantised, fewest_levels
from stages.semantic_ids.report import code_counts, describe
from stages.semantic_ids.table import id_table, read_codes


def main(dataset: str, encoder: str) -> None:
    settings, own = params.load().semantic_id, published.brought(paths.corpus(dataset))
    if own is not None:
        write_published(dataset, own)
        return
    items = read(paths.corpus(dataset) / "items.parquet", ITEMS)
    vectors = embed(items["text"].to_pylist(), paths.encoder(encoder), stage.progress)
    with threadpool_limits(1):  # or sums, and what hangs on a tie, would depend on the number of threads
        found = quantise(vectors, settings)
        codes = RULES[settings.collisions](found)
    with fresh_folder(paths.actions(dataset, "semantic_id")) as folder:
        write_table(folder / "ids.parquet", id_table(codes, found.sizes(codes)))
    told = describe(found, codes, vectors, items["categories"].to_pylist(), settings.seed)
    told["provenance"] = provenance("tokenize", {"dataset": dataset}, (*MODELS, "scikit-learn", "scipy"))
    write_json(paths.stage_metrics(dataset, "semantic_id"), told)
    Curve(paths.codes_curve(dataset)).restore(code_counts(codes))
    stage.log.info("%.1f%% of the items had a shared id before, none after", 100 * told["collision_rate_before"])


def write_published(dataset: str, ids: pa.Table) -> None:
    """Take the ids that the corpus brings; no text is embedded."""
    with fresh_folder(paths.actions(dataset, "semantic_id")) as folder:
        write_table(folder / "ids.parquet", ids)
        codes = read_codes(folder / "ids.parquet", ids.num_rows)
    told = published.describe(codes) | {"provenance": provenance("tokenize", {"dataset": dataset}, MODELS)}
    write_json(paths.stage_metrics(dataset, "semantic_id"), told)
    Curve(paths.codes_curve(dataset)).restore(code_counts(codes))
    stage.log.info("published ids are taken; %.1f%% of the items share theirs", 100 * told["collision_rate_after"])


def quantise(vectors: Floats, settings: SemanticId) -> Quantised:
    """What the tokenizer of `settings` makes of vectors [N, width]."""
    tokenizer = params.load_module("semantic_ids", settings.tokenizer, "semantic_id.tokenizer")
    levels = settings.levels or fewest_levels(len(vectors), settings.codebook_size)
    stage.log.info(
        "%d items: %d levels of %d codes by %s", len(vectors), levels, settings.codebook_size, settings.tokenizer
    )
    return tokenizer.quantise(vectors, levels, settings)


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "encoder")
