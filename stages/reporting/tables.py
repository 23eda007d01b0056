"""The report's tables: a title, cells, and what they mean; as Markdown here, as HTML in page.py.

A figure of this repository has its interval beside it. Bold is for a line that is above all others by the tests of
significance.py, and nothing else; italics are for figures that are copied.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean, stdev
from typing import Any, Literal, NamedTuple

from stages.reporting.results import Line, over_runs
from stages.reporting.significance import Differences

ACCURACY = {"recall@5": "R@5", "ndcg@5": "N@5", "recall@10": "R@10", "ndcg@10": "N@10", "mrr@10": "MRR@10"}
BEYOND = {
    "entropy_slate@10": "Slate entropy@10 (bits)",
    "entropy_pooled@10": "Pooled entropy@10 (bits)",
    "coverage@10": "Coverage@10",
    "cold_recall@10": "Cold recall@10",
    "cold_coverage@10": "Cold coverage@10",
    "cold_exposure@10": "Cold exposure@10",
}
POPULARITY = {
    "recall_head@10": "R@10, head",
    "recall_middle@10": "R@10, middle",
    "recall_tail@10": "R@10, tail",
    "tail_exposure@10": "Tail exposure@10",
    "log_popularity@10": "Mean log popularity@10 (nats)",
    "popularity_lift@10": "Popularity lift@10",
}
VALIDITY = {"invalid_share": "Invalid slots", "null_share": "Null slots", "duplicate_share": "Repeated slots"}
BENCH = {"pass@1": "Pass@1", "pass@32": "Pass@32", "recall@32": "Recall@32", "auc": "AUC"}

PAPER_TABLES = {  # the paper's tables: title, measures, and the one that lines are told apart by
    "1": ("Table 1: accuracy, test split", ACCURACY, "ndcg@10"),
    "2": ("Table 2: diversity and cold items, test split", BEYOND, "entropy_slate@10"),
    "3": ("Table 3: RecIF-Bench, test split", BENCH, ""),
    "4": ("Table 4: diversity and cold items on RecIF-Bench", {}, ""),
}
PAPER_BEYOND = {"entropy@10": "Entropy@10", "cold_recall@10": "Cold-Recall@10"}

RL = {
    "at_upper_bound": "Rewarded at upper bound",
    "at_lower_bound": "Rejected at lower bound",
    "bounded_rewarded": "Rewarded, lessened",
    "bounded_rejected": "Rejected, lessened",
    "ratio_q05": "Ratio, 5%",
    "ratio_q95": "Ratio, 95%",
    "gbpo_cosine": "Cosine to GBPO",
    "kl": "Divergence from SFT (nats)",
    "published_step": "Published step",
    "heldout_reward": "Held-out reward, sampled",
    "heldout_greedy_reward": "Held-out reward, greedy",
    "no_signal_share": "Groups without signal",
}


class Cell(NamedTuple):
    """The text of a cell, and what it is."""

    text: str
    kind: Literal["plain", "best", "copied"] = "plain"


@dataclass(frozen=True)
class Table:
    """A heading, cells, and sentences below them."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """A section of Markdown."""
        marks = {"plain": "{}", "best": "**{}**", "copied": "_{}_"}
        rows = [[cell.text and marks[cell.kind].format(_escaped(cell.text)) for cell in line] for line in self.lines]
        body = "\n".join("| " + " | ".join(row) + " |" for row in [list(self.head), ["---"] * len(self.head), *rows])
        return "\n\n".join([f"## {self.title}", body, *self.notes])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def results_table(
    title: str,
    lines: Sequence[Line],
    headings: Mapping[str, str],
    told_apart: Differences | None = None,
    copied: Sequence[Sequence[str]] = (),
    notes: Sequence[str] = (),
) -> Table:
    """One line per row and decoder with the measures that `headings` names, then the copied lines.

    With differences, letters in a last column: of the lines that are compared, two that share one are not told apart.
    """
    head = ["Row", "Decoder", *headings.values()]
    letters = told_apart.letters if told_apart else {}
    best = told_apart.best if told_apart else None
    body = []
    for line in lines:
        cells = [Cell(line.row), Cell(line.decoder)]
        for measure in headings:
            leads = told_apart is not None and told_apart.measure == measure and line.name == best
            cells.append(Cell(number(*line.value(measure)), "best" if leads else "plain"))
        body.append(cells + ([Cell(letters.get(line.name, ""))] if told_apart else []))
    if told_apart:
        head.append(f"Alike in {headings[told_apart.measure]}")
    body += [[Cell(text, "copied") for text in [*line, *[""] * (len(head) - len(line))]] for line in copied]
    said = [f"{headings[told_apart.measure]}: {told_apart.said()}"] if told_apart else []
    return Table(title, head, body, [*said, *notes])


def pairs_table(told_apart: Differences, heading: str) -> Table:
    """The difference between every two lines that are compared."""
    body = []
    for one, other in combinations(range(len(told_apart.lines)), 2):
        found = (float(part[one, other]) for part in (told_apart.difference, told_apart.low, told_apart.high))
        said = "told apart" if told_apart.differ(one, other) else "not told apart"
        names = (told_apart.lines[one].name, told_apart.lines[other].name)
        cells = [*names, signed(*found), f"{told_apart.p[one, other]:.4f}", said]
        body.append([Cell(text) for text in cells])
    head = ["First", "Second", f"{heading}, first less second", "p, corrected", "Tests say"]
    return Table(f"Differences in {heading}, test split", head, body, [PAIRS_NOTE])


def rl_table(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """One line per row with what its runs, one per seed, say of themselves."""
    body = []
    for row, seeds in runs.items():
        means = [math.nan if (own := over_runs(seeds, name)) is None else own for name in RL]
        reasons = sorted({reason for run in seeds for reason in run["no_comparison"]})
        last = f"no comparison: {', '.join(reasons)}" if reasons else "yes"
        body.append([Cell(text) for text in (row, *map(number, means), last)])
    return Table("What RL did", ["Row", *RL.values(), "Comparison"], body, [RL_NOTE])


def seeds_table(cells: Mapping[str, Mapping[int, Mapping[str, Any]]], measure: str) -> Table:
    """Test N@10 by row and seed, with the spread: the standard deviation over seeds."""
    seeds = list(next(iter(cells.values())))
    body = []
    for row, own in cells.items():
        values = [float(cell[measure]) for cell in own.values()]
        body.append([Cell(row), *(Cell(number(value)) for value in (*values, mean(values), stdev(values)))])
    head = ["Row", *(f"seed {seed}" for seed in seeds), "Mean", "Standard deviation"]
    return Table("N@10 by seed, test split", head, body)


def provenance_table(cells: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Table:
    """What every rerun figure came from: the cell, and hashes of its parameters, inputs and code."""
    body = []
    for row, seeds in cells.items():
        for seed, cell in seeds.items():
            found = dict(cell["provenance"])
            own = (row, str(seed), found["cell"], found["params"], found["inputs"], found["code"])
            body.append([Cell(text) for text in own])
    head = ["Row", "Seed", "Cell", "Parameters", "Inputs", "Code"]
    return Table("Where the figures come from", head, body, [PROVENANCE_NOTE])


def published_lines(
    published: Iterable[Mapping[str, str]], table: str, dataset: str, metrics: Sequence[str]
) -> list[list[str]]:
    """Lines of one of the paper's tables (data/published.csv), a method and task each; all say `copied`.

    A task of the data set is named behind the method: recif/video.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for entry in published:
        base, _, task = entry["dataset"].partition("/")
        if entry["table"] == table and base == dataset and entry["metric"] in metrics:
            found.setdefault((entry["method"], task), {})[entry["metric"]] = entry["value"]
    return [
        [
            f"paper: {method}" + (f", {task}" if task else ""),
            f"copied, Table {table}",
            *(values.get(name, "-") for name in metrics),
        ]
        for (method, task), values in found.items()
    ]


