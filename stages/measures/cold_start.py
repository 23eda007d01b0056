"""Cold items: the share of the catalogue least frequent in training (Sec. 4.1.3; rule in corpora.<name>.cold_share).

Cold recall is a mean over the users whose held-out item is cold. These are few, so it always goes with their number.
The paper's figures are several times its overall recall, which does not follow from this definition; they are not
comparable. Cold coverage and exposure need no target and say what the slates show.
"""

import numpy as np
import numpy.typing as npt

from stages.measures.accuracy import recall_at_rank

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def recall_of_cold(rank: Ints, cold_target: Bools, k: int) -> Floats:
    """[U] recall@k of users whose target is cold, NaN for the others: rank [U] from 1 (0 absent), cold_target [U]."""
    return np.where(cold_target, recall_at_rank(rank, k), np.nan)


def cold_coverage(items: Ints, cold: Bools, k: int) -> float:
    """Share of the cold items that stand in at least one user's first k: items [U, L], cold [N]; NaN without any."""
    top = items[:, :k]
    shown = np.unique(top[top >= 0])
    return float(cold[shown].sum() / cold.sum()) if cold.any() else float("nan")


def cold_exposure(items: Ints, cold: Bools, k: int) -> Floats:
    """[U] share of a user's first k slots that hold a cold item: items [U, L], cold [N]; a slot with -1 is not cold."""
    top = items[:, :k]
    return np.asarray(((top >= 0) & cold[np.where(top >= 0, top, 0)]).mean(axis=1))
