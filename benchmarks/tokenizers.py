"""Every tokenizer under every collision rule: what the ids are like, one row each.

    python -m benchmarks.tokenizers --datasets ml-100k beauty

Reads the corpus and the encoder of `dvc repro prepare download_encoder`, and semantic_id of params.yaml but for the
tokenizer and the rule. How well a policy recommends with them is another question: see docs/semantic_ids.md.
"""

import argparse
import time

from threadpoolctl import threadpool_limits

from stages.core import params, paths
from stages.core.schema import ITEMS, read
from stages.semantic_ids.collisions import RULES
from stages.semantic_ids.embedding import embed
from stages.semantic_ids.report import describe
from stages.tokenize import quantise

TOKENIZERS = ("rkmeans", "balanced", "rqvae")
COLUMNS = (
    "levels",
    "collision rate",
    "moved or numbered",
    "error before",
    "error after",
    "least usage",
    "perplexity",
    "items per prefix",
    "purity of prefixes",
    "by chance",
    "seconds",
)


def row(told: dict, taken: float) -> list[str]:
    """The cells of COLUMNS."""
    assert told["collision_rate_after"] == 0
    return [
        str(told["levels"]),
        f"{told['collision_rate_before']:.3f}",
        f"{max(told['items_reassigned'], told['items_suffixed']):.3f}",
        f"{told['reconstruction_error_before']:.3f}",
        f"{told['reconstruction_error_after']:.3f}",
        f"{min(told['usage']):.3f}",
        " ".join(f"{own:.1f}" for own in told["perplexity"]),
        " ".join(f"{own:.1f}" for own in told["items_per_prefix"]),
        " ".join(f"{own:.3f}" for own in told["purity"] if own is not None),
        f"{told['purity_by_chance']:.3f}",
        f"{taken:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["ml-100k"], help="that `dvc repro` has prepared (ml-100k)")
    chosen, settings = parser.parse_args(), params.load()
    for dataset in chosen.datasets:
        items = read(paths.corpus(dataset) / "items.parquet", ITEMS)
        vectors = embed(items["text"].to_pylist(), paths.encoder(settings.axes.encoder))
        print(f"\n{dataset}, {len(vectors):,} items\n\n| tokenizer | collisions | {' | '.join(COLUMNS)} |")
        print("|---|---|" + "---:|" * len(COLUMNS), flush=True)
        for tokenizer in TOKENIZERS:
            own = settings.semantic_id.model_copy(update={"tokenizer": tokenizer})
            started = time.perf_counter()
            with threadpool_limits(1):
                found = quantise(vectors, own)
            taken = time.perf_counter() - started
            for name, rule in RULES.items():
                codes = rule(found)
                told = describe(found, codes, vectors, items["categories"].to_pylist(), own.seed)
                print(f"| {tokenizer} | {name} | {' | '.join(row(told, taken))} |", flush=True)


if __name__ == "__main__":
    main()
