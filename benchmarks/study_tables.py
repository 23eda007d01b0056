"""The tables of docs/study.md of what policies earn and write, from the cells that are kept (study_cells.py).

- held-out: rewards on the reporting half of the reserve, each policy at its own best temperature and its greedy slate,
  less SFT's, and less --against's: paired over users, whose values are means over contexts and then seeds. `share` is
  the half-width of the difference's interval over the other's reward; `verdict`: above or below 0, or null where that
  share is at most 5%.
- lists: every list of every row, with intervals over users; less SFT's greedy slate, and less SFT's list of that kind.
- pairs: --against (SAGE) less every other row's greedy slate. p is corrected by Holm over the rows and measures that
  the study's claims are about (FAMILY x MEASURES); of the other rows it stands uncorrected.
- coverage: figures that are no means over users. p of the difference from --against is a randomisation test: were the
  rows alike, a user's slates could be the other's; `chance` holds 95% of the differences that such swaps make.

Seeds that only one of two rows has are left out of their comparison; a baseline that is kept once, since it counts, is
compared with all.
"""

import numpy as np
import pandas as pd

from benchmarks import study_swaps
from benchmarks.study_cells import LISTED, MEASURES, SFT, Cells, Frame, Seeds
from stages.core.params import Params
from stages.core.seeding import numpy_generator
from stages.measures import paired
from stages.reporting import heldout

CORRECTED = ["gbpo", "gbpo_slow", "sage_no_boost", "sage_no_penalty", "sage_no_decoupling"]
FAMILY = [f"semantic_id-{name}" for name in CORRECTED]
COVERAGE = ["coverage@10", "cold_coverage@10", "entropy_pooled@10"]
SLATE_OF_SFT = (SFT, "slate")
NULL = 0.05  # of the other's reward: a half-width up to which an interval around 0 is a result


def common(first: Seeds, second: Seeds, decoder: str) -> tuple[list[int], list[int]]:
    """The seeds of two rows that are compared, pair by pair; decoder: of the second, `list` for a baseline."""
    if decoder == "list" and len(second) == 1:
        return sorted(first), list(second) * len(first)
    both = sorted(set(first) & set(second))
    return both, both


def mean_over(seeds: Seeds, chosen: list[int]) -> Frame:
    """Every user's mean over seeds; all have the same users."""
    parts = [seeds[seed] for seed in chosen]
    if any(not part.index.equals(parts[0].index) for part in parts):
        raise SystemExit("cells of one data set with different users; keep them anew")
    return sum(parts[1:], parts[0]) / len(parts)


def held_out(cells: Cells, settings: Params, base: str) -> Frame:
    """What each policy earned on the reserve, and less what the row `base` did; nothing where that one is no policy."""
    tables: dict[str, dict[int, Frame]] = {}
    for row, seed, path in cells.kept("heldout-*.parquet"):
        tables.setdefault(row, {})[seed] = pd.read_parquet(path)
    found = []
    for row, own in tables.items():
        seeds = [] if row == base else sorted(set(own) & set(tables.get(base, {})))
        for decoder in heldout.DECODERS if seeds else []:
            parts, others = ([table[seed] for seed in seeds] for table in (own, tables[base]))
            rewards, before = (heldout.of_users(each, decoder) for each in (parts, others))
            less = heldout.bounds(rewards - before, settings.evaluate)
            share = (less[2] - less[1]) / 2 / float(before.mean())
            by_seed = [
                float((heldout.of_users([one], decoder) - heldout.of_users([other], decoder)).mean())
                for one, other in zip(parts, others, strict=True)
            ]
            at = [float(table.loc[table["decoder"] == decoder, "temperature"].iloc[0]) for table in parts]
            reward = heldout.bounds(rewards, settings.evaluate)
            told = [at, *reward, *less, by_seed, share, verdict(less, share)]
            found.append([row, decoder, len(seeds), len(rewards), *told])
    head = ["row", "decoder", "seeds", "users", "temperatures", "reward", "low", "high", "less", "low", "high"]
    return pd.DataFrame(found, columns=[*head, "by seed", "share", "verdict"])


def verdict(less: tuple[float, float, float], share: float) -> str:
    """What an interval of a difference says."""
    if less[1] > 0:
        return "above"
    if less[2] < 0:
        return "below"
    return "null" if share <= NULL else "open"


