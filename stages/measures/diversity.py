"""Diversity: entropy of the categories that slates show, and how much of the catalogue they reach (Sec. 4.1.3).

H is in BITS (log base 2). It is bounded by log2(min(L, C)) for one slate of single-category items and by log2(C) for
all slates pooled. `slate_entropy` is also the H(S) of Eq. 6: reward and measure are one function.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CELLS = 2**22  # rows x slots x categories that are held at once (32 MiB)


def entropy_bits(mass: Floats) -> Floats:
    """H = - sum_c p_c log2 p_c, p = mass / sum of mass: [..., C] -> [...]; 0 where there is no mass."""
    total = mass.sum(axis=-1, keepdims=True)
    share = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(np.maximum(-(share * logs).sum(axis=-1), 0.0))  # 0.0, never -0.0 or a rounding below it


def slate_entropy(items: Ints, shares: Floats) -> Floats:
    """Entropy in bits of each slate's category distribution, H(S) of Eq. 6: items [..., L] -> [...].

    shares [N, C] spreads an item evenly over its categories (`Histories.category_shares`). Slots that hold -1 and items
    without a category carry no mass; a slate without any mass has entropy 0.
    """
    return entropy_bits(category_mass(items.reshape(-1, items.shape[-1]), shares)).reshape(items.shape[:-1])


def category_mass(items: Ints, shares: Floats) -> Floats:
    """How many items of each category a slate shows, items split evenly over theirs: [R, L], [N, C] -> [R, C]."""
    mass = np.empty((len(items), shares.shape[1]))
    step = max(1, CELLS // (items.shape[1] * shares.shape[1]))
    for start in range(0, len(items), step):
        part = items[start : start + step]
        mass[start : start + step] = (shares[np.maximum(part, 0)] * (part >= 0)[:, :, None]).sum(axis=1)
    return mass


def pooled_entropy(items: Ints, shares: Floats) -> float:
    """Entropy in bits of the categories of all slots of all slates together: items [..., L], shares [N, C]."""
    count = np.bincount(items[items >= 0], minlength=len(shares)).astype(np.float64)
    return float(entropy_bits(count @ shares))


def coverage(items: Ints, item_count: int, k: int) -> float:
    """Share of the catalogue that stands in at least one user's first k: distinct items / N; items [U, L]."""
    top = items[:, :k]
    return len(np.unique(top[top >= 0])) / item_count
