"""Items as the lines of a pool: name, what else describes them in a few words, how popular they are.

    Toy Story | 1995, Animation, Children's, Comedy | very popular
    Red Shatter Nail Polish E55 | OPI, Makeup, Nails, Nail Polish | popular

Year and brand are what an item's text holds beside its title and its categories. Ids, prices and descriptions are left
out; a word that the name holds is not said again.
"""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from stages.corpus.histories import Ints
from stages.rendering import templates as words
from stages.rendering.names import one_line

MOST_TAGS = 3
LONGEST = 40  # characters of a tag, a year or a brand


def item_lines(items: pa.Table, names: Sequence[str], tags: bool, statistics: bool) -> list[str]:
    """One line for each item of the corpus (schema.ITEMS). tags, statistics: whether they are shown at all."""
    popularity = popularity_words(items["train_count"].to_numpy()) if statistics else [""] * items.num_rows
    columns = (items[name].to_pylist() for name in ("title", "text", "categories"))
    lines = []
    for name, said, title, text, categories in zip(names, popularity, *columns, strict=True):
        detail, below = details(title, text, categories or [])
        known = [detail] if detail and not says(name, detail) else []
        known += short_tags(categories or [], below) if tags else []
        lines.append(
            words.POOL_LINE.format(
                name=name,
                tags=words.POOL_TAGS.format(categories=", ".join(known)) if known else "",
                statistics=words.POOL_STATISTICS.format(words=said) if said else "",
            )
        )
    return lines


def details(title: str, text: str, categories: Sequence[str]) -> tuple[str, list[str]]:
    """What else an item's text says: its year or brand, "" where there is none, and its categories below those given.

    The sources write `Title (1995). Genre, Genre` and `Title. Brand. Root, Level 2, Level 3`.
    """
    rest = text.removeprefix(title)
    year = re.match(r" \((\d{4})\)", rest)
    rest = rest[year.end() :] if year else rest
    before, _, last = rest.rpartition(". ")
    path, given = last.split(", "), {part for name in categories for part in name.split(", ")}
    finest = max((place for place, part in enumerate(path) if part in given), default=None)
    if finest is None:  # what stands last is no path
        before, below = rest, []
    else:
        below = path[finest + 1 :]
    return year[1] if year else shortened(before.removeprefix(". ")), below


def short_tags(categories: Sequence[str], below: Sequence[str]) -> list[str]:
    """The first categories and, where that leaves room, the last of those below them, which are the finest."""
    chosen = list(dict.fromkeys(filter(None, map(shortened, categories))))[:MOST_TAGS]
    finer = list(dict.fromkeys(filter(None, map(shortened, below))))
    return chosen + finer[max(0, len(finer) - (MOST_TAGS - len(chosen))) :]


def says(name: str, detail: str) -> bool:
    """Whether the name holds the detail, as words of its own; `Party Kit` does not hold `Art`."""
    return bool(re.search(rf"(?<!\w){re.escape(detail.casefold())}(?!\w)", name.casefold()))


def popularity_words(train_count: Ints) -> list[str]:
    """What templates.POPULARITY calls each item, by the share of items that are less frequent in training."""
    share = np.searchsorted(np.sort(train_count), train_count) / max(1, len(train_count))
    return [next(said for least, said in words.POPULARITY if own >= least) for own in share]


def shortened(text: str) -> str:
    """One line of at most LONGEST characters."""
    line = one_line(text)
    return line if len(line) <= LONGEST else line[:LONGEST].rstrip()
