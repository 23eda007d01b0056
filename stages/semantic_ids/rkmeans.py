"""Residual k-means: each level clusters what the levels before it left over (OneRec, arXiv 2502.18965)."""

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from stages.core.errors import InputError
from stages.core.seeding import derived_seed

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def residual_kmeans(vectors: Floats, levels: int, size: int, seed: int) -> tuple[Ints, list[Floats]]:
    """Quantise vectors [N, width] into codes [N, levels]; return them with the codebooks [size, width] of the levels.

    One thread, because k-means adds its partial sums in the order in which threads finish. Raises InputError where a
    level has more codes than there are items.
    """
    if len(vectors) < size:
        raise InputError(f"{len(vectors)} items are fewer than {size} codes; lower semantic_id.codebook_size")
    residual = vectors.copy()
    codes, codebooks = [], []
    with threadpool_limits(1):
        for level in range(levels):
            state = derived_seed(seed, "kmeans", level) % 2**32
            means = KMeans(size, n_init=4, random_state=state).fit(residual)
            codes.append(means.labels_.astype(np.int64))
            codebooks.append(means.cluster_centers_.astype(np.float32))
            residual = residual - codebooks[-1][codes[-1]]
    return np.stack(codes, axis=1), codebooks


def fewest_levels(items: int, size: int) -> int:
    """How many levels of `size` codes give at least two ids per item: room for k-means to put like items together.

    Raises InputError where 5 levels do not.
    """
    for levels in range(1, 6):
        if size**levels >= 2 * items:
            return levels
    raise InputError(f"{items} items need more than 5 levels of {size} codes; raise semantic_id.codebook_size")
