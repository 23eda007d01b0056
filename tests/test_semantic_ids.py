"""Residual k-means, one id per item, the report's numbers, and the action space that reads the table."""

from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from stages.action_spaces.semantic_id import Actions
from stages.core import params
from stages.core.errors import InputError
from stages.core.files import write_table
from stages.core.spelling_sections import SemanticId
from stages.semantic_ids import balanced, collisions, report, rkmeans, rqvae
from stages.semantic_ids.quantised import Floats, Ints, Quantised, codeword_sum, fewest_levels, squared_distance
from stages.semantic_ids.table import code_columns, id_table

ROOT = Path(__file__).parents[1]
ONE_PREFIX = pytest.mark.filterwarnings("ignore:Number of distinct clusters")


def vectors(seed: int, count: int = 40, width: int = 6) -> np.ndarray:
    """Unit vectors around a few centres, so that codes collide."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(4, width))
    raw = centres[generator.integers(4, size=count)] + 0.3 * generator.normal(size=(count, width))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def settings(size: int, seed: int = 1, **values: Any) -> SemanticId:
    shipped = params.load(ROOT / "params.yaml").semantic_id
    return shipped.model_copy(update={"codebook_size": size, "seed": seed, **values})


def residual_kmeans(points: Floats, levels: int, size: int, seed: int) -> tuple[Ints, list[Floats]]:
    found = rkmeans.quantise(points, levels, settings(size, seed))
    return found.codes, found.codebooks


def quantised(codes: Ints, points: Floats, books: list[Floats]) -> Quantised:
    return Quantised(codes, points, books, lambda own: codeword_sum(own, books))


def reassign(codes: Ints, points: Floats, books: list[Floats]) -> Ints:
    return collisions.reassign(quantised(codes, points, books))


def error(codes: Ints, points: Floats, books: list[Floats]) -> float:
    return report.reconstruction_error(codeword_sum(codes, books), points)


def distinct(codes: np.ndarray) -> int:
    return len(np.unique(codes, axis=0))


# ------------------------------------------------------------------------------------------------- quantiser


def test_residual_kmeans_is_deterministic():
    found = [residual_kmeans(vectors(0), 3, 4, seed) for seed in (1, 1, 2)]
    assert np.array_equal(found[0][0], found[1][0])
    assert all(np.array_equal(*pair) for pair in zip(found[0][1], found[1][1], strict=True))
    assert not np.array_equal(found[0][0], found[2][0])


def test_every_level_takes_the_error_down():
    points = vectors(1)
    before = points.copy()
    codes, books = residual_kmeans(points, 3, 4, 0)
    assert np.array_equal(points, before)  # the argument is left alone
    assert codes.shape == (40, 3)
    assert [book.shape for book in books] == [(4, 6)] * 3
    errors = [error(codes[:, :level], points, books[:level]) for level in (1, 2, 3)]
    assert 1 > errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize(
    ("items", "size", "levels"), [(1682, 64, 2), (2048, 64, 2), (2049, 64, 3), (12101, 64, 3), (2, 4, 1)]
)
def test_fewest_levels(items, size, levels):
    """64 ** 2 = 4096 is two ids for each of 2,048 items."""
    assert fewest_levels(items, size) == levels


def test_a_catalogue_smaller_than_the_codebook():
    with pytest.raises(InputError, match="3 items are fewer than 4 codes"):
        residual_kmeans(vectors(0, count=3), 2, 4, 1)


def test_no_number_of_levels_is_enough():
    with pytest.raises(InputError, match="17 items need more than 5 levels of 2 codes"):
        fewest_levels(17, 2)


def test_two_levels_by_hand():
    """Points 0, 1, 10, 11: centres .5 and 10.5, then residuals -.5, .5, -.5, .5: nothing is left over."""
    points = column(0, 1, 10, 11)
    codes, books = residual_kmeans(points, 2, 2, 0)
    assert sorted(books[0].ravel().tolist()) == pytest.approx([0.5, 10.5])
    assert sorted(books[1].ravel().tolist()) == pytest.approx([-0.5, 0.5])
    assert distinct(codes) == 4
    assert error(codes, points, books) == pytest.approx(0, abs=1e-9)


# ------------------------------------------------------------------------------------------------ collisions


@pytest.mark.parametrize("seed", range(6))
def test_every_item_gets_an_id_of_its_own(seed):
    """40 items, 2 levels of 8 codes: prefixes without collision, and with room, keep their codes."""
    points = vectors(seed)
    codes, books = residual_kmeans(points, 2, 8, seed)
    before = codes.copy()
    assert distinct(codes) < len(codes)
    found = reassign(codes, points, books)
    assert np.array_equal(codes, before)
    assert distinct(found) == len(found)
    assert found.min() >= 0
    assert found.max() < 8
    sizes = np.bincount(codes[:, 0], minlength=8)
    if sizes.max() <= 8:
        assert np.array_equal(found[:, 0], codes[:, 0])
    whole = [p for p in range(8) if distinct(codes[codes[:, 0] == p]) == sizes[p]]
    kept = np.isin(codes[:, 0], whole)
    assert np.array_equal(found[kept], codes[kept])


def test_the_least_total_distance():
    """Against all assignments of 4 items of one prefix to 5 last codes."""
    generator = np.random.default_rng(3)
    points = generator.normal(size=(4, 2)).astype(np.float32)
    books = [np.zeros((1, 2), np.float32), generator.normal(size=(5, 2)).astype(np.float32)]
    found = reassign(np.zeros((4, 2), np.int64), points, books)
    cost = ((points[:, None] - books[1]) ** 2).sum(-1)
    best = min(permutations(range(5), 4), key=lambda chosen: cost[range(4), list(chosen)].sum())
    assert found[:, 1].tolist() == list(best)


def test_the_nearer_item_keeps_a_shared_code():
    """Items 0 and .4 share codeword 0 of 0, 1, 9: 0 stays and .4 takes 1 (.36; the other way round 1 + .16)."""
    found = reassign(np.array([[0, 0], [0, 0]]), column(0.4, 0), [column(0), column(0, 1, 9)])
    assert found.tolist() == [[0, 1], [0, 0]]


@ONE_PREFIX
def test_equal_vectors():
    """9 equal vectors fill 2 levels of 3 codes; 10 do not fit. The message says which codes and what to raise."""
    points = np.ones((10, 4), dtype=np.float32)
    codes, books = residual_kmeans(points[:9], 2, 3, 0)
    assert distinct(codes) == 1
    assert distinct(reassign(codes, points[:9], books)) == 9
    codes, books = residual_kmeans(points, 2, 3, 0)
    with pytest.raises(InputError, match=r"10 items .*raise semantic_id.codebook_size or levels"):
        reassign(codes, points, books)


def test_equal_vectors_under_every_rule():
    points = np.ones((9, 4), dtype=np.float32)
    found = rkmeans.quantise(points, 2, settings(3))
    for rule in collisions.RULES.values():
        assert distinct(rule(found)) == 9


def test_an_item_that_moves_takes_the_nearest_last_code_there():
    """Prefix 0 has two last codes for 0, .1 and 3.9, which moves to prefix 5, where -1.1 is left of it: code 0, -1."""
    found = quantised(np.array([[0, 0], [0, 1], [0, 1]]), column(0, 0.1, 3.9), [column(0, 5), column(-1, 1)])
    assert collisions.reassign(found).tolist() == [[0, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize("tokenizer", [rkmeans, balanced, rqvae])
def test_more_codes_than_items(tokenizer):
    with pytest.raises(InputError, match=r"3 items are fewer than 4 codes; lower semantic_id\.codebook_size"):
        tokenizer.quantise(vectors(0, count=3), 1, settings(4))


def test_one_level():
    """Three items, three codes 0, 1, 2: all near 0, so they spread; a fourth does not fit."""
    books = [column(0, 1, 2)]
    found = reassign(np.zeros((3, 1), np.int64), column(0.0, 0.1, 0.2), books)
    assert found.tolist() == [[0], [1], [2]]
    with pytest.raises(InputError, match="4 items do not fit 3 codes"):
        reassign(np.zeros((4, 1), np.int64), column(0, 0, 0, 0), books)


def test_first_code_that_is_too_full():
    """Three levels, 2 x 2 codes behind each first code: 5 items of first code 1 do not fit, whatever room 0 has."""
    codes = np.array([[0, 0, 0]] + [[1, 0, 0]] * 5)
    books = [column(0, 5), column(0, 1), column(0, 0.1)]
    with pytest.raises(InputError, match=r"5 items share the code \[1\]"):
        reassign(codes, column(0, 5, 5, 5, 5, 5), books)


def test_a_prefix_with_more_items_than_codes():
    """4 items near 0, last codes 0 and .1, prefixes 0, 1, 7: two stay, two go to the nearest prefix, 1."""
    found = reassign(np.zeros((4, 2), np.int64), column(0, 0, 0.1, 0.1), [column(0, 1, 7), column(0, 0.1)])
    assert distinct(found) == 4
    assert sorted(found[:, 0].tolist()) == [0, 0, 1, 1]


def test_the_farthest_item_leaves_a_full_prefix():
    """Codewords 1 and 3, one last code: items 1 and -4 share prefix 0 at squared distances 0 and 25, so -4 goes; the
    items' own lengths are no part of it. Mirrored: codewords 1 and -3, items 1 and 6."""
    for far, other in ((-4, 3), (6, -3)):
        found = reassign(np.zeros((2, 2), np.int64), column(1, far), [column(1, other), column(0)])
        assert found.tolist() == [[0, 0], [1, 0]]


