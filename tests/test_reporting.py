"""The report: what differs, what is bold, what is copied, and a page that needs nothing but itself."""

import re

import numpy as np
import pandas as pd
import pytest

from stages.reporting import charts, tables
from stages.reporting.examples import Example, choose
from stages.reporting.page import page, scripts
from stages.reporting.report import Report
from stages.reporting.results import Line, over_seeds
from stages.reporting.significance import Comparison, compare
from tests.browser import needs_chromium, opened

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
    return Comparison("ndcg@10", rows, difference, difference - 0.1, difference + 0.1, p)


def test_lines_share_a_letter_just_where_they_do_not_differ():
    """.3, .2, .1: only the outer two differ, so that the middle one is like both."""
    found = comparison([0.1, 0.3, 0.2], [(0, 1)])
    assert found.letters == {"a (slate)": "b", "b (slate)": "a", "c (slate)": "ab"}
    assert found.best is None
    assert found.said() == "no line is above all others: b (slate), the highest, does not differ from c (slate)."


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
    assert "does not differ from a (slate)" in shown.markdown()
    apart = comparison([0.1, 0.3], [(0, 1)])
    text = tables.results_table("T", apart.lines, {"ndcg@10": "N@10"}, apart).markdown()
    assert re.findall(r"\*\*(.*?)\*\*", text) == ["0.3000 [0.2900, 0.3100]"]
    assert "b (slate) is above every other line" in text


def test_equal_rows_do_not_differ_and_a_better_one_does():
    """40 users: the second row is the first with noise around 0, the third .2 above it for everyone."""
    noise = np.random.default_rng(1).normal(0, 0.05, 40)
    base = np.linspace(0, 0.5, 40)
    rows = [
        Line(name, "slate", {"ndcg@10": (float(values.mean()), 0.0, 1.0)}, {"ndcg@10": values}, True)
        for name, values in (("one", base), ("two", base + noise - noise.mean()), ("three", base + 0.2))
    ]
    found = compare(rows, "ndcg@10", 200, 2000, 0.95, np.random.default_rng(0))
    assert found.letters == {"one (slate)": "b", "two (slate)": "b", "three (slate)": "a"}
    assert found.best == "three (slate)"
    assert found.difference[2, 0] == pytest.approx(0.2)
    assert found.p[0, 1] == found.p[1, 0] == 1  # a mean difference of 0, whatever the signs
    text = tables.pairs_table(found, "N@10").markdown()
    assert "| one (slate) | three (slate) | -0.2000 [-0.2000, -0.2000] | 0.0015 | differ |" in text  # 3 pairs of 1/2001
    assert "| one (slate) | two (slate) |" in text
    assert "| do not differ |" in text


def test_bounds_of_several_seeds_are_of_each_users_mean():
    """Seeds 1 0 and 0 0 of two users: means .5 and 0, so that resamples reach from 0 to .5; coverage has no users."""
    details = [{"recall@10": [0.5, 0.0, 1.0], "coverage@10": [0.25, np.nan, np.nan]}]
    details += [{"recall@10": [0.0, 0.0, 0.0], "coverage@10": [0.75, np.nan, np.nan]}]
    users = [{"recall@10": np.array([1.0, 0.0])}, {"recall@10": np.array([0.0, 0.0])}]
    values, means = over_seeds(details, users, 200, 0.95, np.random.default_rng(0))
    assert values["recall@10"] == (0.25, 0, 0.5)
    assert values["coverage@10"][0] == 0.5
    assert np.isnan(values["coverage@10"][1])
    assert means["recall@10"].tolist() == [0.5, 0]
    alone, _ = over_seeds(details[:1], users[:1], 200, 0.95, np.random.default_rng(0))
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
    drawn = charts.gallery(lines, {"training": CURVES, "heldout": CURVES}, gradient)
    shown = tables.results_table("Results", lines, {"ndcg@10": "N@10"}, None, [["paper: A", "copied, Table 1", "0.10"]])
    example = Example(
        "7", ["</script><script>alert(1)</script>"], "Heat", {"text-sage": [("Heat", True), ("Up", False)]}
    )
    return page(Report("toy", "4 users.", [shown], "- a note\n- `another`"), drawn, [example]), drawn


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
