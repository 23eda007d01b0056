"""A corpus of films with pools, a tokenizer trained on it and a small model: native text small enough to enumerate."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from stages.action_spaces.text import Actions
from stages.core.files import write_table
from stages.core.spelling_sections import TaskPrompts, TextPolicy
from stages.corpus.histories import Histories
from stages.rendering import tokenizer
from stages.rendering.table import item_table, pool_table, user_table
from tests.small_policy import scratch
from tests.test_prompts import corpus

TITLES = ["Heat", "Heat 2", "Toy Story", "Toy Box", "Casper", "Fargo", "Star Wars", "Star", "Alien", "Alien 3", "Up"]
LOGS = [[0, 3, 5, 7, 9, 2], [1, 2, 4, 6, 8, 0], [5, 6, 7, 8, 9, 10]]
SIZE = 6
PROMPT = "{history}\n{pool}\n"
TASKS = {
    **dict.fromkeys(("video", "ad", "product"), PROMPT),
    "label_cond": PROMPT + "{condition}\n",
    "interactive": PROMPT + "{keyword}\n",
    "label_pred": "{history}\n{candidate}\n",
}
POLICY = TextPolicy(
    window_days=7, max_tokens=400, candidates="names", put_target=False, loss="constrained", tasks=TaskPrompts(**TASKS)
)


def histories() -> Histories:
    films = [(title, f"{title}. Film", ["Film"], 5) for title in TITLES]
    found = corpus(LOGS, {"like": [number % 2 for number in range(18)]}, films)
    return Histories(**{**vars(found), "train_length": np.array([4, 4, 4])})


def pools(log: Histories) -> np.ndarray:
    """Six unseen items per interaction in an order drawn by its number; the last of every other pool is missing."""
    found = np.full((len(log.item), SIZE), -1)
    for row in range(len(log.item)):
        user = row // len(LOGS[0])
        unseen = np.setdiff1d(np.arange(len(TITLES)), log.item[user * len(LOGS[0]) : row])
        chosen = np.random.default_rng(row).permutation(unseen)[: SIZE - row % 2]
        found[row, : len(chosen)] = chosen
    return found


def world(folder: Path, policy: TextPolicy = POLICY) -> SimpleNamespace:
    """The action space of such a corpus, its histories, and a model with weights 5 times the initial ones."""
    log = histories()
    write_table(folder / "items.parquet", item_table(TITLES, TITLES))
    write_table(folder / "users.parquet", user_table(["age 30", "", "age 40"]))
    write_table(
        folder / "pools.parquet", pool_table(pa.chunked_array([[None] * len(log.item)], pa.int64()), pools(log))
    )
    tokenizer.train(TITLES * 3, 300, folder / "tokenizer")
    space = Actions(folder, log, None, policy)
    model = scratch(space.new_tokens, 0).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(5)
    return SimpleNamespace(space=space, histories=log, model=model)
