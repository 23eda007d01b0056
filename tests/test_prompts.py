"""Prompts against tests/golden/prompts.txt, plain loops, and what must not be in them: the future, broken lines.

To renew the golden file, from the repository's root:

    python -m tests.test_prompts
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.schema import ITEMS, USERS
from stages.corpus.histories import Histories
from stages.rendering import templates as words
from stages.rendering.activity import DAY, MOST_TOPICS, NO_TIME, Activity
from stages.rendering.items import LONGEST, details, item_lines, popularity_words, says, short_tags
from stages.rendering.names import unique_names
from stages.rendering.profiles import user_profiles
from stages.rendering.prompts import Renderer
from stages.rendering.table import Text

GOLDEN = Path(__file__).parent / "golden/prompts.txt"
FILMS: list[tuple[str, str, list[str], int]] = [
    ("Toy Story", "Toy Story (1995). Animation, Children's, Comedy", ["Animation", "Children's", "Comedy"], 90),
    ("Heat", "Heat (1995). Action, Crime, Drama, Thriller", ["Action", "Crime", "Drama", "Thriller"], 40),
    ("Casper", "Casper (1995). Comedy", ["Comedy"], 30),
    ("Casper", "Casper (1997). Drama", ["Drama"], 1),
    ("Red Nail Polish", "Red Nail Polish. Acme. Beauty, Makeup, Nails, Nail Polish", ["Makeup"], 20),
    ("Acme Comb", "Acme Comb. Acme. Beauty, Hair Care", ["Hair Care"], 19),
    (" two\nlines\u2028and | a bar", "", [], 18),
    (
        "\U0001f3ac \u0641\u064a\u0644\u0645",
        "\U0001f3ac \u0641\u064a\u0644\u0645. line\nbreak, tag",
        ["line\nbreak"],
        17,
    ),
    ("x" * 10_000, "x" * 10_000 + ". " + "y" * 10_000 + ". Root, " + "z" * 10_000, ["Root"], 16),
    ("", "", [], 0),
]


def corpus(
    logs: list[list[int]],
    feedback: dict[str, list[int]] | None = None,
    films: list[tuple[str, str, list[str], int]] = FILMS,
    **profile: list[str | None],
) -> Histories:
    """A corpus of users' items; everything but the feedback given is a click."""
    items = {
        "item": range(len(films)),
        "item_id": [f"id-{number}" for number in range(len(films))],
        **dict(zip(("title", "text", "categories", "train_count"), zip(*films, strict=True), strict=True)),
        "cold": [False] * len(films),
    }
    length = [len(log) for log in logs]
    item = np.array([number for log in logs for number in log], dtype=np.int64)
    users = {"user": range(len(logs)), "user_id": [f"name-{user}" for user in range(len(logs))]}
    fields = pa.schema([*USERS, *((name, pa.string()) for name in profile)])
    carried = {name: np.array(values, dtype=np.int8) for name, values in (feedback or {}).items()}
    return Histories(
        item=item,
        tie=np.arange(len(item)),
        offsets=np.concatenate([[0], np.cumsum(length)]),
        train_length=np.array(length),
        valid=np.full(len(logs), -1),
        test=np.full(len(logs), -1),
        feedback={"click": np.ones(len(item), dtype=np.int8), **carried},
        items=pa.table({name: pa.array(list(column), ITEMS.field(name).type) for name, column in items.items()}),
        users=pa.table({**users, **profile}).cast(fields),
    )


def renderer(histories: Histories, times: list[int] | None = None, tags: bool = True, days: int = 7) -> Renderer:
    titles, categories = (histories.items[name].to_pylist() for name in ("title", "categories"))
    names = unique_names(titles, categories).names
    known = np.full(len(histories.item), NO_TIME) if times is None else np.array(times, dtype=np.int64)
    lines, profiles = item_lines(histories.items, names, tags, tags), user_profiles(histories.users)
    text = Text(names, lines, profiles, known, np.empty((len(known), 0), dtype=np.int64))
    return Renderer.over(histories, text, days)


def day(*numbers: float) -> list[int]:
    return [int(number * DAY) for number in numbers]