def lists(cells: Cells, settings: Params) -> Frame:
    """Of every list the means over users and seeds; N@10 less that of SFT's greedy slate, and of its own such list."""
    found = []
    for (row, decoder), own in cells.users.items():
        values = mean_over(own, sorted(own))
        targets, hits = int(values["cold_recall@10"].notna().sum()), values["cold_recall@10"].sum()
        shown = [values[name].mean() for name in LISTED]
        less = [
            bound
            for line in (SLATE_OF_SFT, (SFT, decoder))
            for bound in less_ndcg(own, cells.users.get(line), decoder, settings)
        ]
        found.append([row, decoder, len(own), len(values), *shown, hits, targets, *less])
    head = ["row", "list", "seeds", "users", *LISTED, "cold hits", "cold targets"]
    ends = ["N@10 less SFT's slate", "low", "high", "less SFT's own list", "its low", "its high"]
    return pd.DataFrame(found, columns=head + ends)


def less_ndcg(own: Seeds, base: Seeds | None, decoder: str, settings: Params) -> tuple[float, float, float]:
    """N@10 less that of another line, with its interval; decoder: of the first."""
    of_base, seeds = common(base or {}, own, decoder)
    if base is None or not seeds:
        return (np.nan,) * 3
    before = mean_over(base, of_base)
    return heldout.bounds(mean_over(own, seeds)["ndcg@10"] - before["ndcg@10"], settings.evaluate)


def pairs(cells: Cells, settings: Params, against: str) -> Frame:
    """`against` less every other row."""
    own, found = cells.users[cells.main_line(against)], []
    for row in cells.details:
        if row == against:
            continue
        line = cells.main_line(row)
        first, second = common(own, other := cells.users[line], line[1])
        if not first:
            continue
        ours, theirs = mean_over(own, first), mean_over(other, second)
        for measure in MEASURES:
            both = np.stack([ours[measure], theirs[measure].reindex(ours.index)], 1).astype(np.float64)
            generator = numpy_generator(settings.evaluate.seed, "study", measure, row)
            tests = (settings.evaluate.resamples, settings.tabulate.rounds, settings.evaluate.confidence)
            pair = paired.compare(both, *tests, generator)
            by_seed = [
                float((own[one][measure] - other[two][measure]).mean()) for one, two in zip(first, second, strict=True)
            ]
            users = int((~np.isnan(both).any(axis=1)).sum())
            values = [float(value[0]) for value in (pair.difference, pair.low, pair.high, pair.p)]
            found.append([row, measure, len(first), users, np.nanmean(both[:, 1]), *values, by_seed])
    head = ["less", "measure", "seeds", "users", "theirs", "difference", "low", "high", "p", "by seed"]
    return corrected(pd.DataFrame(found, columns=head))


def corrected(table: Frame) -> Frame:
    """The table with p of the family corrected for its number by Holm."""
    table["corrected"] = table["less"].isin(FAMILY)
    if (family := table["corrected"].to_numpy(bool)).any():
        table.loc[family, "p"] = paired.holm(table.loc[family, "p"].to_numpy())
    return table


def coverage(cells: Cells, settings: Params, against: str) -> Frame:
    """Figures over all users' slates, means over seeds, and the difference in cold coverage from `against`."""
    found = []
    for row, own in cells.details.items():
        values = [np.mean([detail[name][0] for detail in own.values()]) for name in COVERAGE]
        spread = [detail["cold_coverage@10"][0] for detail in own.values()]
        found.append([row, len(own), *values, min(spread), max(spread), *swapped(cells, settings, against, row)])
    head = ["less", "seeds", *COVERAGE, "cold, least", "cold, most", "difference", "chance low", "chance high", "p"]
    return corrected(pd.DataFrame(found, columns=head))


def swapped(cells: Cells, settings: Params, against: str, row: str) -> tuple[float, float, float, float]:
    """Cold coverage of `against` less that of the row, mean over seeds, 95% of what swaps make of it, and p."""
    first, second = cells.cold_slates(against), cells.cold_slates(row)
    seeds = zip(*common(first, second, cells.main_line(row)[1]), strict=True)
    parts = [study_swaps.shown(first[one], second[two]) for one, two in seeds]
    if row == against or not parts:
        return (np.nan,) * 4
    generator = numpy_generator(settings.evaluate.seed, "study", "cold", row)
    *told, p = study_swaps.randomised(parts, settings.tabulate.rounds, generator)
    return *(value / cells.cold_items for value in told), p
