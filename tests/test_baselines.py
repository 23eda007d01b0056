"""Baselines on logs small enough to count by hand, and on Beauty where its files are at hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from stages.baselines import popularity, transitions
from stages.baselines.asked import Asked
from stages.core.corpora import Corpus
from stages.core.schema import ITEMS, SLATES, USERS, slate_table
from stages.corpus import cut, histories, local, writing
from stages.corpus.histories import Histories
from stages.measures import accuracy
from tests.small_histories import listed

BEAUTY = Path("../shared/data/beauty")


@pytest.fixture
def log():
    """Train | valid, test: 0 1 2 | 3, 4; 1 2 | 0, 3; 3 | none. Training counts of items 0..4: 1, 2, 2, 1, 0."""
    sequences, train = [[0, 1, 2, 3, 4], [1, 2, 0, 3], [3]], np.array([3, 2, 1])
    count = np.array([1, 2, 2, 1, 0])
    items = {"item": np.arange(5), "item_id": list("abcde"), "title": [""] * 5, "text": [""] * 5}
    items |= {"categories": [["x"]] * 5, "train_count": count, "cold": count == 0}
    return Histories(
        item=np.concatenate(sequences),
        tie=np.arange(10),
        offsets=np.array([0, 5, 9, 10]),
        train_length=train,
        valid=np.array([3, 0, -1]),
        test=np.array([4, 3, -1]),
        feedback={},
        items=pa.table([pa.array(items[field.name], field.type) for field in ITEMS], schema=ITEMS),
        users=pa.table({"user": pa.array(range(3), pa.int32()), "user_id": list("uvw")}, schema=USERS),
    )


def settings(**values):
    return transitions.Params(**{"window": 2, "last_items": 3, "decay": 0.5, "list_length": 3} | values)


def test_transition_counts(log):
    """Window 2. 0 1 2 gives 0>1: 1, 1>2: 1, 0>2: 1/2; 1 2 gives 1>2: 1. Held-out items and neighbours add nothing."""
    expected = np.zeros((5, 5))
    expected[0, 1], expected[0, 2], expected[1, 2] = 1, 0.5, 2
    assert np.array_equal(transitions.transition_matrix(log, 2).toarray(), expected)
    expected[0, 2] = 0
    assert np.array_equal(transitions.transition_matrix(log, 1).toarray(), expected)


def test_transitions_are_counted_in_32_bits(log):
    """Half of what numpy takes by itself; scores of a part have them, too, or each would copy the matrix."""
    matrix = transitions.transition_matrix(log, 2)
    found = transitions.scores(matrix, [np.array([0, 1]), np.array([], dtype=np.int64)], settings())
    for table in (matrix, found):
        assert (table.indices.dtype, table.indptr.dtype) == (np.int32, np.int32)


def test_transition_scores(log):
    """Context 1 2 0: item 0 votes with weight 1, item 2 with 1/2 (nothing followed it), item 1 with 1/4.
    Item 1: 1 * 1; item 2: 1 * 1/2 + 1/4 * 2 = 1. With the last two items only, item 2 has 1/2.
    """
    matrix = transitions.transition_matrix(log, 2)
    contexts = [np.array([1, 2, 0]), np.array([], dtype=int)]
    assert transitions.scores(matrix, contexts, settings()).toarray().tolist() == [[0, 1, 1, 0, 0], [0] * 5]
    assert transitions.scores(matrix, contexts, settings(last_items=2)).toarray()[0].tolist() == [0, 1, 0.5, 0, 0]


def test_transitions_break_ties_and_fill_up_by_popularity(log):
    """Valid: user 0 (0 1 2) scores item 2: 1/2 * 2 + 1/4 * 1/2 = 1.125, item 1: 1/4, then item 0 (count 1, like 3).
    User 1 (1 2) scores item 2: 1, then items 1 (count 2) and 0. Test: user 1's tie of 1 and 2 goes to the lower number.
    """
    items, scores = listed(transitions, log, settings(), "valid", False)
    assert items.tolist() == [[2, 1, 0], [2, 1, 0]]
    assert scores.tolist() == [[1.125, 0.25, 0], [1, 0, 0]]
    assert listed(transitions, log, settings(), "test", False)[0][1].tolist() == [1, 2, 0]


def test_higher_train_count_wins_a_tie(log):
    """Scores of items 0 and 4 tie at 1: item 0 was seen once, item 4 never; turned round, item 4 comes first."""
    found = transitions.sparse.csr_array(np.array([[1.0, 0, 0, 0, 1]]))
    assert transitions.rank_items(found, None, log.train_count, 2)[0].tolist() == [[0, 4]]
    assert transitions.rank_items(found, None, log.train_count[::-1], 2)[0].tolist() == [[4, 0]]


def test_seen_items_are_left_out_and_empty_slots_hold_no_item(log):
    """Test: user 0 has seen 0 1 2 3, which leaves item 4; user 1 has seen 1 2 0, which leaves 3, then 4."""
    for module, own in ((transitions, settings()), (popularity, popularity.Params(list_length=3))):
        items, scores = listed(module, log, own, "test", True)
        assert items.tolist() == [[4, -1, -1], [3, 4, -1]]
        assert np.isfinite(scores).all()
        assert listed(module, log, own, "valid", True)[0].tolist() == [[3, 4, -1], [0, 3, 4]]


def test_lists_longer_than_the_catalogue(log):
    for module, own in ((transitions, settings(list_length=7)), (popularity, popularity.Params(list_length=7))):
        items = listed(module, log, own, "valid", False)[0]
        assert items.shape == (2, 7)
        assert sorted(items[0]) == [-1, -1, 0, 1, 2, 3, 4]


def test_lists_of_some_items(log):
    """Context 1 2, of the items 0, 1, 3, 4, as asked of a task. Nothing followed item 2, and item 1 votes 1/2 * 2 for
    item 2, which is not asked for: filled up by popularity, 1 (count 2), then 0 and 3.
    """
    asked = Asked("test_video", [np.array([1, 2]), np.array([], dtype=int)], 3, among=np.array([0, 1, 3, 4]))
    for module, own in ((transitions, settings()), (popularity, popularity.Params(list_length=1))):
        items, scores = module.ranker(log, own).ranked(asked)
        assert items.tolist() == [[1, 0, 3]] * 2
        assert scores.tolist() == ([[0] * 3] * 2 if module is transitions else [[2, 1, 1]] * 2)
    judged = replace(asked, candidates=np.array([2, 2]))
    assert transitions.ranker(log, settings()).judged(judged).tolist() == [1, 0]


def test_popularity_judges_by_the_share_of_longviews(log):
    """Training views of items 0..4: 1, 2, 2, 1, 0, of them watched 1, 1, 0, 0, 0: of items 1 and 2, 1 of 4. With one
    more view of 1/4 each: (1 + 1/4) / 3, (0 + 1/4) / 3; of an item that nobody saw 1/4. Held-out views do not count.
    """
    watched = replace(log, feedback={"longview": np.array([1, 1, 0, 1, 1, 0, 0, 1, 1, 0], dtype=np.int8)})
    asked = Asked("test_label_pred", [np.array([0])] * 3, 1, among=np.array([1, 2]), candidates=np.array([1, 2, 4]))
    assert popularity.ranker(watched, popularity.Params(list_length=1)).judged(asked) == pytest.approx(
        [1.25 / 3, 0.25 / 3, 0.25]
    )


def test_popularity_ranks_by_training_count(log):
    """Counts 1, 2, 2, 1, 0: items 1 2 (tie), then 0 3 (tie), then 4."""
    items, scores = listed(popularity, log, popularity.Params(list_length=5), "test", False)
    assert items.tolist() == [[1, 2, 0, 3, 4]] * 2
    assert scores.tolist() == [[2, 2, 1, 1, 0]] * 2


@pytest.mark.parametrize("module", [transitions, popularity])
def test_chunks_of_users_change_nothing(log, module, monkeypatch):
    own = settings() if module is transitions else popularity.Params(list_length=3)
    whole = listed(module, log, own, "test", True)
    monkeypatch.setattr(module, "ROWS", 1)
    parts = listed(module, log, own, "test", True)
    assert np.array_equal(whole[0], parts[0])
    assert np.array_equal(whole[1], parts[1])


def test_slates_are_one_row_per_user_with_a_target_and_rank(log):
    found = listed(popularity, log, popularity.Params(list_length=2), "test", False)
    table = slate_table(np.flatnonzero(log.target("test") >= 0), "test", "list", *found)
    assert table.schema == SLATES
    assert table["user"].to_pylist() == [0, 0, 1, 1]  # user 2 has no target
    assert table["rank"].to_pylist() == [1, 2, 1, 2]
    assert table["item"].to_pylist() == [1, 2, 1, 2]
    assert set(table["decoder"].to_pylist()) == {"list"}


@pytest.mark.skipif(not BEAUTY.exists(), reason=f"no {BEAUTY}: the Amazon Beauty parquet files")
def test_transitions_on_beauty(tmp_path):
    """R@10 .0788, N@10 .0478 with window 3, last 5 items, decay .8, seen items left out; 1,478 cold items."""
    corpus = Corpus.model_validate(yaml.safe_load(Path("params.yaml").read_text())["corpora"]["beauty"])
    writing.write_corpus(cut.cut(local.read(BEAUTY, corpus), corpus), tmp_path)
    beauty = histories.load(tmp_path)
    assert (beauty.user_count, beauty.item_count, len(beauty.item)) == (22363, 12101, 198502)
    own = settings(window=3, last_items=5, decay=0.8, list_length=10)
    rank = accuracy.rank_of(listed(transitions, beauty, own, "test", True)[0], beauty.test)
    assert accuracy.recall_at_rank(rank, 10).mean() == pytest.approx(0.0788, abs=1e-3)
    assert accuracy.ndcg_at_rank(rank, 10).mean() == pytest.approx(0.0478, abs=1e-3)
    assert (beauty.cold.sum(), beauty.cold[beauty.test].sum()) == (1478, 3141)
