"""How many places of a pool each retriever fills first."""

import math
from collections.abc import Mapping


def quotas(shares: Mapping[str, float], size: int) -> dict[str, int]:
    """Shares of `size` places in whole numbers, by largest remainder: what is left over goes, one each, to those that
    rounding down cost most; where that is the same, to the first of them.

    The order is by share, the largest first, then by name: DVC, which compares mappings, knows no other.
    """
    ordered = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))
    exact = {name: round(share * size, 6) for name, share in ordered}  # 0.29 * 100 is 28.999999999999996
    whole = {name: math.floor(places) for name, places in exact.items()}
    left = size - sum(whole.values())
    for name in sorted(exact, key=lambda name: whole[name] - exact[name])[:left]:
        whole[name] += 1
    return whole
