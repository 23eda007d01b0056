"""What others did under a keyword, for pools of RecIF's tasks."""

import numpy as np

from stages.corpus.task_samples import Sample
from stages.retrievers.keywords import Under
from tests.small_histories import histories

NONE = np.empty(0, dtype=np.int64)


def asking(word: str, user: int) -> Sample:
    return Sample("interactive", word, NONE, NONE, user=user)


def test_others_are_counted_as_far_as_they_are_visible() -> None:
    """Under `snow` users 0 and 1 did item 2, 0 did 1 as well, and 2 did 3, which is behind what may be seen of it."""
    log = histories([[1, 2, 4], [2, 0], [0, 3]], 5)
    words = {0: [("snow", np.array([2, 1])), ("sun", np.array([4]))], 1: [("snow", np.array([2]))]}
    under = Under.of(log, np.array([3, 2, 1]), words | {2: [("snow", np.array([3, 3, 0]))]})
    asked = [asking("snow", -1), asking("snow", 0), asking("sun", 0), asking("rain", 1), asking("sun", 2)]
    told = [[1, 1, 2, 0, 0], [1, 0, 1, 0, 0], [0] * 5, [0] * 5, [0, 0, 0, 0, 1]]
    found = under.by_others(asked)
    assert found.toarray().tolist() == told
    assert found.nnz == np.count_nonzero(told)


def test_counts_are_those_of_a_look_at_every_user() -> None:
    made = np.random.default_rng(1)
    lists = [made.integers(30, size=made.integers(1, 12)) for _ in range(40)]
    log, visible = histories([own.tolist() for own in lists], 30), np.array([len(own) for own in lists]) // 2
    words = {
        user: [(f"word {word}", made.integers(30, size=9)) for word in np.flatnonzero(made.random(6) < 0.5)]
        for user in range(40)
    }
    asked = [asking(f"word {made.integers(7)}", int(made.integers(-1, 40))) for _ in range(60)]
    told = np.zeros((60, 30))
    for row, own in enumerate(asked):
        for user, lists_of_user in words.items():
            seen = lists[user][: visible[user]]
            for word, items in lists_of_user:
                if word == own.condition and user != own.user:
                    told[row, np.intersect1d(items, seen)] += 1
    assert np.array_equal(Under.of(log, visible, words).by_others(asked).toarray(), told)


def test_a_corpus_without_keywords() -> None:
    found = Under.of(histories([[1, 2]], 3), np.array([2]), {}).by_others([asking("snow", 0)])
    assert found.shape == (1, 3)
    assert not found.nnz
