"""Residual k-means with clusters of equal size: every code is used, and none by more than its share of items.

OneRec (arXiv 2502.18965, Algorithm 1) fills one cluster after the other with the nearest items that are left, so that
the last clusters take what nobody wanted. Here items and clusters choose each other (deferred acceptance, Gale and
Shapley 1962): no item and cluster are both nearer to each other than to what they got. Assignments and centres take
turns, as in k-means, ROUNDS times at most.
"""

import numpy as np

from stages.core.spelling_sections import SemanticId
from stages.semantic_ids.quantised import Floats, Ints, Quantised, kmeans, residual, squared_distance

ROUNDS = 20  # of moving the centres to their items


def quantise(vectors: Floats, levels: int, settings: SemanticId) -> Quantised:
    """Quantise vectors [N, width] into `levels` codes of `settings.codebook_size` each."""
    size = settings.codebook_size

    def cluster(left: Floats, level: int) -> tuple[Ints, Floats]:
        _, centres = kmeans(left, size, settings.seed, level)
        return balance(left, centres.astype(np.float32))

    return residual(vectors, levels, size, cluster)


def balance(points: Floats, centres: Floats) -> tuple[Ints, Floats]:
    """Labels [N] of equally large clusters (sizes differ by one at most) and their centres, from given ones."""
    labels: Ints | None = None
    for _ in range(ROUNDS):
        before, labels = labels, assign(squared_distance(points, centres))
        if before is not None and np.array_equal(before, labels):
            break
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, points)
        centres = sums / np.bincount(labels, minlength=len(centres))[:, None]
    assert labels is not None
    return labels, centres


def assign(distance: Floats) -> Ints:
    """Give each of N items [N, size] a cluster, N / size to each, rounded up for the first clusters and else down.

    Items ask for their clusters from the nearest on; a cluster keeps the nearest that asked and sends the others on.
    """
    count, size = distance.shape
    room = np.full(size, count // size) + (np.arange(size) < count % size)
    wish = np.argsort(distance, axis=1, kind="stable")  # [N, size] clusters, nearest first
    asked = np.zeros(count, dtype=np.int64)  # how far down its list each item is
    everyone = np.arange(count)
    while True:
        choice = wish[everyone, asked]
        order = np.lexsort([everyone, distance[everyone, choice], choice])  # by cluster, then by distance
        place = np.arange(count) - np.searchsorted(choice[order], np.arange(size))[choice[order]]
        refused = order[place >= room[choice[order]]]
        if not len(refused):
            return choice
        asked[refused] += 1
