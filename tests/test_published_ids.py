"""Semantic IDs that a corpus brings: the table, one item for all that share an id, tokens by published names."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stages.action_spaces.semantic_id import FIRST_CODE, Actions
from stages.action_spaces.shared_ids import in_use, named_columns, shared_trie
from stages.action_spaces.task_words import COUNT
from stages.core.files import write_table
from stages.core.schema import RECIF_SIDS
from stages.corpus.histories import Histories, load
from stages.policy.beam import beam_items
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from stages.semantic_ids import published
from stages.semantic_ids.table import read_alike, read_codes
from tests import small_policy, small_recif
from tests.test_recif import made

# Items 0, 1 and 4 share an id; 4 is a product. 1 is named by the counts
CODES = np.array([[7, 0, 5], [7, 0, 5], [7, 9, 8191], [40, 0, 5], [7, 0, 5], [8191, 3, 3]])
KIND, STANDS = np.array([0, 0, 0, 0, 1, 1]), np.array([False, True, True, False, True, False])


def sids(folder: Path) -> Path:
    columns = [np.arange(len(CODES)), *CODES.T, KIND, STANDS]
    arrays = [pa.array(own, field.type) for own, field in zip(columns, RECIF_SIDS, strict=True)]
    write_table(folder / "sids.parquet", pa.table(arrays, schema=RECIF_SIDS))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ids = published.brought(sids(tmp_path))
    assert ids is not None
    write_table(tmp_path / "ids.parquet", ids)
    return tmp_path


def test_a_corpus_without_ids_brings_none(tmp_path: Path) -> None:
    assert published.brought(tmp_path) is None


def test_the_table_keeps_codes_and_says_who_stands_for_whom(folder: Path) -> None:
    """0, 1 and 4: both 1 and 4 are named by the counts, and a photo comes before a product."""
    assert read_codes(folder / "ids.parquet", 6).tolist() == CODES.tolist()
    assert read_alike(folder / "ids.parquet").tolist() == [1, 1, 2, 3, 1, 5]
    assert pq.read_table(folder / "ids.parquet").schema.metadata[b"codes_per_level"] == b"8192,8192,8192"


def test_of_items_that_no_count_names_the_first_stands() -> None:
    none = np.zeros(6, dtype=bool)
    assert published.representatives(CODES, none, KIND).tolist() == [0, 0, 2, 3, 0, 5]


def test_the_report_counts_what_is_shared() -> None:
    found = published.describe(CODES)
    assert (found["collision_rate_after"], found["levels"]) == (0.5, 3)
    assert found["usage"] == [3 / 8192, 3 / 8192, 3 / 8192]
    assert found["items_per_prefix"] == [2, 1.5, 1.5]


def test_only_codes_in_use_have_tokens() -> None:
    used, places = in_use(CODES)
    assert [own.tolist() for own in used] == [[7, 40, 8191], [0, 3, 9], [3, 5, 8191]]
    assert places.tolist() == [[0, 0, 1], [0, 0, 1], [0, 2, 2], [1, 0, 1], [0, 0, 1], [2, 1, 0]]
    assert named_columns(used, None, 10).tolist() == [[10, 11, 12], [13, 14, 15], [16, 17, 18]]


def test_a_tokenizer_that_knows_the_names_keeps_its_tokens() -> None:
    """Levels with fewer codes are filled up with a token that no item leads to."""
    used = [np.array([7, 40]), np.array([0]), np.array([8191])]
    words = {"<s_a_7>": 2, "<s_b_0>": 5, "<s_c_8191>": 6, "<s_a_8>": 3}
    tokenizer = SimpleNamespace(get_vocab=lambda: words)
    assert named_columns(used, tokenizer, 10).tolist() == [[2, 10], [5, 10], [6, 10]]


def test_a_leaf_is_the_item_that_stands_for_its_id() -> None:
    alike = np.array([1, 1, 2, 3, 1, 5])
    trie = shared_trie(in_use(CODES)[1], alike)
    assert trie.item_at(trie.node[:, 3].long()).tolist() == alike.tolist()
    assert int(trie.leaves[0]) == 4  # ids, not items


def test_policies_write_every_id_once(folder: Path) -> None:
    """Slates of all ids there are, and a beam over them: each id once, although three items share one."""
    log = small_policy.logged([0, 4, 2, 5], [0] * 4, [4], [4])
    space = Actions(folder, log_of(log, 6))
    assert space.histories.item.tolist() == [1, 1, 2, 5]
    assert space.tokens[0].tolist() == space.tokens[4].tolist()
    model = small_policy.sharp_model(space)
    asked = space.prompts_of([np.array([0]), np.array([4, 2])], 4, "slate", False)
    slates = sample_slates(Reading(model, asked), space, [0.0], 4, None)
    assert torch.sort(slates.items[:, 0]).values.tolist() == [[1, 2, 3, 5]] * 2
    items, scores = beam_items(Reading(model, asked), space, 9, 5)
    assert torch.sort(items).values.tolist() == [[-1, 1, 2, 3, 5]] * 2
    assert scores[:, :4].exp().sum(1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_seen_items_are_banned_by_their_id(folder: Path) -> None:
    log = small_policy.logged([0, 4, 2], [0] * 3, [3], [3])
    space = Actions(folder, log_of(log, 6))
    asked = space.prompts_of(space.histories.items_before(np.array([[0, 3]])), 4, "slate", True)
    slates = sample_slates(Reading(small_policy.sharp_model(space), asked), space, [0.0], 2, None)
    assert sorted(slates.items[0, 0].tolist()) == [3, 5]


def test_new_tokens_are_those_of_the_codes(folder: Path) -> None:
    space = Actions(folder, log_of(small_policy.logged([0], [0], [1], [1]), 6))
    assert space.new_tokens == FIRST_CODE + 9 + COUNT
    assert space.tokens.max() < space.new_tokens


def test_ids_of_files_by_hand(tmp_path: Path) -> None:
    """Photos 11 and 12 and product 22 have one id, and 12 stands for it by the counts."""
    corpus, _ = made(small_recif.write(tmp_path / "raw"))
    ids = published.brought(corpus)
    assert ids is not None
    names = load(corpus).items["item_id"].to_pylist()
    alike = {names[item]: names[own] for item, own in enumerate(ids["alike"].to_pylist())}
    assert (alike["photo 11"], alike["product 22"], alike["photo 13"]) == ("photo 12", "photo 12", "photo 13")


def log_of(log: Histories, items: int) -> Histories:
    return replace(log, items=SimpleNamespace(num_rows=items))
