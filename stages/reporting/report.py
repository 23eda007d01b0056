"""The report of a data set as tables and sentences, which Markdown and the page of HTML both show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.sections import Evaluate, Tabulate
from stages.reporting import heldout, tables
from stages.reporting.heldout import HeldOut
from stages.reporting.results import Line
from stages.reporting.significance import Differences
from stages.reporting.tables import ACCURACY, PAPER_BEYOND, PAPER_TABLES, POPULARITY, VALIDITY, Table
from stages.reporting.task_tables import task_tables

Published = Sequence[Mapping[str, str]]

OF_TASKS = ("3", "4")  # the paper's tables on RecIF
PAPER = "arXiv 2601.21452"

NOTES = """- Lists are one per user with a target: decoder `slate` is the policy's own slate, `beam` its most likely
  next items, by beam search over the catalogue or out of a pool whose items are all scored, `free` its slate written
  unaided, `pool` the first of the pool as the retriever ranks them, `list` a baseline's. Rows of policies are judged by
  `slate`, baselines by `list`.
- All items are ranked; one held-out item per user. N is NDCG, R is recall, which is the hit rate here, and MRR the mean
  reciprocal rank.
- Lines that share a letter are not told apart. Compared are the lines that rows are judged by and the order of the
  pools, every two of them, by a randomisation test over users (signs of the users' differences, {rounds:,} draws), with
  p-values corrected by Holm over all these pairs, at {level}. Bold is for a line above every other one compared. The
  tests know of users, not of training seeds: what another seed would give is seen only where several were run.
- Entropies are in bits. Slate entropy is the mean over users of the entropy of the categories in one list, at most
  log2(min(10, categories)) where items have one category; pooled entropy is that of all lists together. The paper does
  not say which of them it reports, nor the unit.
- Cold items are the least frequent of training. Cold recall is a mean over the users whose target is cold:
  {cold}. Where none of them is hit, the interval is [0, 0] however few they are.
- Cold coverage: share of the cold items that stand in at least one user's top 10. Cold exposure: share of the
  positions of all top 10 that hold a cold item. Coverage: share of the catalogue in at least one top 10.
- Head, middle and tail: the items, from the most frequent of training on, that together hold a third of its
  interactions each. Popularity lift: the geometric mean of 1 + training interactions of the items shown, over that of
  the catalogue; items drawn evenly have 1.
- Null slots hold no item, repeated ones an item that stands before; invalid slots are both together.
- Coverages have no interval: a bootstrap over users leaves a third of the users out and so comes out too low."""


@dataclass(frozen=True)
class Report:
    """What tabulate has to say of one data set."""

    dataset: str
    introduction: str
    tables: Sequence[Table]
    notes: str

    def markdown(self) -> str:
        parts = [f"# {self.dataset}", self.introduction, *(table.markdown() for table in self.tables)]
        return "\n\n".join([*parts, "## Notes", self.notes]) + "\n"


@dataclass(frozen=True)
class Findings:
    """What the cells of a data set hold."""

    dataset: str
    lines: Mapping[str, Sequence[Line]]
    """By split."""
    told_apart: Mapping[str, Differences | None]
    """On the test split, by measure; None where nothing can be compared."""
    cells: Mapping[str, Mapping[int, Mapping[str, Any]]]
    """What `evaluate` wrote, by row and seed."""
    runs: Mapping[str, Sequence[Mapping[str, Any]]]
    """What `rl` says of itself, by row: one entry per seed."""
    rewards: Sequence[HeldOut] = ()
    """On the reserve, by row and decoder."""


def build(found: Findings, published: Published, remarks: Published, settings: Evaluate, tests: Tabulate) -> Report:
    """Put a data set's results into tables; published: the paper's figures, with remarks on them."""
    any_row = next(iter(found.cells.values()))
    seeds, counts = len(any_row), next(iter(any_row.values()))["counts"]
    judged, everyone = counts["users"][0], counts["all_users"][0]
    users = f"{judged:,} users" + (f", drawn by seed from {everyone:,}" if judged < everyone else "")
    introduction = (
        f"{users}, {counts['items'][0]:,} items, {counts['cold_items'][0]:,} of them cold. Means over "
        f"{'1 seed' if seeds == 1 else f'{seeds} seeds'}; in brackets {settings.confidence:.0%} bootstrap intervals "
        f"over users{'' if seeds == 1 else ', of the mean over seeds of each'}. Figures in italics, if "
        f"any, are copied from the paper ({PAPER}); nothing was rerun for them."
    )
    test = found.lines["test"]
    on_table_4 = [note["note"] for note in remarks if note["table"] == "4"]
    of_tasks = task_tables(found.cells, published, on_table_4)
    numbers = [number for number in PAPER_TABLES if not of_tasks or number not in OF_TASKS]
    shown = [table for number in numbers for table in _paper_tables(number, found, published, remarks)] + of_tasks
    shown.append(tables.results_table("Popularity, test split", test, POPULARITY))
    shown.append(tables.results_table("Validity, test split", test, VALIDITY))
    if (told_apart := found.told_apart["ndcg@10"]) is not None:
        shown.append(tables.pairs_table(told_apart, "N@10"))
    shown.append(tables.results_table("Accuracy, valid split", found.lines["valid"], ACCURACY))
    if seeds > 1:
        shown.append(tables.seeds_table(found.cells, "ndcg@10"))
    if found.runs:
        shown.append(tables.rl_table(found.runs))
    if found.rewards:
        shown.append(heldout.table_of(found.rewards))
    shown.append(tables.provenance_table(found.cells))
    cold = f"{counts['cold_targets'][0]:,} of {judged:,} on the test split"
    notes = NOTES.format(cold=cold, rounds=tests.rounds, level=tests.level)
    return Report(found.dataset, introduction, shown, notes)


def _paper_tables(number: str, found: Findings, published: Published, remarks: Published) -> list[Table]:
    """One of the paper's tables: our lines with its own below, in the same columns.

    Its entropy and cold recall are no measures of ours (see the notes): they make a table by themselves.
    """
    title, headings, compared = PAPER_TABLES[number]
    notes = [note["note"] for note in remarks if note["table"] == number and note["dataset"] in ("", found.dataset)]
    shown, lines = [], found.lines["test"]
    there = {name: heading for name, heading in headings.items() if any(name in line.values for line in lines)}
    alike = [name for name in there or headings if name not in PAPER_BEYOND]
    copied = tables.published_lines(published, number, found.dataset, alike)
    beyond = tables.published_lines(published, number, found.dataset, list(PAPER_BEYOND))
    if there or copied:
        said = notes if copied else []
        said = said if copied or beyond else [f"The paper's Table {number} has no figures on this data set."]
        told_apart = found.told_apart.get(compared) if there else None
        shown.append(tables.results_table(title, lines if there else [], there or headings, told_apart, copied, said))
    if beyond:
        heading = f"Table {number} as published, not comparable"
        shown.append(tables.results_table(heading, [], PAPER_BEYOND, None, beyond, notes))
    return shown