def golden() -> str:
    """Prompts of a made-up corpus, one behind the other."""
    logs = [[2, 3, 1, 0, 4], [0, 6, 9], [number % 10 for number in range(30)], [1, 2]]
    like, rare = np.zeros(40, dtype=int), np.zeros(40, dtype=int)
    like[[0, 2, 3]], rare[[3, 5]] = 1, 1
    histories = corpus(
        logs,
        {"like": like.tolist(), "tail_click": rare.tolist(), "not_interested": [0, 0, 0, 0, 1, *[0] * 35]},
        age=["24", None, "7", ""],
        gender=["F", None, "x", "M"],
        favourite_sport=["chess\nand go", None, "\u2028", "z" * 100],
    )
    times = [*day(1, 2, 19, 20.5, 21), *[NO_TIME] * 3, *day(*range(30)), *day(5, 5)]
    rich, plain = renderer(histories, times), renderer(histories, times, tags=False)
    every, short = np.arange(10), np.array([1, 0, -1, -1])
    cases = {
        "profile, two windows, feedback, tags and statistics": rich.parts(0, 5, every, 10),
        "the same before its last interaction; one window; a short pool": rich.parts(0, 2, short, 2),
        "no profile, no timestamps, feedback of one interaction, items without a category": rich.parts(1, 3, short, 2),
        "no tags, no statistics": plain.parts(1, 1, every, 3),
        "a long history": rich.parts(2, 30, short, 2),
        "nothing yet": rich.parts(3, 0, every[:4], 4),
    }
    return "".join(f"##### {case}\n{parts.whole}" for case, parts in cases.items())


def test_golden_prompts() -> None:
    assert golden() == GOLDEN.read_text(encoding="utf-8")


# --- Items and users -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "text", "categories", "detail", "below"),
    [
        ("Heat", "Heat (1995). Action, Crime", ["Action", "Crime"], "1995", []),
        ("Heat (1995)", "Heat (1995). Action", ["Action"], "", []),  # the year is part of the title
        ("Polish", "Polish. Dr. Acme. Beauty, Makeup, Nails", ["Makeup"], "Dr. Acme", ["Nails"]),
        ("Polish", "Polish. Beauty, Makeup", ["Makeup"], "", []),
        ("Polish", "Polish. Acme", [], "Acme", []),
        ("A. B", "A. B. Beauty, Makeup", ["Makeup"], "", []),
        ("", "Acme. Beauty, Puffs, Sponges & Wedges, Small", ["Puffs, Sponges & Wedges"], "Acme", ["Small"]),
        ("", "", [], "", []),
    ],
)
def test_details(title: str, text: str, categories: list[str], detail: str, below: list[str]) -> None:
    assert details(title, text, categories) == (detail, below)


@pytest.mark.parametrize(
    ("name", "detail", "said"),
    [("ACME Comb", "Acme", True), ("Party Kit", "Art", False), ("A (c++) B", "C++", True)],
)
def test_what_the_name_says_is_not_said_again(name: str, detail: str, said: bool) -> None:
    assert says(name, detail) == said


def test_tags_are_few_and_the_finest_come_from_below() -> None:
    assert short_tags(["a", "b", "c", "d"], []) == ["a", "b", "c"]
    assert short_tags(["a", "a", " "], ["p", "q", "r"]) == ["a", "q", "r"]
    assert short_tags(["a", "b", "c"], ["p"]) == ["a", "b", "c"]
    assert short_tags([], []) == []


def test_popularity_by_quantile() -> None:
    """Ten items: 9 are less frequent than the first, 6 than the next, 2 than the three fours, none than the ones."""
    counts = np.array([9, 7, 7, 7, 4, 4, 4, 4, 1, 1])
    said = popularity_words(counts)
    assert said == ["very popular", "popular", "popular", "popular", "", "", "", "", "rarely chosen", "rarely chosen"]
    assert popularity_words(np.array([3])) == ["rarely chosen"]


def test_ids_are_never_shown() -> None:
    histories = corpus([[0, 1]], age=["7"])
    whole = renderer(histories).parts(0, 2, np.arange(10), 5).whole
    assert "id-" not in whole
    assert "name-" not in whole


