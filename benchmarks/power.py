"""What can be told? The smallest difference that this many users show between two rows, from rows that have been run.

    python -m benchmarks.power --dataset ml-100k --first semantic_id-sft --second semantic_id-sage

Reads the values per user that `dvc repro` left. A difference is told with 80% power where a two-sided test at 5% finds
it in 4 runs of 5; by the normal approximation it is then 2.8 standard errors of the paired difference. They fall with
the square root of the users; more seeds average out no more than the policies' part of the variance. Last line: JSON.
"""

import argparse
import json

import numpy as np
import pandas as pd
from scipy.stats import norm

from stages.core import paths

LEVEL, POWER = 0.05, 0.8
ERRORS = norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER)  # standard errors of the smallest difference that is told
MEASURES = ("ndcg@10", "recall@10", "entropy_slate@10")


def values(dataset: str, row: str, seed: int) -> dict[str, pd.Series]:
    """Each user's value by measure: of the greedy slates of the test split, and of the reserve's rewards."""
    for path in (paths.per_user(dataset, row, seed), paths.heldout(dataset, row, seed)):
        if not path.exists():
            raise SystemExit(f"{path}: no such file; run the row's cells first, rows of RL or SFT alone have both")
    table = pd.read_parquet(paths.per_user(dataset, row, seed))
    table = table[(table["split"] == "test") & (table["decoder"] == "slate")].set_index("user")
    found = {measure: table[measure] for measure in MEASURES}
    heldout = pd.read_parquet(paths.heldout(dataset, row, seed))
    for decoder, own in heldout.groupby("decoder"):
        found[f"held-out reward, {decoder}"] = own.groupby("user")["reward"].mean()
    return found


def described(first: pd.Series, second: pd.Series) -> dict[str, float]:
    """Standard deviations over users, and what they let be told."""
    difference = (second - first).dropna()
    users, spread = len(difference), float(difference.std())
    return {
        "users": users,
        "mean": float(first.mean()),
        "sd": float(first.std()),
        "sd_of_difference": spread,
        "half_width": float(norm.ppf(1 - LEVEL / 2)) * spread / np.sqrt(users),
        "told": ERRORS * spread / np.sqrt(users),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--first", default="semantic_id-sft")
    parser.add_argument("--second", default="semantic_id-sage")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, nargs="*", default=[], help="of other test sets, if values spread alike")
    given = parser.parse_args()
    first, second = (values(given.dataset, row, given.seed) for row in (given.first, given.second))
    found = {name: described(first[name], second[name]) for name in first}
    head = ["users", "mean", "sd", "sd of difference", "95% half-width", "told with 80% power"]
    print(f"{'':28}" + "".join(f"{text:>21}" for text in head))
    for name, own in found.items():
        print(f"{name:28}{own['users']:>21,}" + "".join(f"{value:>21.4f}" for value in list(own.values())[1:]))
    for name in MEASURES if given.users else ():
        told = {users: ERRORS * found[name]["sd_of_difference"] / np.sqrt(users) for users in given.users}
        print(f"{name}: " + ", ".join(f"{users:,} users tell {value:.4f}" for users, value in told.items()))
    print(json.dumps({name: {key: round(value, 6) for key, value in own.items()} for name, own in found.items()}))


if __name__ == "__main__":
    main()
