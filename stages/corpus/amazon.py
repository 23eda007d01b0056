"""Amazon Product Reviews 2014: a category's 5-core reviews and its products' metadata, as published.

reviews_<Category>_5.json.gz holds one JSON object per line (reviewerID, asin, overall, unixReviewTime, ..),
meta_<Category>.json.gz one Python literal per line (asin, title, brand, price, description, categories; any of them may
be missing). Both are read as streams, a line at a time: review texts and products that nobody reviewed take no memory.
McAuley, Targett, Shi and van den Hengel, SIGIR 2015; terms in docs/data.md.

The files come from a host, or from a folder: corpora.<name>.path, or else AMAZON_2014_DIR.
"""

import ast
import gzip
import itertools
import json
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.core.corpora import Amazon, Corpus
from stages.core.errors import InputError
from stages.core.stage import log, progress
from stages.corpus import fetching
from stages.corpus.faults import Faults
from stages.corpus.raw_log import ITEM, ROW, RawLog

FOLDER = "AMAZON_2014_DIR"
SUMS = "SHA256SUMS"  # as `sha256sum --check` reads it
BATCH = 1 << 16  # reviews
LONGEST = 1 << 24  # bytes of a line
PUBLISHED = {
    "Beauty": {"users": 22_363, "items": 12_101, "interactions": 198_502},
    "Sports_and_Outdoors": {"users": 35_598, "items": 18_357, "interactions": 296_337},
    "Toys_and_Games": {"users": 19_412, "items": 11_924, "interactions": 167_597},
}
ASIN = re.compile(r"""['"]asin['"]: *['"]([^'"]*)['"]""")
DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error)
BAD_LINE = (  # Unicode and JSON: ValueErrors; a literal with a list as a key: TypeError
    ValueError,
    TypeError,
    SyntaxError,
    RecursionError,
    MemoryError,
    OverflowError,
)


def files(amazon: Amazon) -> tuple[str, str]:
    """Names of a category's reviews and metadata."""
    return f"reviews_{amazon.category}_5.json.gz", f"meta_{amazon.category}.json.gz"


@contextmanager
def own_files(settings: Corpus) -> Iterator[Path | None]:
    """The user's folder with the two files, if one is named."""
    assert settings.amazon is not None, "params.yaml is checked"
    folder = _own_folder(settings)
    for name in files(settings.amazon) if folder else ():
        fetching.demand(name, folder)
    yield folder


def _own_folder(settings: Corpus) -> Path | None:
    named = settings.path or os.environ.get(FOLDER)
    return Path(named) if named else None


def download(settings: Corpus, into: Path) -> None:
    """Bring the two files and their hashes: from the user's folder if one is named, otherwise from the hosts."""
    assert settings.amazon is not None, "params.yaml is checked"
    folder, sums = _own_folder(settings), []
    for name in files(settings.amazon):
        pinned = (settings.amazon.sha256 or {}).get(name)
        if folder is not None:
            found = fetching.take(name, folder, pinned, into)
        else:
            found = fetching.fetch(name, settings.amazon.hosts, pinned, into)
        sums.append(f"{found}  {name}\n")
    (into / SUMS).write_text("".join(sums))


def published(settings: Corpus) -> dict[str, int]:
    """The counts of the prepared set as papers give them; none of a category, or a cut, that they do not give."""
    assert settings.amazon is not None, "params.yaml is checked"
    as_published = settings.k_core == 5 and settings.max_history is None
    return PUBLISHED.get(settings.amazon.category, {}) if as_published else {}


def read(raw: Path, settings: Corpus) -> RawLog:
    """Open the reviews; products are described from the metadata. A line that is no review is a fault; reviews and
    products without an asin are left out, and the former counted.
    """
    assert settings.amazon is not None, "params.yaml is checked"
    reviews, meta = files(settings.amazon)
    for name in (reviews, meta):
        if not (raw / name).is_file():
            raise InputError(f"{raw / name}: no such file; run the download stage")
    faults, dropped, text = Faults(raw), {"interactions: no asin or reviewer": 0}, list(settings.amazon.text)
    root = settings.amazon.category.replace("_and_", " & ").replace("_", " ")  # less commas, see `_described`
    return RawLog(
        batches=_reviews(raw / reviews, faults, dropped),
        item_ids=None,
        users=None,
        describe=lambda rows, ids: _products(raw / meta, ids.to_pylist(), text, root, faults),
        columns=("overall",),
        faults=faults,
        dropped=dropped,
        names=(reviews, meta, reviews),
    )


def _reviews(path: Path, faults: Faults, dropped: dict[str, int]) -> Iterator[pa.Table]:
    """The log, in batches; ROW is the line, from 0."""
    batch: list[tuple[int, str, str, int, float | None]] = []
    for row, line in _lines(path):
        try:
            user, item, time, rating = _review(line)
        except BAD_LINE as error:
            faults.count(f"{path.name}: no review", 1, [(row, f" ({error})")])
            continue
        if user is None or item is None:
            dropped["interactions: no asin or reviewer"] += 1
            continue
        batch.append((row, user, item, time, rating))
        if len(batch) == BATCH:
            yield _table(batch)
            batch = []
    if batch:
        yield _table(batch)