def test_hostile_titles_stay_on_their_line() -> None:
    everything = list(range(len(FILMS)))
    parts = renderer(corpus([everything], note=["\x00\x1b[31m\u2029a\rb\x0bc"])).parts(0, len(FILMS), np.arange(10), 5)
    assert [line.count("\n") for line in parts.history] == [1] * len(FILMS)
    assert all(len(line.splitlines()) == 1 for line in parts.history)
    assert len(parts.head.splitlines()) == len(words.PROMPT.split("{history}")[0].splitlines())
    assert len(parts.tail.splitlines()) == 1 + len(FILMS) + 1
    assert max(map(len, parts.whole.splitlines())) < 80 + 3 * LONGEST + 40
    assert not set(parts.whole) & {"\x00", "\x1b", "\r", "\x0b", "\u2028", "\u2029"}


# --- Activity ------------------------------------------------------------------------------------------------------


def naive(histories: Histories, times: Any, start: int, end: int, days: int) -> str:
    """The activity line by loops."""
    windows = {"": range(start, end)}
    if end > start and times[end - 1] != NO_TIME:
        recent = end
        while recent > start and times[recent - 1] > times[end - 1] - days * DAY:
            recent -= 1
        windows = {f"last {days} days: ": range(recent, end), "before: ": range(start, recent)}
    told = []
    for when, rows in windows.items():
        categories = [list(dict.fromkeys(histories.items["categories"][histories.item[row]].as_py())) for row in rows]
        topics = Counter(topic for row in categories for topic in row or ["other"])
        liked = Counter(
            topic
            for row, own in zip(rows, categories, strict=True)
            for topic in own or ["other"]
            if histories.feedback["like"][row]
        )
        most = sorted(topics, key=lambda topic: (-topics[topic], topic))[:MOST_TOPICS]
        said = [f"{topic} {topics[topic]}" + (f" ({liked[topic]} liked)" if liked[topic] else "") for topic in most]
        if said:
            told.append(when + ", ".join(said))
    return "; ".join(told)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 100_000))
def test_activity_is_that_of_plain_loops(seed: int) -> None:
    generator = np.random.default_rng(seed)
    films = [("t", "", list("abcdefgh"[: generator.integers(0, 9)]), 1) for _ in range(4)]
    logs = [generator.integers(0, 4, generator.integers(1, 9)).tolist() for _ in range(3)]
    count = sum(map(len, logs))
    histories = corpus(logs, {"like": generator.integers(0, 2, count).tolist()}, films)
    times = generator.integers(0, 20, count) * DAY  # of no order, as where `position` gives it
    times[generator.random(count) < 0.2] = NO_TIME
    activity = Activity(histories, times, 7)
    for first, last in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
        for end in range(first, last + 1):
            assert activity.told(first, end) == naive(histories, times, first, end, 7)


def test_the_window_ends_at_its_days() -> None:
    activity = Activity(corpus([[2, 2, 2, 2]]), np.array([0, 1, 5, 7 * DAY]), 7)
    assert activity.told(0, 4) == "last 7 days: Comedy 3; before: Comedy 1"
    assert activity.told(0, 3) == "last 7 days: Comedy 3"
    assert activity.told(2, 2) == ""


# --- The future ----------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000))
def test_nothing_at_or_after_the_position_is_told(seed: int) -> None:
    generator = np.random.default_rng(seed)
    length, users = 6, 3
    logs = generator.integers(0, 10, (users, length)).tolist()
    flags = {name: generator.integers(0, 2, users * length).tolist() for name in ("like", "own_word")}
    histories, times = corpus(logs, flags), np.sort(generator.integers(0, 40 * DAY, users * length))
    user, position, pool = int(generator.integers(users)), int(generator.integers(length + 1)), np.array([3, 1])
    future = np.s_[user * length + position : (user + 1) * length]
    item, later = histories.item.copy(), times.copy()
    item[future] = generator.integers(0, 10, len(item[future]))
    later[future] = generator.choice([NO_TIME, 0, 99 * DAY], len(item[future]))
    feedback = {name: values.copy() for name, values in histories.feedback.items()}
    for values in feedback.values():
        values[future] = 1 - values[future]
    changed = replace(histories, item=item, feedback=feedback)
    told = renderer(histories, times.tolist()).parts(user, position, pool, 2)
    assert told == renderer(changed, later.tolist()).parts(user, position, pool, 2)
    assert len(told.history) == max(1, position)


if __name__ == "__main__":
    GOLDEN.write_text(golden(), encoding="utf-8")
