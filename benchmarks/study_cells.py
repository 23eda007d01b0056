"""The cells that are kept in docs/study/<setting>/<row>, of which the tables of docs/study.md are made.

Of lists and values per user that is the test split's; values that no table takes are left out.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

SFT = "semantic_id-sft"
SPLIT, LENGTH = "test", 10
DECODERS = ["slate", "beam", "list"]
MEASURES = ["ndcg@10", "entropy_slate@10", "cold_exposure@10", "cold_recall@10"]  # means over users
LISTED = ["ndcg@10", "recall@10", "entropy_slate@10", "log_popularity@10"]
JUDGED = ["metrics-{seed}.json", "per_user-{seed}.parquet", "cold-{seed}.parquet"]  # files of a cell, on test
TRAINED = ["rl-{seed}.json", "curve-{seed}.csv", "heldout-{seed}.csv", "heldout-{seed}.parquet"]
TAKEN = list(dict.fromkeys(MEASURES + LISTED))

Frame = pd.DataFrame
Seeds = dict[int, Frame]
"""By seed, users' values."""


@dataclass(frozen=True)
class Cells:
    """What is kept of a setting."""

    folder: Path

    def kept(self, kind: str) -> Iterator[tuple[str, int, Path]]:
        """Row, seed and file of everything of one kind: `curve-*.csv`."""
        for path in sorted(self.folder.glob(f"*/{kind}")):
            yield path.parent.name, int(path.stem.rsplit("-", 1)[1]), path

    def check(self) -> None:
        """SystemExit where a cell lacks a file, or cells have other users than those that they are compared with."""
        for group in (JUDGED, TRAINED):
            for row, seed, _ in self.kept(group[0].format(seed="*")):
                for name in group:
                    if not (path := self.folder / row / name.format(seed=seed)).exists():
                        raise SystemExit(f"{path}: no such file; keep row {row}, seed {seed} anew")
        of_lists = {
            f"{row}, seed {seed}, {decoder}": table.index
            for (row, decoder), own in self.users.items()
            for seed, table in own.items()
        }
        refuse_others(of_lists, self.folder)
        watched: dict[int, dict[str, pd.Index]] = {}
        for row, seed, path in self.kept("heldout-*.parquet"):
            users = pd.Index(pd.read_parquet(path, columns=["user"])["user"].unique()).sort_values()
            watched.setdefault(seed, {})[f"{row}, seed {seed}, held out"] = users
        for of_seed in watched.values():
            refuse_others(of_seed, self.folder)

    @cached_property
    def users(self) -> dict[tuple[str, str], Seeds]:
        """By row and decoder, by seed: measures of users."""
        found: dict[tuple[str, str], Seeds] = {}
        for row, seed, path in self.kept("per_user-*.parquet"):
            table = pd.read_parquet(path)
            for decoder in DECODERS:
                own = table[table["decoder"] == decoder]
                if len(own):
                    found.setdefault((row, decoder), {})[seed] = own.set_index("user").drop(columns="decoder")
        return found

    @cached_property
    def cold_items(self) -> int:
        """How many the catalogue has."""
        _, _, path = next(self.kept("metrics-*.json"))
        return int(json.loads(path.read_text())["counts"]["cold_items"][0])

    @cached_property
    def details(self) -> dict[str, dict[int, dict]]:
        """By row and seed, the metrics of the greedy slate, or of a baseline's list."""
        found: dict[str, dict[int, dict]] = {}
        for row, seed, path in self.kept("metrics-*.json"):
            detail = json.loads(path.read_text())["detail"][SPLIT]
            found.setdefault(row, {})[seed] = detail.get("slate") or detail["list"]
        return found

    def curves(self, kind: str) -> Frame:
        """Those of what RL trained, with row and seed: `curve-*.csv`, every step, or `heldout-*.csv`, every look."""
        trained = (each for each in self.kept(kind) if each[0] != SFT)
        found = [pd.read_csv(path).assign(row=row, seed=seed) for row, seed, path in trained]
        return pd.concat(found) if found else pd.DataFrame(columns=["row", "seed", "step"])

    def main_line(self, row: str) -> tuple[str, str]:
        return (row, "slate") if (row, "slate") in self.users else (row, "list")

    def cold_slates(self, row: str) -> Seeds:
        """By seed, users and cold items of their slates."""
        found, decoder = {}, self.main_line(row)[1]
        for _, seed, path in self.kept("cold-*.parquet"):
            if path.parent.name == row:
                table = pd.read_parquet(path)
                found[seed] = table[table["decoder"] == decoder][["user", "item"]]
        return found


def refuse_others(users: dict[str, pd.Index], folder: Path) -> None:
    """SystemExit where not all have the first one's users; users: by what they are of."""
    first = next(iter(users), "")
    for name, own in users.items():
        if not own.equals(users[first]):
            raise SystemExit(f"{folder}: other users in {name} than in {first}; keep cells of one setting there")


def judged(per_user: Frame) -> Frame:
    """What is kept of the values per user: those of the test split that a table takes."""
    chosen = per_user[(per_user["split"] == SPLIT) & per_user["decoder"].isin(DECODERS)]
    return chosen[["user", "decoder", *TAKEN]]


def cold_items(lists: Frame, cold: np.ndarray) -> Frame:
    """User, decoder and item of what is cold among the first ten of the test split's lists; cold: by item."""
    first = lists[(lists["split"] == SPLIT) & lists["decoder"].isin(DECODERS) & (lists["rank"] <= LENGTH)]
    shown = first[first["item"] >= 0]
    return shown[cold[shown["item"].to_numpy()]][["user", "decoder", "item"]]