def number(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """`0.0497 [0.0471, 0.0523]`; without bounds the mean alone; a dash where there was nothing to measure."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" + ("" if math.isnan(low) else f" [{low:.4f}, {high:.4f}]")


def signed(value: float, low: float, high: float) -> str:
    """`+0.0012 [-0.0031, +0.0054]`."""
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"


RL_NOTE = """Means over a run's steps, and over seeds. Shares are of slates where the ratio is a slate's, of tokens
where it is a token's, at the last update of a rollout. At a bound the gradient is 0 (SAGE: the upper one is boost, the
lower one the floor); lessened, it is smaller (GBPO). The cosine is that of the gradients of the optimizer's loss and of
GBPO's, per token, on the same slates; it and the divergence from SFT are taken at the looks at the held-out reward. A
run in which no bound ever acted, or in which most groups earned the same throughout, compares no optimizers. The ratio
columns are quantiles. The policy in the tables is the one after the published step, the best by the greedy reward of
the reserve's selecting half; its held-out rewards are the other half's, at the training temperature and greedy."""

PROVENANCE_NOTE = """Every line that is not marked as copied was rerun by these cells, named as in dvc.yaml, from
parameters, inputs and code with these hashes; dvc.lock of the same commit holds the hash of every file before them. A
line of decoder `pool` comes from the first policy of its action space."""

PAIRS_NOTE = """In brackets the interval of each difference by itself; p is corrected for the number of pairs, so that
an interval may leave 0 out where the test does not tell the two apart."""
