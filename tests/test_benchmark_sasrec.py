"""What benchmarks/sasrec.py hands to RecBole, and how it measures what comes back. RecBole itself is not installed."""

import numpy as np
import pytest

from benchmarks.sasrec import FILES, HEAD, atomic_files, best, measured, until
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
