"""Amazon's files of 2014 in their raw formats, quirks included, from a real server to the corpus; and their faults."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages import download as download_stage
from stages import prepare
from stages.core import params
from stages.core.corpora import Corpus
from stages.core.errors import InputError
from stages.core.files import fresh_folder
from stages.corpus import amazon, fetching, transfer
from stages.corpus.cut import Cut, cut
from tests.file_server import Server, page, serving, status
from tests.file_server import cut as cut_off
from tests.small_corpus import corpus

ROOT = Path(__file__).parents[1]
REVIEWS, META = "reviews_Toys_and_Games_5.json.gz", "meta_Toys_and_Games.json.gz"
DAY = 86_400


def rules(**changes: Any) -> Corpus:
    own: dict[str, Any] = {"category": "Toys_and_Games", "hosts": [], "sha256": None}
    own |= {"text": ["title", "brand", "categories", "price", "description"]}
    own |= {key: changes.pop(key) for key in list(changes) if key in own}
    return corpus(source="amazon", amazon=own, **{"repeats": "first", "category_level": 2} | changes)


def review(user: str, item: str, day: int, rating: float = 5.0, **changes: Any) -> dict[str, Any]:
    """One line of the reviews file, with the keys and the order of the real ones; None leaves a key out."""
    found = {
        "reviewerID": user,
        "asin": item,
        "reviewerName": 'J. "Doe"',
        "helpful": [0, 2],
        "reviewText": "It's \u00e9 \\ \u2028 fine.\n" * 3,
        "overall": rating,
        "summary": "Five {stars}",
        "unixReviewTime": day * DAY,
        "reviewTime": "01 1, 1970",
    }
    return {key: value for key, value in (found | changes).items() if value is not None}


def published(*reviews: dict[str, Any] | str) -> bytes:
    return gzip.compress("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in reviews).encode(), mtime=0)


def meta(*products: dict[str, Any] | str) -> bytes:
    """Python literals, one per line, as str(dict) writes them: single quotes, double ones where an apostrophe is."""
    return gzip.compress("".join(f"{p}\n" for p in products).encode(), mtime=0)


LOG = [  # unsorted in time; u and v of five and four, w of one
    review("u", "B0002", 4, 3.0),
    review("u", "B0001", 1),
    review("v", "B0002", 2),
    review("u", "B0003", 5),
    review("v", "B0001", 3),
    review("u", "B0001", 1),  # the same review again
    review("u", "B0001", 9, 1.0),  # the same product again
    review("v", "B0003", 4, 2),
    review("u", "B0004", 6),
    review("v", "B0004", 5, None),
    review("w", "B0005", 1),  # below any k-core
    review("w", "B0001", 2, asin=None),
    review("", "B0001", 3),
]
PRODUCTS: list[dict[str, Any] | str] = [
    {
        "asin": "B0001",
        "related": {"also_bought": ["B0002", "B0009"]},
        "title": 'Barbie\'s "Dream"  House',
        "price": 12.5,
        "salesRank": {"Toys & Games": 5},
        "imUrl": "http://example.org/x.jpg",
        "brand": "Mattel",
        "categories": [["Toys & Games", "Dolls", "Houses"], ["Toys & Games", "Games"], ["Home", "Decor"]],
        "description": "A house.\n\tFor dolls.",
    },
    "{'asin': 'B0002', 'title': 'It\\'s a \\\"ball\\\" \\u2014 caf\\xe9', 'categories': [['Sports', 'Balls']]}",
    {"asin": "B0003", "categories": []},
    {"title": "no asin", "categories": [["Toys & Games", "None"]]},
    {"asin": "B0001", "title": "the second line of a product"},
    {"asin": "B0007", "title": "nobody has it"},
    "{'asin': 'B0008', this is no literal, and nobody asks for it",
]


def write(folder: Path, reviews: bytes = published(*LOG), products: bytes = meta(*PRODUCTS)) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / REVIEWS).write_bytes(reviews)
    (folder / META).write_bytes(products)
    return folder


def read(folder: Path, **changes: Any) -> Cut:
    return cut(amazon.read(folder, rules(**changes)), rules(**changes))


def check_quirks(found: Cut) -> None:
    (items,), (log,) = found.items(), found.interactions()
    assert items.select(["item_id", "title", "text", "categories"]).to_pylist() == [
        {
            "item_id": "B0002",
            "title": 'It\'s a "ball" \u2014 caf\u00e9',
            "text": 'It\'s a "ball" \u2014 caf\u00e9. Sports, Balls',
            "categories": ["Balls"],  # no path of the category's own
        },
        {
            "item_id": "B0001",
            "title": 'Barbie\'s "Dream" House',
            "text": (
                'Barbie\'s "Dream" House. Mattel. Toys & Games, Dolls, Houses; Toys & Games, Games; Home, Decor. '
                "$12.50. A house. For dolls."
            ),
            "categories": ["Dolls", "Games"],  # of the paths under Toys & Games
        },
        {"item_id": "B0003", "title": "", "text": "", "categories": []},
        {"item_id": "B0004", "title": "", "text": "", "categories": []},  # the metadata lacks it
    ]
    assert found.users().to_pydict() == {"user": [0, 1], "user_id": ["u", "v"]}
    assert log.select(["user", "item", "timestamp", "split", "like"]).to_pydict() == {
        "user": [0, 0, 0, 0, 1, 1, 1, 1],
        "item": [1, 0, 2, 3, 0, 1, 2, 3],
        "timestamp": [day * DAY for day in (1, 4, 5, 6, 2, 3, 4, 5)],
        "split": ["train", "train", "valid", "test"] * 2,
        "like": [1, 0, 1, 1, 1, 1, 0, 0],
    }
    assert {why: count for why, count in found.dropped.items() if count} == {
        "interactions: no asin or reviewer": 2,
        "interactions: an item that the user had before": 2,
        "interactions: below k_core": 1,
        "users: below k_core": 1,
        "items: below k_core": 1,
    }


LIKE = {"feedback": {"like": {"rule": "at_least", "column": "overall", "threshold": 4}}, "objectives": {"like": 1.0}}


def test_quirks(tmp_path: Path) -> None:
    check_quirks(read(write(tmp_path), k_core=2, **LIKE))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(fetching.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "WAIT", 0.001)
    monkeypatch.delenv(amazon.FOLDER, raising=False)
    with serving() as found:
        found.files = {REVIEWS: published(*LOG), META: meta(*PRODUCTS)}
        yield found


def download(into: Path, **changes: Any) -> dict[str, bytes]:
    with fresh_folder(into) as scratch:
        amazon.download(rules(**changes), scratch)
    return {path.name: path.read_bytes() for path in into.iterdir()}


def test_from_a_server_with_faults_to_the_corpus(server: Server, tmp_path: Path) -> None:
    server.script = [status(503), cut_off(100), cut_off(200), cut_off(30)]
    found = download(tmp_path / "raw", hosts=[server.url])
    assert {name: found[name] for name in (REVIEWS, META)} == server.files
    check_quirks(read(tmp_path / "raw", k_core=2, **LIKE))
    checked = subprocess.run(
        ["sha256sum", "--check", amazon.SUMS], cwd=tmp_path / "raw", capture_output=True, text=True
    )
    assert checked.stdout.splitlines() == [f"{REVIEWS}: OK", f"{META}: OK"]
    sums = dict(reversed(line.split()) for line in found[amazon.SUMS].decode().splitlines())
    assert download(tmp_path / "again", hosts=[server.url], sha256=sums) == found
    server.script = [page]
    server.files["reviews_Books_5.json.gz"] = server.files[REVIEWS]
    with pytest.raises(InputError, match="a web page came in the file's place"):
        download(tmp_path / "other", hosts=[server.url], category="Books")
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match=r"meta_Books\.json\.gz could not be fetched:\n.*HTTP 404"):
        download(tmp_path / "other", hosts=[server.url], category="Books")


def test_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write(tmp_path / "own")
    monkeypatch.setenv(amazon.FOLDER, str(own))
    by_environment = download(tmp_path / "raw")
    monkeypatch.setenv(amazon.FOLDER, str(tmp_path / "nowhere"))
    assert download(tmp_path / "second", path=str(own)) == by_environment
    check_quirks(read(tmp_path / "raw", k_core=2, **LIKE))
    with pytest.raises(InputError, match=f"nowhere: no {REVIEWS} there"):
        download(tmp_path / "third")
    (own / META).write_bytes((own / META).read_bytes()[:-5])
    with pytest.raises(InputError, match=f"{META}: damaged archive"):
        download(tmp_path / "third", path=str(own))
    with pytest.raises(InputError, match=r"sha256 is .*, expected 0000"):
        download(tmp_path / "third", path=str(own), sha256={REVIEWS: "0" * 64})
    assert not (tmp_path / "third").exists()


def test_published_counts() -> None:
    """Asserted for the set as published, for no other cut of it and no other category."""
    assert amazon.published(rules(k_core=5)) == {"users": 19_412, "items": 11_924, "interactions": 167_597}
    assert amazon.published(rules(k_core=4)) == {}
    assert amazon.published(rules(k_core=5, max_history=50)) == {}
    assert amazon.published(rules(k_core=5, category="Books")) == {}


def test_the_stages_hold_a_set_to_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a dry run, which reads the user's folder; under a name that papers give no counts of, the set is made."""
    own = write(tmp_path / "own", published(*(review(f"u{u}", f"B{i}", i) for u in range(5) for i in range(5))))
    monkeypatch.chdir(tmp_path)
    chosen = rules(k_core=5, path=str(own))
    monkeypatch.setattr(params, "load", lambda: SimpleNamespace(corpus=lambda dataset: chosen))
    monkeypatch.setattr(prepare, "provenance", lambda *cell: [])  # there is no graph here
    download_stage.main("toys")
    for check in (True, False):
        with pytest.raises(InputError) as caught:
            prepare.main("toys", check=check)
        assert (
            "the published set has 19,412 users, 11,924 items, 167,597 interactions; found 5 users, -19,407; 5 items, "
            in str(caught.value)
        )
        assert str(caught.value).startswith(f"{own if check else Path('data/toys/raw')}: the published set")
        assert not Path("data/toys/corpus").exists()
    (own / META).rename(own / "else")
    with pytest.raises(InputError, match=f"own: no {META} there"):
        prepare.main("toys", check=True)
    (own / "else").rename(own / META)
    for name in (REVIEWS, META):
        (own / name).rename(own / name.replace("Toys_and_Games", "Books"))
    chosen = rules(k_core=5, path=str(own), category="Books")
    download_stage.main("toys")
    prepare.main("toys")
    assert json.loads(Path("metrics/toys/prepare.json").read_text())["interactions"] == 25


