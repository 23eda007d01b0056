"""The tables of docs/baselines.md are what the kept cells say."""

import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.baselines import line

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/baselines.md").read_text()
KEPT = sorted(path.parent for path in (ROOT / "docs/baselines").glob("*/*/seed-1.json"))
SETS = {"Amazon Beauty": "beauty", "MovieLens-100K": "ml-100k"}


def table() -> dict[tuple[str, str], list[str]]:
    """The page's rows under Results: (data set, row) -> the other cells."""
    dataset, found = "", {}
    for text in re.findall(r"^\| .* \|$", PAGE.split("## Results")[1], re.MULTILINE):
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if len(cells) == 10 and re.fullmatch(r"`\w+`", cells[1]):
            dataset = SETS[cells[0]] if cells[0] else dataset
            found[dataset, cells[1].strip("`")] = cells[2:]
    return found


def short(number: float) -> str:
    return f"{number:.4f}".lstrip("0")


def test_every_kept_row_is_in_the_table():
    assert set(table()) == {(path.parent.name, path.name) for path in KEPT}


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_table_says_what_is_kept(folder):
    seeds, *measures, users, spread, epochs = table()[folder.parent.name, folder.name]
    kept = line(folder)
    assert int(seeds) == kept["seeds"]
    assert measures == [short(float(kept[name])) for name in ("recall@5", "ndcg@5", "recall@10", "ndcg@10")]
    assert users == re.sub(r"\b0\.", ".", str(kept["users"]))
    assert spread == (re.sub(r"\b0\.", ".", str(kept["over seeds"])) if kept["seeds"] > 1 else "")
    assert epochs == kept["epochs"]


def test_the_search_is_what_its_curves_say():
    """Of sasrec_bce on Beauty: epochs and best validation N@10, the last line being the shipped one's first seed."""
    curves = [f"searched/sasrec_bce-dropout-{dropout}.csv" for dropout in ("0.5", "0.2", "0.4")]
    found = []
    for name in (*curves, "beauty/sasrec_bce/seed-1.csv"):
        ndcg = pd.read_csv(ROOT / "docs/baselines" / name)["valid_ndcg@10"]
        found.append((f"{int(ndcg.idxmax()) + 1} of {len(ndcg)}", short(ndcg.max())))
    part = PAGE.split("curves in docs/baselines/searched:")[1].split("Where we differ")[0]
    assert re.findall(r"\| (\d+ of \d+) \| (\.\d+) \|", part) == found
