"""The report: what differs, what is bold, what is copied, and a page that needs nothing but itself."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import vl_convert

from stages.core.errors import InputError
from stages.core.sections import Evaluate, Tabulate
from stages.reporting import charts, tables
from stages.reporting.examples import Example, choose
from stages.reporting.gallery import gallery
from stages.reporting.page import page, scripts
from stages.reporting.report import Findings, Report, build
from stages.reporting.results import Line, lines_of, over_seeds
from stages.reporting.significance import Differences, differences
from tests.browser import needs_chromium, opened

ROOT = Path(__file__).parents[1]
SETTINGS = Evaluate(max_users=None, resamples=200, confidence=0.95, seed=1)
CURVES = pd.DataFrame(
    {"row": ["text-sage"] * 3, "seed": 1, "step": [1, 2, 3], "reward": [0.1, 0.2, 0.15], "cold_mass": 0.001}
    | {"entropy": [1.0, 1.1, 1.2], "heldout_reward": [0.1, 0.1, 0.2]}
)


def line(row, ndcg, decoder="slate", **values):
    users = {"ndcg@10": np.full(4, ndcg)}
    return Line(row, decoder, {"ndcg@10": (ndcg, ndcg - 0.01, ndcg + 0.01), **values}, users, decoder != "beam")


def comparison(means, differing):
    """Rows a, b, c, .. with these means; only the pairs named differ."""
    rows = [line(chr(ord("a") + place), mean) for place, mean in enumerate(means)]
    p = np.ones((len(means), len(means)))
    for one, other in differing:
        p[one, other] = p[other, one] = 0.01
    difference = np.subtract.outer(means, means)
    return Differences("ndcg@10", 0.05, rows, difference, difference - 0.1, difference + 0.1, p)


def test_lines_share_a_letter_just_where_they_do_not_differ():
    """.3, .2, .1: only the outer two differ, so that the middle one is like both."""
    found = comparison([0.1, 0.3, 0.2], [(0, 1)])
    assert found.letters == {"a (slate)": "b", "b (slate)": "a", "c (slate)": "ab"}
    assert found.best is None
    assert found.said() == (
        "of the lines compared none is above all others: b (slate), the highest, is not told apart from c (slate)."
    )


@pytest.mark.parametrize("seed", range(20))
def test_letters_say_what_the_tests_say(seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 9))
    pairs = [(i, j) for i in range(count) for j in range(i) if generator.random() < 0.5]
    found = comparison(generator.random(count).tolist(), pairs)
    names = [own.name for own in found.lines]
    for i in range(count):
        for j in range(i):
            shared = set(found.letters[names[i]]) & set(found.letters[names[j]])
            assert bool(shared) == ((i, j) not in pairs)
    assert "a" in found.letters[names[found.leader]]


def test_bold_is_for_a_line_above_all_others():
    shown = tables.results_table("T", comparison([0.1, 0.3], []).lines, {"ndcg@10": "N@10"}, comparison([0.1, 0.3], []))
    assert "**" not in shown.markdown()
    assert "is not told apart from a (slate)" in shown.markdown()
    apart = comparison([0.1, 0.3], [(0, 1)])
    text = tables.results_table("T", apart.lines, {"ndcg@10": "N@10"}, apart).markdown()
    assert re.findall(r"\*\*(.*?)\*\*", text) == ["0.3000 [0.2900, 0.3100]"]
    assert "of the lines compared, b (slate) is above every other one" in text


def compared(rows, rounds):
    return differences(rows, "ndcg@10", 200, 0.95, Tabulate(rounds=rounds, level=0.05), np.random.default_rng(0))


def rows_apart(count):
    """Rows that are one whole unit apart for each of 20 users."""
    return [
        Line(str(row), "slate", {"ndcg@10": (row, row, row)}, {"ndcg@10": np.full(20, float(row))}, True)
        for row in range(count)
    ]


def test_too_few_draws_for_so_many_rows_are_refused():
    """14 rows have 91 pairs, 15 have 105: with 2,000 draws the least p is 1/2001, times 91 .0455, times 105 .0525."""
    found = compared(rows_apart(14), 2000)
    assert sorted(found.letters.values()) == list("abcdefghijklmn")
    with pytest.raises(InputError, match=r"tabulate\.rounds: 2000 draws cannot tell 15 rows apart .* it takes 2101"):
        compared(rows_apart(15), 2000)


def test_where_nothing_can_be_compared():
    """One line; a beam list beside it, which no row is judged by; a user without a value."""
    alone = rows_apart(1)
    assert compared(alone, 200) is None
    beam = Line("x", "beam", {}, {"ndcg@10": np.ones(20)}, False)
    assert compared([*alone, beam], 200) is None
    gap = Line("y", "slate", {}, {"ndcg@10": np.r_[np.nan, np.ones(19)]}, True)
    assert compared([*rows_apart(2), gap], 200) is None


def test_equal_rows_do_not_differ_and_a_better_one_does():
    """40 users: the second row is the first with noise around 0, the third .2 above it for everyone."""
    noise = np.random.default_rng(1).normal(0, 0.05, 40)
    base = np.linspace(0, 0.5, 40)
    rows = [
        Line(name, "slate", {"ndcg@10": (float(values.mean()), 0.0, 1.0)}, {"ndcg@10": values}, True)
        for name, values in (("one", base), ("two", base + noise - noise.mean()), ("three", base + 0.2))
    ]
    found = compared(rows, 2000)
    assert found.letters == {"one (slate)": "b", "two (slate)": "b", "three (slate)": "a"}
    assert found.best == "three (slate)"
    assert found.difference[2, 0] == pytest.approx(0.2)
    assert found.p[0, 1] == found.p[1, 0] == 1  # a mean difference of 0, whatever the signs
    text = tables.pairs_table(found, "N@10").markdown()
    assert (
        "| one (slate) | three (slate) | -0.2000 [-0.2000, -0.2000] | 0.0015 | told apart |" in text
    )  # 3 pairs of 1/2001
    assert "| one (slate) | two (slate) |" in text
    assert "| not told apart |" in text


def test_bounds_of_several_seeds_are_of_each_users_mean():
    """Seeds 1 0 and 0 0 of two users: means .5 and 0, so that resamples reach from 0 to .5; coverage has no users."""
    details = [{"recall@10": [0.5, 0.0, 1.0], "coverage@10": [0.25, np.nan, np.nan]}]
    details += [{"recall@10": [0.0, 0.0, 0.0], "coverage@10": [0.75, np.nan, np.nan]}]
    users = [pa.table({"recall@10": own}) for own in ([1.0, 0.0], [0.0, 0.0])]
    values, means = over_seeds(details, users, SETTINGS)
    assert values["recall@10"] == (0.25, 0, 0.5)
    assert values["coverage@10"][0] == 0.5
    assert np.isnan(values["coverage@10"][1])
    assert means["recall@10"].tolist() == [0.5, 0]
    alone, _ = over_seeds(details[:1], users[:1], SETTINGS)
    assert alone["recall@10"] == (0.5, 0.0, 1.0)


PUBLISHED = [
    {"table": "1", "dataset": "toy", "method": "A", "metric": "recall@5", "value": "0.10"},
    {"table": "1", "dataset": "toy", "method": "A", "metric": "ndcg@5", "value": "0.05"},
    {"table": "1", "dataset": "other", "method": "A", "metric": "ndcg@5", "value": "0.99"},
    {"table": "3", "dataset": "toy/ad", "method": "A", "metric": "pass@1", "value": "0.03"},
]


def test_copied_figures_name_their_table():
    lines = tables.published_lines(PUBLISHED, "1", "toy", ["recall@5", "ndcg@5", "ndcg@10"])
    assert lines == [["paper: A", "copied, Table 1", "0.10", "0.05", "-"]]
    assert tables.published_lines(PUBLISHED, "3", "toy", ["pass@1"]) == [["paper: A, ad", "copied, Table 3", "0.03"]]
    text = tables.results_table(
        "T", [], {"recall@5": "R@5"}, None, [["paper: A", "copied, Table 1", "0.10"]]
    ).markdown()
    assert "| _paper: A_ | _copied, Table 1_ | _0.10_ |" in text


def test_the_papers_tables_of_beauty():
    """Its Table 1 in our columns, copied; its entropy and cold recall by themselves, never in ours of like name."""
    rows = [
        Line(
            f"row {n}", "slate", {"ndcg@10": (n, n, n), "recall@5": (n, n, n)}, {"ndcg@10": np.full(20, float(n))}, True
        )
        for n in (0, 1)
    ]
    rows = [
        replace(own, values=own.values | {"cold_recall@10": (0.5, 0.4, 0.6), "coverage@10": (0.3, np.nan, np.nan)})
        for own in rows
    ]
    told_apart = {"ndcg@10": compared(rows, 200), "entropy_slate@10": None}
    counts = {"users": [20], "all_users": [30], "items": [5], "cold_items": [1], "cold_targets": [2]}
    cell = {
        "ndcg@10": 0.5,
        "counts": counts,
        "provenance": [["cell", "c"], ["params", "1"], ["inputs", "2"], ["code", "3"]],
    }
    found = Findings("beauty", {"test": rows, "valid": rows}, told_apart, {"row 0": {1: cell}, "row 1": {1: cell}}, {})
    published, notes = (
        list(csv.DictReader((ROOT / "data" / f"{name}.csv").open())) for name in ("published", "published_notes")
    )
    text = build(found, published, notes, SETTINGS, Tabulate(rounds=200, level=0.05)).markdown()
    assert "| Row | Decoder | R@5 | N@10 | Alike in N@10 |" in text
    assert "| row 1 | slate | 1.0000 [1.0000, 1.0000] | **1.0000 [1.0000, 1.0000]** | a |" in text
    assert "| _paper: OneRec-SAGE_ | _copied, Table 1_ | _0.0651_ | _0.0557_ |  |" in text
    assert "| Row | Decoder | Coverage@10 | Cold recall@10 |" in text
    assert "| _paper: OneRec-SAGE_ | _copied, Table 2_ | _2.551_ | _0.619_ |" in text
    assert text.count("0.619") == 1
    assert text.count("2.522 bits") == 1
    assert "__" not in text
    assert "20 users, drawn by seed from 30" in text


def test_users_that_differ_between_rows_are_refused():
    """The second row was measured on another user."""
    cells = {row: {1: {"detail": {"test": {"list": {"ndcg@10": [0.5, 0.4, 0.6]}}}}} for row in ("one", "two")}

    def table(users):
        return pa.table({"user": users, "split": ["test"] * 2, "decoder": ["list"] * 2, "ndcg@10": [0.0, 1.0]})

    found = lines_of(cells, {"one": {1: table([3, 4])}, "two": {1: table([3, 4])}}, "test", SETTINGS)
    assert [own.name for own in found] == ["one (list)", "two (list)"]
    with pytest.raises(InputError, match="row two, decoder list: other users"):
        lines_of(cells, {"one": {1: table([3, 4])}, "two": {1: table([3, 5])}}, "test", SETTINGS)


def test_numbers_in_tables():
    assert tables.number(0.04967) == "0.0497"
    assert tables.number(0.5, 0.25, 1) == "0.5000 [0.2500, 1.0000]"
    assert tables.number(float("nan"), 0, 1) == "-"
    assert tables.signed(0.001, -0.002, 0.003) == "+0.0010 [-0.0020, +0.0030]"


def test_examples_are_of_every_way_to_hit_and_miss():
    """Target 9 of users 10 .. 17: the first row hits users 10 to 13, the second 12 to 15, and 16 and 17 nobody."""
    hit, miss = [9, 1], [1, 2]
    lists = {"one": np.array([hit] * 4 + [miss] * 4), "two": np.array([miss] * 2 + [hit] * 4 + [miss] * 2)}
    users = np.arange(10, 18)
    for seed in range(5):
        chosen = choose(lists, users, np.full(8, 9), 4, np.random.default_rng(seed))
        assert [own // 2 for own in chosen.tolist()] == [5, 6, 7, 8]  # one of each pair
    assert choose(lists, users, np.full(8, 9), 99, np.random.default_rng(0)).tolist() == users.tolist()


def whole_page():
    """A page with every chart: two rows, curves, an ablation, a title that looks like HTML."""
    rest = dict.fromkeys(("recall@10", "entropy_slate@10", "cold_exposure@10", "cold_recall@10"), (0.5, 0.4, 0.6))
    rest["coverage@10"] = rest["cold_coverage@10"] = (0.3, np.nan, np.nan)
    lines = [
        line("text-sage", 0.3, **rest),
        line("text-sage", 0.4, "beam", **rest),
        line("text-sage_no_boost", 0.2, **rest),
    ]
    gradient = pd.DataFrame({"ratio": [0.5, 1.0], **{name: [0.5, 1.0] for name in charts.FIGURE_3}})
    drawn = gallery(lines, {"training": CURVES, "heldout": CURVES}, gradient)
    shown = tables.results_table("Results", lines, {"ndcg@10": "N@10"}, None, [["paper: A", "copied, Table 1", "0.10"]])
    example = Example(
        "7", ["</script><script>alert(1)</script>"], "Heat", {"text-sage": [("Heat", True), ("Up", False)]}
    )
    return page(Report("toy", "4 users.", [shown], "- a note\n- `another`"), drawn, [example]), drawn


def test_a_page_without_rl_has_no_charts_of_training():
    gradient = pd.DataFrame({"ratio": [0.5, 1.0], **{name: [0.5, 1.0] for name in charts.FIGURE_3}})
    one_look = CURVES[CURVES["step"] == 1]
    drawn = gallery([line("text-sft", 0.3)], {"training": one_look, "heldout": one_look}, gradient)
    assert [name for name in drawn if "raining" in name or "Held" in name or "Ablation" in name] == []


def test_dvc_draws_with_the_scripts_that_are_installed():
    bundle = vl_convert.javascript_bundle(vl_version="5.21").replace("</script", "<\\/script")
    assert f"<script>{bundle}</script>" in (ROOT / ".dvc/plots/page.html").read_text()


def test_the_page_holds_all_it_needs():
    text, drawn = whole_page()
    assert len(drawn) == 8
    assert "Ablation (Figure 5)" in drawn
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", text.replace(scripts(), ""))
    assert "<script>alert(1)" not in text
    assert '<tr class="copied"><td class="copied">paper: A</td>' in text
    assert '<li class="hit">Heat</li><li class="">Up</li>' in text
    assert text == whole_page()[0]


@needs_chromium
def test_the_page_draws_in_a_browser(tmp_path):
    text, drawn = whole_page()
    (tmp_path / "page.html").write_text(text)
    shown = opened(tmp_path / "page.html", tmp_path)
    assert (shown.errors, shown.requests) == ([], [])
    assert shown.dom.count('data-drawn="yes"') == len(drawn)


@needs_chromium
def test_a_page_that_fails_is_seen_to(tmp_path):
    (tmp_path / "page.html").write_text('<script src="https://example.org/a.js"></script><script>nothing()</script>')
    shown = opened(tmp_path / "page.html", tmp_path)
    assert shown.errors == ["Uncaught ReferenceError: nothing is not defined"]
    assert shown.requests == ["https://example.org/a.js"]
