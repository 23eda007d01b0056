"""One name per item: what a model writes to recommend it. Names are short, one line each, and no two are the same."""

import re
from collections import Counter
from typing import NamedTuple

SEPARATOR = "\n"  # between the items of a slate; no name holds one
LONGEST = 80  # characters of a name, before what tells it from its namesakes
UNTITLED = "untitled"


class Names(NamedTuple):
    """Names in the order of the items, and how many items needed what."""

    names: list[str]
    counts: dict[str, int]


def unique_names(titles: list[str], categories: list[list[str]]) -> Names:
    """Names from titles: white space and control characters made one blank, cut to LONGEST, told apart.

    Items of the same name get their last category behind it, `Casper [Comedy]`; where that is the same as well, a
    number, `Casper [Comedy] 2`. An item without a title is `untitled` and is told apart alike. Counts: items `empty`,
    `cleaned` (line breaks, other control characters, runs of blanks), `cut` and `told_apart`.
    """
    counts = dict.fromkeys(("empty", "cleaned", "cut", "told_apart"), 0)
    names = []
    for title in titles:
        name = one_line(title)
        counts["empty"] += not name
        counts["cleaned"] += bool(name) and name != title
        counts["cut"] += len(name) > LONGEST
        names.append(_cut(name) or UNTITLED)
    plain = list(names)
    for index in _namesakes(names):
        if categories[index]:
            names[index] = f"{names[index]} [{categories[index][-1]}]"
    taken = {name for name, count in Counter(names).items() if count == 1}
    for index in _namesakes(names):
        number, name = 1, names[index]
        while name in taken:
            number += 1
            name = f"{names[index]} {number}"
        taken.add(name)
        names[index] = name
    counts["told_apart"] = sum(before != after for before, after in zip(plain, names, strict=True))
    return Names(names, counts)


def one_line(text: str) -> str:
    """White space and control characters, the ends of lines for any reader among them, made one blank."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f\u0085\u2028\u2029]", " ", text).split())


def _cut(name: str) -> str:
    """At most LONGEST characters, cut behind a word where one ends in the second half."""
    if len(name) <= LONGEST:
        return name
    head = name[: LONGEST + 1]
    return head[: max(head.rfind(" "), 0)].rstrip() if head.rfind(" ") > LONGEST // 2 else name[:LONGEST].rstrip()


def _namesakes(names: list[str]) -> list[int]:
    """Items whose name another item has as well."""
    times = Counter(names)
    return [index for index, name in enumerate(names) if times[name] > 1]
