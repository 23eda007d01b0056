"""Names of items: unique, one line, short."""

from hypothesis import given
from hypothesis import strategies as st

from stages.rendering.names import LONGEST, SEPARATOR, unique_names


def test_namesakes_by_hand():
    """The category tells two of three apart; where it does not, a number that no other name has."""
    titles = ["Casper", "Casper", "Heat", "Casper", "", "", "Casper [Comedy] 2"]
    categories = [["Children", "Comedy"], ["Drama"], [], ["Comedy"], [], ["Drama"], []]
    found = unique_names(titles, categories)
    assert found.names == [
        "Casper [Comedy]",
        "Casper [Drama]",
        "Heat",
        "Casper [Comedy] 3",
        "untitled",
        "untitled [Drama]",
        "Casper [Comedy] 2",
    ]
    assert found.counts == {"empty": 2, "cleaned": 0, "cut": 0, "told_apart": 4}


def test_titles_that_would_break_a_slate():
    found = unique_names(["two\nlines", " a\t b ", "x" * 10_000, "word " * 50, "line\u2028end"], [[]] * 5)
    assert found.names[0] == "two lines"
    assert found.names[1] == "a b"
    assert found.names[2] == "x" * LONGEST
    assert found.names[3] == ("word " * 16).strip()
    assert found.names[4] == "line end"
    assert found.counts == {"empty": 0, "cleaned": 4, "cut": 2, "told_apart": 0}


@given(st.lists(st.tuples(st.text(max_size=6), st.lists(st.sampled_from(["a", "b"]), max_size=2)), max_size=30))
def test_names_are_unique_lines(items):
    found = unique_names([title for title, _ in items], [own for _, own in items]).names
    assert len(set(found)) == len(items)
    assert all(name.strip() and SEPARATOR not in name and len(name.splitlines()) == 1 for name in found)
