"""RecIF's tasks as tables, one each: every row and decoder, with the paper's Table 3 below in the same columns.

Its Table 4 is a table by itself: its entropy and cold recall are no measures of ours (data/published_notes.csv).
"""

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from stages.corpus.recif_parts import JUDGING
from stages.corpus.tasks import RECOMMENDING
from stages.reporting.tables import PAPER_BEYOND, Cell, Table, number

MEASURES = {
    "pass@1": "Pass@1",
    "pass@32": "Pass@32",
    "position1_pass@1": "Position1_Pass@1",
    "position1_pass@32": "Position1_Pass@32",
    "recall@1": "Recall@1",
    "recall@32": "Recall@32",
    "pid.pass@1": "Pass@1, items",
    "pid.pass@32": "Pass@32, items",
    "pid.position1_pass@1": "Position1_Pass@1, items",
    "pid.position1_pass@32": "Position1_Pass@32, items",
    "pid.recall@1": "Recall@1, items",
    "pid.recall@32": "Recall@32, items",
    "domain_share": "Of the domain",
    "sid_entropy@10": "Entropy@10 of first codes (bits)",
    "cold_recall@10": "Cold recall@10",
    "samples": "Rows",
}
LABELS = {"auc": "AUC", "samples": "Rows", "without_score": "Without a score"}
PUBLISHED = "recif"
ABOUT = (
    "Means over the task's test rows. Measures are of Semantic IDs; `items` are the pids or iids that they stand for. "
    "Rows differ in what they may list: policies of Semantic IDs any item of the catalogue, baselines items of the "
    "task's domain, native text a pool out of what the visible log has of the domain; `Of the domain` is the share of "
    "a list that is. Policies of Semantic IDs decode inside the trie, renormalised over what is open, where the "
    "official protocol has everything open. Cold are the items with the fewest training interactions, and where more "
    "have none than are due, the first of these by number. "
    "Decoders: `beam`, 32 next items, the official protocol; `slate`, 10 items written greedily, which have no cut at "
    "32; `sample`, several sampled slates merged by likelihood; `list`, a baseline's. "
)
ABOUT_LABELS = (
    "AUC over the test rows. Decoders: `label`, a policy's p(yes) / (p(yes) + p(no)), the official protocol, or a "
    "baseline's score; `likelihood`, the probability of the candidate as the next video that is watched for long. "
)
COPIED = "Figures in italics are copied from the paper: they are of the published set, measured with its prompts."
Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]


def task_tables(cells: Cells, published: Sequence[Mapping[str, str]], remarks: Sequence[str]) -> list[Table]:
    """Tables of the tasks that rows have lists for; none where no row has any. remarks: on the paper's Table 4."""
    found = []
    for task in (*RECOMMENDING, JUDGING):
        headings, about = (LABELS, ABOUT_LABELS) if task == JUDGING else (MEASURES, ABOUT)
        lines = [line for row, seeds in cells.items() for line in _lines(row, list(seeds.values()), task, headings)]
        if lines:
            copied = _copied(published, "3", task, headings)
            found.append(
                Table(f"RecIF: {task}", ["Row", "Decoder", *headings.values()], [*lines, *copied], [about + COPIED])
            )
    if found and (copied := _copied(published, "4", "video", PAPER_BEYOND)):
        head = ["Row", "Decoder", *PAPER_BEYOND.values()]
        found.append(Table("RecIF: Table 4 as published, not comparable", head, copied, list(remarks)))
    return found


def _lines(row: str, seeds: list[Mapping[str, Any]], task: str, headings: Mapping[str, str]) -> list[list[Cell]]:
    """One line per decoder: with an interval of one seed, the mean of several."""
    by_decoder = [seed.get("tasks", {}).get(task, {}) for seed in seeds]
    lines = []
    for decoder in dict.fromkeys(name for own in by_decoder for name in own):
        values = [[own[decoder].get(name) for own in by_decoder if decoder in own] for name in headings]
        lines.append([Cell(row), Cell(decoder), *(Cell(_told(own)) for own in values)])
    return lines


def _told(values: list[list[float | None] | None]) -> str:
    known = [[math.nan if part is None else part for part in own] for own in values if own]
    if not known:
        return "-"
    return number(*known[0]) if len(known) == 1 else number(mean(own[0] for own in known))


def _copied(
    published: Sequence[Mapping[str, str]], number: str, task: str, headings: Mapping[str, str]
) -> list[list[Cell]]:
    """The lines of one of the paper's tables on a task."""
    found: dict[str, dict[str, str]] = {}
    for entry in published:
        if entry["dataset"] == f"{PUBLISHED}/{task}" and entry["table"] == number:
            found.setdefault(entry["method"], {})[entry["metric"]] = entry["value"]
    return [
        [
            Cell(text, "copied")
            for text in (f"paper: {method}", f"copied, Table {number}", *(own.get(name, "-") for name in headings))
        ]
        for method, own in found.items()
    ]
