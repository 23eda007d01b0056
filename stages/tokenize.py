"""Item text to Semantic IDs: sentence embedding, residual k-means, one id per item.

Reads data/<dataset>/corpus and models/encoders/<encoder>; writes data/<dataset>/actions/semantic_id/ids.parquet and the
tokenizer's report, metrics/<dataset>/semantic_id.json. Run it with -m only: the standard library has a `tokenize` too.
"""

from stages.core import params, paths, stage
from stages.core.files import fresh_folder, write_json, write_table
from stages.core.schema import ITEMS, read
from stages.semantic_ids.collisions import reassign_last_code
from stages.semantic_ids.embedding import embed
from stages.semantic_ids.report import collision_rate, perplexity, reconstruction_error, usage
from stages.semantic_ids.rkmeans import fewest_levels, residual_kmeans
from stages.semantic_ids.table import id_table


def main(dataset: str, encoder: str) -> None:
    settings = params.load().semantic_id
    items = read(paths.corpus(dataset) / "items.parquet", ITEMS)
    vectors = embed(items["text"].to_pylist(), paths.encoder(encoder), stage.progress)
    levels = settings.levels or fewest_levels(len(vectors), settings.codebook_size)
    raw, codebooks = residual_kmeans(vectors, levels, settings.codebook_size, settings.seed)
    codes = reassign_last_code(raw, vectors, codebooks)
    with fresh_folder(paths.actions(dataset, "semantic_id")) as folder:
        write_table(folder / "ids.parquet", id_table(codes))
    report = {
        "items": len(codes),
        "levels": levels,
        "collision_rate_before": collision_rate(raw),
        "collision_rate_after": collision_rate(codes),
        "items_reassigned": float((raw != codes).any(1).mean()),
        "reconstruction_error_before": reconstruction_error(raw, vectors, codebooks),
        "reconstruction_error_after": reconstruction_error(codes, vectors, codebooks),
        "usage": usage(codes, settings.codebook_size),
        "perplexity": perplexity(codes),
    }
    write_json(paths.stage_metrics(dataset, "semantic_id"), report)
    stage.log.info(
        "%d items in %d levels, %.1f%% of them with a shared id before, none after",
        len(codes),
        levels,
        100 * report["collision_rate_before"],
    )


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "encoder")