def test_an_overflow_displaces_nobody():
    """Prefixes 11, 10, 6 with 2 last codes: 3 items at 11, two without collision at 10.

    The third of 11 is nearest to 10, which is full with its own two; so it goes to 6, and those two keep their codes.
    """
    codes = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [1, 1]])
    points = column(11, 11, 10.99, 9.7, 9.6)
    found = reassign(codes, points, [column(11, 10, 6), column(-0.3, -0.4)])
    assert distinct(found) == 5
    assert found[3:].tolist() == [[1, 0], [1, 1]]
    assert sorted(found[:3, 0].tolist()) == [0, 0, 2]


# ---------------------------------------------------------------------------------------------------- report


def test_report_by_hand():
    """Ids 00, 00, 01, 11 of 4 codes: 2 of 4 items collide; both levels use 2 of 4 codes.

    Level 0: shares .75, .25, H = .811278 bits, 2^H = 1.754765. Level 1: halves, 2.
    """
    codes = np.array([[0, 0], [0, 0], [0, 1], [1, 1]])
    assert report.collision_rate(codes) == 0.5
    assert report.usage(codes, [4, 4]) == [0.5, 0.5]
    assert report.perplexity(codes) == pytest.approx([1.754765, 2], abs=1e-6)


def test_collision_rate_at_its_ends():
    assert report.collision_rate(np.array([[0, 1], [1, 0], [1, 1]])) == 0
    assert report.collision_rate(np.zeros((3, 2), dtype=np.int64)) == 1