def test_price_and_description_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    found = read(write(tmp_path), k_core=2, text=["brand", "title"])
    (items,) = found.items()
    assert items["text"].to_pylist()[1] == 'Mattel. Barbie\'s "Dream" House'


def test_odd_products(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Half a surrogate pair, a price beyond numbers, a root with commas, which names of files lack."""
    products = (
        "{'asin': 'B0001', 'title': 'a\\ud800b', 'price': 1e999}",
        {"asin": "B0002", "categories": [["Clothing, Shoes & Jewelry", "Women"], ["Sports", "Run"]]},
        {"asin": "B0003", "categories": [["Sports", "Run"]]},
    )
    raw = tmp_path / "raw"
    raw.mkdir()
    own = rules(category="Clothing_Shoes_and_Jewelry", category_level=None)
    reviews, products_ = amazon.files(own.amazon)
    (raw / reviews).write_bytes(published(*(review("u", f"B000{number}", number) for number in (1, 2, 3))))
    (raw / products_).write_bytes(meta(*products))
    with caplog.at_level("INFO", "stages"):
        (items,) = cut(amazon.read(raw, own), own).items()
    assert items["text"].to_pylist()[0] == "a?b"
    assert items["categories"].to_pylist() == [[], ["Clothing, Shoes & Jewelry", "Women"], ["Sports", "Run"]]
    assert "1 items have no category under 'Clothing Shoes & Jewelry'; theirs are all kept" in caplog.text


GOOD = review("u", "B0001", 1)
FAULTS: dict[str, tuple[bytes, bytes, str]] = {
    "no json": (published(GOOD, "{'asin': 'B0001'}"), meta(), f"{REVIEWS}: no review: 1 row(s), first 1 (Expecting"),
    "cut line": (published(GOOD, json.dumps(GOOD)[:50]), meta(), f"{REVIEWS}: no review: 1 row(s), first 1 ("),
    "no object": (published("[1, 2]", GOOD), meta(), f"{REVIEWS}: no review: 1 row(s), first 0 (no object)"),
    "no time": (
        published(GOOD, review("u", "B0002", 1, unixReviewTime=None)),
        meta(),
        "first 1 (unixReviewTime has to",
    ),
    "time in words": (published(review("u", "B0002", 1, unixReviewTime="1")), meta(), "first 0 (unixReviewTime has to"),
    "rating in words": (
        published(GOOD, GOOD | {"overall": "five"}),
        meta(),
        "first 1 (unixReviewTime has to be a whole",
    ),
    "time of more than 64 bits": (
        published(review("u", "B0002", 10**30)),
        meta(),
        "unixReviewTime has more than 64 bits",
    ),
    "rating without end": (
        published(GOOD | {"overall": 10**400}),
        meta(),
        f"{REVIEWS}: no review: 1 row(s), first 0 (",
    ),
    "half a character": (
        published(review("u\ud800", "B0001", 1)),
        meta(),
        f"{REVIEWS}: no review: 1 row(s), first 0 (",
    ),
    "no list": (published(GOOD), meta({"asin": "B0001", "categories": 5}), "first 0 (categories has to be a list"),
    "price of words": (published(GOOD), meta({"asin": "B0001", "price": 10**400}), f"{META}: no product: 1 row(s)"),
    "no text": (gzip.compress(b'{"asin": "\xff"}\n'), meta(), f"{REVIEWS}: no review: 1 row(s), first 0 ("),
    "nested without end": (published("[" * 100_000), meta(), f"{REVIEWS}: no review: 1 row(s), first 0 ("),
    "nothing": (published(), meta(), f"{REVIEWS}: holds no rows"),
    "nobody": (published(review("", "B0001", 1)), meta(), f"{REVIEWS}: holds no rows"),
    "cut file": (published(*LOG)[:-20], meta(), f"{REVIEWS}: damaged gzip file"),
    "no gzip": (b"<html>", meta(), f"{REVIEWS}: damaged gzip file"),
    "json is no literal": (
        published(GOOD),
        meta('{"asin": "B0001", "price": null}'),
        f"{META}: no product: 1 row(s), first 0",
    ),
    "code is no literal": (
        published(GOOD),
        meta({}, "{'asin': 'B0001', 'x': open('y')}"),
        f"{META}: no product: 1 row(s), first 1",
    ),
    "a list as a key": (
        published(GOOD),
        meta({}, "{'asin': 'B0001', ['x']: 1}"),
        f"{META}: no product: 1 row(s), first 1 (",
    ),
    "a list in a set": (
        published(GOOD),
        meta("{'asin': 'B0001', 'x': {['y']}}"),
        f"{META}: no product: 1 row(s), first 0 (",
    ),
    "cut literal": (published(GOOD), meta("{'asin': 'B0001', 'title': 'x"), f"{META}: no product: 1 row(s), first 0 ("),
    "cut metadata": (published(GOOD), meta(*PRODUCTS)[:-20], f"{META}: damaged gzip file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, tmp_path: Path) -> None:
    reviews, products, message = FAULTS[name]
    with pytest.raises(InputError) as caught:
        list(read(write(tmp_path, reviews, products)).items())
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon, "LONGEST", 1_000)
    write(tmp_path, published(GOOD, '{"asin": "' + "x" * 2_000))
    with pytest.raises(InputError, match=f"{REVIEWS}: row 1 has more than 1,000 bytes"):
        read(tmp_path)


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    for size in (1, 3, 1 << 16):
        monkeypatch.setattr(amazon, "BATCH", size)
        check_quirks(read(tmp_path, k_core=2, **LIKE))


MEASURE = """
import resource, sys
from pathlib import Path
from stages.corpus import amazon
from tests.test_amazon import rules
raw = amazon.read(Path(sys.argv[1]), rules())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(batch.num_rows for batch in raw.batches)
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_reviews_are_a_stream(tmp_path: Path) -> None:
    """Of 12 MB and of 60 MB of review text, no more is in memory than a batch's ids: the same for both."""
    grown = []
    for count in (3_000, 15_000):
        write(
            tmp_path, published(*(review(f"u{n % 99}", f"B{n % 77}", n, reviewText="x" * 4_000) for n in range(count)))
        )
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        rows, kibibytes = map(int, done.stdout.split())
        assert rows == count
        grown.append(kibibytes)
    assert grown[1] - grown[0] < 10_000