def _review(line: bytes) -> tuple[str | None, str | None, int, float | None]:
    """Reviewer, product, time and rating; what is empty or no string is no reviewer and no product."""
    review = json.loads(line)
    if not isinstance(review, dict):
        raise ValueError("no object")
    time, rating = review.get("unixReviewTime"), review.get("overall")
    if not (isinstance(time, int) and isinstance(rating, float | int | None)) or isinstance(time, bool):
        raise ValueError("unixReviewTime has to be a whole number, overall a number")
    if abs(time) >= 1 << 63:
        raise ValueError("unixReviewTime has more than 64 bits")
    ids = [found if isinstance(found, str) and found else None for found in map(review.get, ("reviewerID", "asin"))]
    for each in ids:
        (each or "").encode()  # fails for half of a surrogate pair, which JSON can hold
    return ids[0], ids[1], time, None if rating is None else float(rating)


def _table(batch: list[tuple[int, str, str, int, float | None]]) -> pa.Table:
    kinds = {
        ROW: pa.int64(),
        "user_id": pa.string(),
        "item_id": pa.string(),
        "timestamp": pa.int64(),
        "overall": pa.float64(),
    }
    columns = zip(*batch, strict=True)
    return pa.table({name: pa.array(column, kinds[name]) for name, column in zip(kinds, columns, strict=True)})


def _products(path: Path, ids: list[str], text: list[str], root: str, faults: Faults) -> Iterator[pa.Table]:
    """What the metadata says of the products `ids`; nothing of those that it lacks. Of two lines, the first counts."""
    place = {asin: row for row, asin in enumerate(ids)}
    told: dict[int, dict[str, Any]] = {}
    for number, line in progress(_lines(path), f"lines of {path.name}"):
        words = line.decode("utf-8", errors="replace")
        if not any(asin in place for asin in ASIN.findall(words)):  # reading a literal takes 50 times as long
            continue
        try:
            product = _literal(words)
            row = place.get(product["asin"]) if isinstance(product.get("asin"), str) else None
            if row is not None and row not in told:
                told[row] = _described(product, text, root)
        except BAD_LINE as error:
            faults.count(f"{path.name}: no product", 1, [(number, f" ({' '.join(str(error).split())[:100]})")])
    faults.check()
    elsewhere = sum(bool(each["categories"]) and not _is_under(each["categories"][0], root) for each in told.values())
    if elsewhere:
        log.info("%s: %s items have no category under '%s'; theirs are all kept", path.name, f"{elsewhere:,}", root)
    nothing = {"title": "", "text": "", "categories": []}
    for start in range(0, len(ids), BATCH):
        rows = [told.get(row, nothing) for row in range(start, min(start + BATCH, len(ids)))]
        yield pa.Table.from_pylist(rows, ITEM)


def _literal(words: str) -> dict[str, Any]:
    """The dictionary that a line holds; only literals are read, nothing is run."""
    found = ast.literal_eval(words)
    if not isinstance(found, dict):
        raise ValueError("no dictionary")
    return found


def _described(product: dict[str, Any], text: list[str], root: str) -> dict[str, Any]:
    """Title, text and category paths: those under the category's own root, or all where none is."""
    given = product.get("categories") or []
    if not isinstance(given, list | tuple):
        raise ValueError("categories has to be a list of paths")
    paths = [[_clean(entry) for entry in path] for path in given if isinstance(path, list | tuple) and path]
    own = [path for path in paths if _is_under(path, root)] or paths
    price = product.get("price")
    parts = {
        "title": _clean(product.get("title")),
        "brand": _clean(product.get("brand")),
        "categories": "; ".join(", ".join(entry for entry in path if entry) for path in paths),
        "price": f"${price:.2f}" if isinstance(price, int | float) and math.isfinite(price) else "",
        "description": _clean(product.get("description")),
    }
    return {"title": parts["title"], "text": ". ".join(parts[key] for key in text if parts[key]), "categories": own}


def _is_under(path: list[str], root: str) -> bool:
    """Whether a path has the category's root. Names of files have no commas: `Clothing, Shoes & Jewelry`."""
    return path[0].replace(",", "") == root


def _clean(value: object) -> str:
    """Single spaces, and `?` for half of a surrogate pair."""
    return " ".join(str(value if value is not None else "").encode(errors="replace").decode().split())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a gzip file with their numbers, less empty ones; none of them is too long to be one."""
    try:
        with gzip.open(path) as file:
            for number in itertools.count():
                line = file.readline(LONGEST)
                if len(line) == LONGEST:
                    raise InputError(f"{path}: row {number} has more than {LONGEST:,} bytes; fetch the file again")
                if not line:
                    return
                if line.strip():
                    yield number, line
    except DAMAGE as error:
        raise InputError(f"{path}: damaged gzip file ({error}); fetch it again") from error
