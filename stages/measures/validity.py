"""Whether slates are slates: slots that hold no item, and items that stand twice. Shares in [0, 1] over all slots.

The validity of a slate is 1 - `invalid_share`.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def null_share(items: Ints) -> Floats:
    """Share of a slate's slots that hold no item, the null action (-1): [..., L] -> [...]."""
    return np.asarray((items < 0).mean(axis=-1))


def duplicate_share(items: Ints) -> Floats:
    """Share of a slate's slots whose item stands in an earlier slot; -1 repeats nothing: [..., L] -> [...]."""
    ordered = np.sort(items, axis=-1)
    twin = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
    return np.asarray(twin.sum(axis=-1) / items.shape[-1])


def invalid_share(items: Ints) -> Floats:
    """Share of a slate's slots that show no new item, being empty or repeating one: [..., L] -> [...]."""
    return np.asarray(null_share(items) + duplicate_share(items))
