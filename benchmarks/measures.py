"""What measuring costs: all measures of many methods for many users, with intervals and paired tests.

    python -m benchmarks.measures

Lists of 10 items are drawn at random over the 12,101 items and 6 categories of a catalogue with Zipf's popularity, the
target takes a random slot of one list in three, and one slot in fifty is empty. Each method is summarised with its
bootstrap, then every two are compared on ndcg@10. Drawing the lists is not timed. The memory is the process's largest,
lists included.

The last line is one JSON object.
"""

import argparse
import json
import resource
import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

from stages.measures import paired
from stages.measures.summary import Catalogue, summarise

ITEMS, CATEGORIES, SLOTS = 12_101, 6, 10


def catalogue(draw: np.random.Generator) -> Catalogue:
    """One or two categories per item, the k-th item seen in proportion to 1 / k; the rarest 5% are cold."""
    inside = draw.integers(CATEGORIES, size=(ITEMS, 2))
    shares = (np.eye(CATEGORIES)[inside[:, 0]] + np.eye(CATEGORIES)[inside[:, 1]]) / 2
    train_count = 20_000 // np.arange(1, ITEMS + 1)
    return Catalogue(shares, np.arange(ITEMS) >= 0.95 * ITEMS, train_count)


def lists(target: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Lists [U, 10] of one method."""
    users = len(target)
    found = draw.integers(ITEMS, size=(users, SLOTS))
    hit = np.flatnonzero(draw.random(users) < 1 / 3)
    found[hit, draw.integers(SLOTS, size=len(hit))] = target[hit]
    found[draw.random(found.shape) < 0.02] = -1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000, help="(100000)")
    parser.add_argument("--methods", type=int, default=20, help="lists per user (20)")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstraps (1000)")
    parser.add_argument("--rounds", type=int, default=10_000, help="sign flips of the paired tests (10000)")
    chosen = parser.parse_args()
    draw = np.random.default_rng(1)
    items = catalogue(draw)
    target = draw.integers(ITEMS, size=chosen.users)
    drawn = [lists(target, draw) for _ in range(chosen.methods)]

    threadpool_limits(
        1
    )  # the products are small: a second thread of BLAS costs more than it gives, far more beside others
    started = time.perf_counter()
    columns = []
    for number, own in enumerate(drawn, 1):
        found = summarise(own, target, items, chosen.resamples, 0.95, np.random.default_rng(2))
        columns.append(found.per_user["ndcg@10"])
        taken = time.perf_counter() - started
        print(f"method {number} of {chosen.methods}: {taken:.1f} s", file=sys.stderr, flush=True)
    values = np.stack(columns, axis=1)
    tested = paired.compare(values, chosen.resamples, chosen.rounds, 0.95, np.random.default_rng(3))
    below = int((paired.holm(tested.p) < 0.05).sum())
    taken = time.perf_counter() - started
    print(f"{len(tested.p)} pairs, {below} below .05 by Holm: {taken:.1f} s", file=sys.stderr, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": round(taken, 1), "peak_rss_bytes": peak}))


if __name__ == "__main__":
    main()
