"""What benchmarks/sasrec.py hands to RecBole, and how it measures what comes back. RecBole itself is not installed."""

import argparse

import numpy as np
import pytest

from benchmarks.sasrec import FILES, HEAD, atomic_files, best, compare, measured, of_one_job, until
from stages.core import params
from stages.measures import accuracy
from tests.small_histories import histories


@pytest.fixture
def corpus():
    return histories([[0, 1, 2, 3, 4], [5, 6, 7], [8]], 9)


def test_examples_are_the_prefixes_of_the_training_part(corpus, tmp_path):
    """User 0 trains on 0, 1, 2; user 1 on 5 alone; a context is cut to its last items."""
    atomic_files(corpus, tmp_path, 2)
    files = {split: (tmp_path / FILES / f"{FILES}.{split}.inter").read_text() for split in ("train", "valid", "test")}
    assert files["train"] == HEAD + "0\t0\t1\n0\t0 1\t2\n"
    assert files["valid"] == HEAD + "0\t1 2\t3\n1\t5\t6\n"
    assert files["test"] == HEAD + "0\t2 3\t4\n1\t5 6\t7\n"


def test_lists_are_measured_by_user_and_the_best_epoch_is_of_validation(corpus):
    right, second, none = {"valid": [3, 0], "test": [4, 0]}, {"valid": [0, 3], "test": [0, 4]}, [8, 8]
    epochs = [
        {"seconds": 1.0, "lists": {split: {"0": own[split], "1": none} for split in own}} for own in (second, right)
    ]
    rows = measured({"epochs": epochs}, corpus)
    half = accuracy.ndcg_at_rank(np.array([2]), 10)[0]
    assert [row["test"] for row in rows] == pytest.approx([half / 2, 0.5])
    assert rows[1]["test_users"].tolist() == [1.0, 0.0]
    assert best(rows) is rows[1]
    assert until([{"seconds": 3.0, "valid": 0.1}, {"seconds": 7.0, "valid": 0.3}], 0.2) == 7.0


def test_a_side_that_leaves_a_user_out_is_refused(corpus):
    lists = {"valid": {"0": [1]}, "test": {"0": [1], "1": [1]}}
    with pytest.raises(AssertionError, match="left users out"):
        measured({"epochs": [{"seconds": 1.0, "lists": lists}]}, corpus)


def test_a_folder_holds_one_comparison(tmp_path):
    path, job = tmp_path / "comparison.json", {"seed": 1, "size": {"hidden": 64}}
    of_one_job(path, job)
    of_one_job(path, job)
    with pytest.raises(SystemExit, match="a comparison with another seed, size; name another folder"):
        of_one_job(path, {"seed": 2, "size": {"hidden": 32}})


@pytest.mark.parametrize(
    ("key", "value", "has"),
    [("loss", "bce", "ce"), ("evaluate_every", 2, "1"), ("weight_decay", 0.1, "0"), ("valid_users", 9, "None")],
)
def test_what_recbole_cannot_match_is_refused(key, value, has, monkeypatch):
    given, settings = argparse.Namespace(dataset="ml-100k"), params.load()
    settings.own["sasrec"] = settings.own["sasrec"].model_copy(update={key: value})
    monkeypatch.setattr(params, "load", lambda: settings)
    with pytest.raises(SystemExit, match=rf"sasrec\.{key}: RecBole's side has {has}"):
        compare(given)
