"""Tables of results as Markdown: cells with intervals, and lines from this repository beside copied ones.

Nothing is set in bold: a bold best row claims a difference that the intervals of single rows do not show.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Value = tuple[float, float, float]  # mean over seeds, lower and upper bound; NaN where there is none
Results = Mapping[tuple[str, str], Mapping[str, Value]]  # (row, decoder) -> measure -> value

ACCURACY = {"recall@5": "R@5", "ndcg@5": "N@5", "recall@10": "R@10", "ndcg@10": "N@10"}
BEYOND = {
    "entropy_slate@10": "Slate entropy@10 (bits)",
    "entropy_pooled@10": "Pooled entropy@10 (bits)",
    "coverage@10": "Coverage@10",
    "cold_recall@10": "Cold recall@10",
    "cold_coverage@10": "Cold coverage@10",
    "cold_exposure@10": "Cold exposure@10",
    "invalid_share": "Invalid slots",
    "duplicate_share": "Repeated slots",
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
    "kl": "Divergence from SFT",
    "published_step": "Published step",
    "heldout_reward": "Held-out reward, sampled",
    "heldout_greedy_reward": "Held-out reward, greedy",
    "no_signal_share": "Groups without signal",
}
RL_NOTES = """Means over a run's steps, and over seeds. Shares are of slates where the ratio is a slate's, of tokens
where it is a token's, at the last update of a rollout. At a bound the gradient is 0 (SAGE: the upper one is boost, the
lower one the floor); lessened, it is smaller (GBPO). The cosine is that of the gradients of the optimizer's loss and of
GBPO's, per token, on the same slates; it and the divergence from SFT are taken at the looks at the held-out reward. A
run in which no bound ever acted, or in which most groups earned the same throughout, compares no optimizers. The ratio
columns are quantiles. The policy in the tables is the one after the published step, the best by the greedy reward of
the reserve's selecting half; its held-out rewards are the other half's, at the training temperature and greedy."""

NOTES = """- Lists are one per user with a target: decoder `slate` is the policy's own slate, `beam` its most likely
  next items, by beam search over the catalogue or out of a pool whose items are all scored, `free` its slate written
  unaided, `pool` the first of the pool as the retriever ranks it, `list` a baseline's. Rows of policies are judged by
  `slate`, baselines by `list`.
- All items are ranked; one held-out item per user. N is NDCG, R is recall, which is the hit rate here.
- Entropies are in bits. Slate entropy is the mean over users of the entropy of the categories in one list, at most
  log2(min(10, categories)) where items have one category; pooled entropy is that of all lists together. The paper does
  not say which of them it reports, nor the unit.
- Cold items are the least frequent of training. Cold recall is a mean over the users whose target is cold:
  {cold}. Where none of them is hit, the interval is [0, 0] however few they are.
  The paper's figures are several times its overall recall, which does not follow from this definition; they are not
  comparable.
- Cold coverage: share of the cold items that stand in at least one user's top 10. Cold exposure: share of the
  positions of all top 10 that hold a cold item. Coverage: share of the catalogue in at least one top 10.
- Coverages have no interval: a bootstrap over users leaves a third of the users out and so comes out too low."""


def report(
    dataset: str,
    results: Mapping[str, Results],
    per_seed: Mapping[str, Mapping[int, float]],
    counts: Mapping[str, Sequence[int]],
    published: Sequence[Mapping[str, str]],
    confidence: float,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """The whole report of a data set: results by split, test ndcg@10 by row and seed, counts of `evaluate`, RL runs."""
    seeds = next(iter(per_seed.values()))
    judged, everyone = counts["users"][0], counts["all_users"][0]
    users = f"{judged:,} users" + (f", drawn by seed from {everyone:,}" if judged < everyone else "")
    cold = f"{counts['cold_targets'][0]:,} of {counts['users'][0]:,} on the test split"
    copied = published_lines(published, dataset, list(ACCURACY))
    copied_beyond = published_lines(published, dataset, list(PAPER_BEYOND))
    sections = [
        f"# {dataset}",
        f"{users}, {counts['items'][0]:,} items, {counts['cold_items'][0]:,} of them cold. "
        f"Means over {'1 seed' if len(seeds) == 1 else f'{len(seeds)} seeds'}; in brackets {confidence:.0%} bootstrap "
        "intervals over users" + (" of each user's mean over seeds." if len(seeds) > 1 else "."),
        "## Accuracy, test split",
        results_table(results["test"], ACCURACY, copied),
    ]
    if copied:
        sections.append("Lines marked `copied` are the paper's (arXiv 2601.21452); nothing was rerun for them.")
    else:
        sections.append("The paper reports no figures on this data set.")
    sections += ["## Diversity, cold items and validity, test split", results_table(results["test"], BEYOND, [])]
    if copied_beyond:
        sections += ["The paper's figures, not comparable (see the notes):"]
        sections += [markdown(["Row", "Source", *PAPER_BEYOND.values()], copied_beyond)]
    sections += ["## Accuracy, valid split", results_table(results["valid"], ACCURACY, [])]
    if len(seeds) > 1:
        lines = [[row, *(number(value) for value in values.values())] for row, values in per_seed.items()]
        sections += ["## Test N@10 by seed", markdown(["Row", *(f"seed {seed}" for seed in seeds)], lines)]
    if runs:
        sections += ["## What RL did", rl_table(runs), RL_NOTES]
    return "\n\n".join([*sections, "## Notes", NOTES.format(cold=cold)]) + "\n"


def results_table(results: Results, headings: Mapping[str, str], copied: Sequence[Sequence[str]]) -> str:
    """One line per row and decoder with the measures that `headings` names, then the copied lines."""
    lines = [
        [row, decoder, *(number(*found[measure]) for measure in headings)] for (row, decoder), found in results.items()
    ]
    return markdown(["Row", "Decoder", *headings.values()], [*lines, *copied])


def rl_table(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One line per row with what its runs, one per seed, say of themselves."""
    lines = []
    for row, seeds in runs.items():
        means = [math.nan if (mean := over_runs(seeds, name)) is None else mean for name in RL]
        reasons = sorted({reason for run in seeds for reason in run["no_comparison"]})
        lines.append([row, *map(number, means), f"no comparison: {', '.join(reasons)}" if reasons else "yes"])
    return markdown(["Row", *RL.values(), "Comparison"], lines)


def over_runs(runs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Mean of a figure over the runs that have it; None where none has."""
    values = [run[name] for run in runs if name in run]
    return float(np.mean(values)) if values else None


def published_lines(published: Iterable[Mapping[str, str]], dataset: str, metrics: Sequence[str]) -> list[list[str]]:
    """Lines of the paper's figures (data/published.csv), one per method and table; each says `copied` and its table."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for entry in published:
        if entry["dataset"] == dataset and entry["metric"] in metrics:
            found.setdefault((entry["method"], entry["table"]), {})[entry["metric"]] = entry["value"]
    return [
        [f"paper: {method}", f"copied, Table {table}", *(values.get(metric, "-") for metric in metrics)]
        for (method, table), values in found.items()
    ]


def number(mean: float, low: float = math.nan, high: float = math.nan) -> str:
    """`0.0497 [0.0471, 0.0523]`; without bounds the mean alone; a dash where there was nothing to measure."""
    if math.isnan(mean):
        return "-"
    return f"{mean:.4f}" + ("" if math.isnan(low) else f" [{low:.4f}, {high:.4f}]")


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])