def test_perplexity_leaves_out_codes_without_items():
    assert report.perplexity(np.array([[0], [3]])) == pytest.approx([2])


def test_reconstruction_error_by_hand():
    """Items 0, 2, 4, 6, codewords 1 and 5: error 4 x 1 of 9 + 1 + 1 + 9 = 20; with -1 and 1 behind, nothing is left."""
    points, books = column(0, 2, 4, 6), [column(1, 5), column(-1, 1)]
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert error(codes[:, :1], points, books[:1]) == pytest.approx(0.2)
    assert error(codes, points, books) == 0


def test_balanced_assignment_by_hand():
    """Items at 0, 1, 2, 9 and centres at 0 and 10: 0, 1 and 2 ask for the first, which keeps the nearer two.

    With five items the first centre has room for three.
    """
    centres = column(0, 10)
    assert balanced.assign(squared_distance(column(0, 1, 2, 9), centres)).tolist() == [0, 0, 1, 1]
    assert balanced.assign(squared_distance(column(0, 1, 2, 9, 8), centres)).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(("count", "size"), [(40, 8), (41, 8), (5, 5), (7, 1)])
def test_balanced_assignment_is_even_and_stable(count, size):
    """No item and cluster are both nearer to each other than to what they have."""
    distance = np.random.default_rng(count).random((count, size)).astype(np.float32)
    label = balanced.assign(distance)
    assert np.bincount(label, minlength=size).tolist() == [-(-(count - own) // size) for own in range(size)]
    mine = distance[np.arange(count), label]
    farthest = np.array([mine[label == own].max() for own in range(size)])
    assert not ((distance < mine[:, None]) & (distance < farthest)).any()


@pytest.mark.parametrize("tokenizer", [rkmeans, balanced, rqvae])
def test_a_tokenizer_repeats_itself_and_rebuilds_the_better_the_more_levels(tokenizer):
    points = vectors(3, count=60)
    own = settings(4, rqvae=settings(4).rqvae.model_copy(update={"hidden": [16], "latent": 4, "epochs": 100}))
    errors = []
    for levels in (1, 3):
        found, again = (tokenizer.quantise(points, levels, own) for _ in range(2))
        assert np.array_equal(found.codes, again.codes)
        assert found.codes.shape == (60, levels)
        assert [len(book) for book in found.codebooks] == [4] * levels
        errors.append(report.reconstruction_error(found.decode(found.codes), points))
        assert codeword_sum(found.codes, found.codebooks).shape == found.points.shape
    assert 1 > errors[0] > errors[1]
    assert report.usage(found.codes, [4] * 3) == [1.0] * 3


def test_rqvae_takes_the_nearest_codeword_of_each_level():
    found = rqvae.quantise(vectors(4), 2, settings(4, rqvae=settings(4).rqvae.model_copy(update={"epochs": 3})))
    first = squared_distance(found.points, found.codebooks[0]).argmin(1)
    second = squared_distance(found.points - found.codebooks[0][first], found.codebooks[1]).argmin(1)
    assert np.array_equal(found.codes, np.column_stack([first, second]))


def test_suffix_by_hand():
    """Ids 0, 1, 0, 0: the three items of id 0 are numbered."""
    found = quantised(np.array([[0], [1], [0], [0]]), column(0, 1, 0, 0), [column(0, 1)])
    assert collisions.suffix(found).tolist() == [[0, 0], [1, 0], [0, 1], [0, 2]]


def test_sinkhorn_spreads_the_last_level():
    """40 items near last code 0, two a prefix: by distance one of each two keeps it, an even plan gives it to ten."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(40, 2)).astype(np.float32) * 0.1
    prefix = np.repeat(np.arange(20), 2)
    books = [np.zeros((20, 2), np.float32), np.array([[0.0, 0], [1, 0], [0, 1], [-1, 0]], np.float32)]
    shared = quantised(np.column_stack([prefix, np.zeros(40, np.int64)]), points, books)
    assert np.bincount(collisions.reassign(shared)[:, 1])[0] == 20
    found = collisions.sinkhorn(shared)
    assert np.abs(np.bincount(found[:, 1]) - 10).max() <= 2
    assert np.array_equal(found[:, 0], prefix)
    assert distinct(found) == 40


def test_a_prefix_without_collision_keeps_its_codes():
    """Items 0 and 1 have different last codes, if not the nearest ones: `balanced` put them there."""
    points, books = column(0, 1, 0, 1), [column(0, 0), column(0, 1, 2)]
    found = quantised(np.array([[0, 1], [0, 2], [1, 1], [1, 1]]), points, books)
    assert collisions.reassign(found).tolist() == [[0, 1], [0, 2], [1, 0], [1, 1]]


@pytest.mark.parametrize("rule", collisions.RULES)
@pytest.mark.parametrize("tokenizer", [rkmeans, balanced, rqvae])
def test_every_rule_gives_every_item_an_id_of_its_own(tokenizer, rule):
    points = vectors(5, count=50)
    own = settings(8, rqvae=settings(8).rqvae.model_copy(update={"hidden": [16], "latent": 4, "epochs": 5}))
    codes = collisions.RULES[rule](tokenizer.quantise(points, 2, own))
    assert distinct(codes) == 50
    assert (codes >= 0).all()
    assert (codes[:, :2] < 8).all()


def test_purity_by_hand():
    """Prefix 0 holds a, a, b: for the a's half of the others, for b none: 1/3. Prefix 1 is alone and does not count.

    With a category added to b that the first a has too: (1 + 1/2 + 1/2) / 3 = 2/3. The third level splits everything.
    """
    codes = np.array([[0, 0], [0, 1], [0, 2], [1, 0]])
    table = report.category_table([["a"], ["a"], ["b"], ["a"]])
    assert report.purity(codes, table) == [pytest.approx(1 / 3), None]
    table = report.category_table([["a", "c"], ["a"], ["b", "c"], ["a"]])
    assert report.purity(codes, table) == [pytest.approx(2 / 3), None]
    table = report.category_table([["a"], None, ["b"], ["a"]])
    assert report.purity(codes, table) == [0.0, None]
    table = report.category_table([["a"], None, ["a"], None])
    assert report.purity(codes, table) == [1.0, None]  # an item without category does not count


def test_purity_without_categories():
    table = report.category_table([None, ["a"], None, None])
    assert report.purity(np.array([[0], [0], [0], [1]]), table) == [None]
    assert report.purity_by_chance(table, np.random.default_rng(0)) is None


def test_purity_by_chance_by_hand():
    """Half the items in each of two categories: a random other one shares it in half the cases."""
    table = report.category_table([["a"], ["b"]] * 500)
    assert report.purity_by_chance(table, np.random.default_rng(0)) == pytest.approx(0.5, abs=0.005)


def test_counts_by_hand():
    """Codes 0, 0, 1 behind which stand 2 and 1 items; the second level has four different pairs."""
    codes = np.array([[0, 0], [0, 1], [0, 1], [1, 0]])
    assert report.items_per_prefix(codes) == [2, pytest.approx(4 / 3)]
    assert report.code_counts(np.array([[0, 0], [0, 1], [0, 2], [1, 0]])) == [
        {"rank": 1, "level_0": 3, "level_1": 2},
        {"rank": 2, "level_0": 1, "level_1": 1},
        {"rank": 3, "level_1": 1},
    ]


# ---------------------------------------------------------------------------------------------- action space

CODES = np.array([[0, 1], [2, 0], [0, 0], [1, 2]])


def actions(folder: Path, table: pa.Table) -> Actions:
    write_table(folder / "ids.parquet", table)
    return Actions(folder, SimpleNamespace(item_count=len(CODES)))


def test_levels_have_tokens_of_their_own(tmp_path):
    """Three codes per level behind the 3 special tokens: level 0 is 3 4 5, level 1 is 6 7 8; 9 tokens in all."""
    table = id_table(CODES)
    assert code_columns(table) == ["code_0", "code_1"]
    space = actions(tmp_path, table)
    assert space.tokens.tolist() == [[3, 7], [5, 6], [3, 6], [4, 8]]
    assert space.new_tokens == 9
    assert space.history(np.array([3, 0])).tolist() == [1, 4, 8, 3, 7]
    assert space.history(np.array([], dtype=np.int64)).tolist() == [1]
    assert space.columns[torch.arange(2), space.trie.codes].tolist() == space.tokens.tolist()


def test_the_fingerprint_follows_the_spelling(tmp_path):
    same, again, other = (
        actions(tmp_path / name, id_table(codes)).fingerprint
        for name, codes in (("a", CODES), ("b", CODES.copy()), ("c", CODES[[1, 0, 2, 3]]))
    )
    assert same == again
    assert same != other


def damaged(column_: str, row: int, value: int | None) -> pa.Table:
    table = id_table(CODES)
    columns = table.to_pydict()
    columns[column_][row] = value
    return pa.table(
        {name: pa.array(values, pa.int32()) for name, values in columns.items()}, metadata=table.schema.metadata
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (id_table(CODES).slice(1), "items have to be 0..3, each once; rerun tokenize"),
        (id_table(CODES).slice(0, 3), "items have to be 0..3, each once; rerun tokenize"),
        (id_table(np.vstack([CODES, [2, 2]])), "items have to be 0..3, each once; rerun tokenize"),
        (damaged("item", 2, 3), "items have to be 0..3, each once; rerun tokenize"),
        (damaged("code_1", 2, 1), r"items 0 and 2 have the same id"),
        (damaged("code_0", 1, -1), r"item 1 has code_0 -1, it has to be in 0\.\.2; rerun tokenize"),
        (damaged("code_0", 1, 3), r"item 1 has code_0 3, it has to be in 0\.\.2; rerun tokenize"),
        (damaged("code_1", 3, None), r"item 3 has code_1 None, it has to be in 0\.\.2; rerun tokenize"),
        (id_table(CODES).drop_columns(["code_0"]), "column 'code_0' .* is missing"),
        (id_table(CODES).drop_columns(["code_1"]), "does not say how many codes its 1 levels have"),
        (id_table(CODES).replace_schema_metadata(None), "does not say how many codes its 2 levels have"),
    ],
    ids=[
        "first item missing",
        "last item missing",
        "item beyond the catalogue",
        "item twice",
        "twins",
        "negative code",
        "code beyond its level",
        "no code",
        "no codes",
        "level missing",
        "no sizes",
    ],
)
def test_a_damaged_table_is_refused(tmp_path, table, message):
    with pytest.raises(InputError, match=message):
        actions(tmp_path, table)


def test_no_table(tmp_path):
    with pytest.raises(InputError, match=r"ids.parquet: no such file"):
        Actions(tmp_path, SimpleNamespace(item_count=len(CODES)))
