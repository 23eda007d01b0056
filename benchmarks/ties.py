"""What `transitions` owes to the order in which a file lists the interactions of one timestamp.

    python -m benchmarks.ties beauty [--draws 10]

Counts of the corpus as it stands, against the mean of counts over so many draws of the order inside ties, of the
training parts alone; contexts and targets stay as they are. Run `dvc repro prepare` for the data set first. The last
line is one JSON object: both N@10 on the test items, their paired difference, the half-width of its 95% interval.
"""

import argparse
import json
from dataclasses import replace

import numpy as np

from stages.baselines import transitions
from stages.baselines.asked import of_users
from stages.core import params, paths
from stages.corpus.histories import Histories, load
from stages.measures import accuracy


def drawn(log: Histories, generator: np.random.Generator) -> Histories:
    """The same with the items of each tie of a training part in an order drawn anew."""
    place, item = np.flatnonzero(log.in_training()), log.item.copy()
    item[place] = log.item[place[np.lexsort([generator.random(len(place)), log.tie[place]])]]
    return replace(log, item=item)


def ndcg(log: Histories, settings: transitions.Params, matrix: object, exclude_seen: bool) -> np.ndarray:
    """N@10 of each test user with these counts."""
    ranker = transitions.ranker(log, settings)
    ranker.matrix = matrix
    users = np.flatnonzero(log.target("test") >= 0)
    items, _ = of_users(log, "test", users, exclude_seen, 10).answered(ranker)
    return accuracy.ndcg_at_rank(accuracy.rank_of(items, log.target("test")[users]), 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name under corpora in params.yaml")
    parser.add_argument("--draws", type=int, default=10)
    chosen = parser.parse_args()
    values = params.load()
    settings, log = values.own["transitions"], load(paths.corpus(chosen.dataset))
    exclude_seen, generator = values.corpus(chosen.dataset).exclude_seen, np.random.default_rng(0)
    counts = [transitions.transition_matrix(drawn(log, generator), settings.window) for _ in range(chosen.draws)]
    mean = (sum(counts[1:], counts[0]) / chosen.draws).tocsr()
    as_filed = ndcg(log, settings, transitions.transition_matrix(log, settings.window), exclude_seen)
    as_drawn = ndcg(log, settings, mean, exclude_seen)
    difference = as_drawn - as_filed
    told = {
        "ndcg_file_order": float(as_filed.mean()),
        "ndcg_drawn": float(as_drawn.mean()),
        "difference": float(difference.mean()),
        "half_width": float(1.96 * difference.std(ddof=1) / len(difference) ** 0.5),
        "users": len(difference),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
