"""Small logs in memory for the tests of baselines, and what a learnt baseline is handed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from stages.baselines.asked import Lists, of_users
from stages.baselines.base import Given
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.schema import ITEMS, USERS
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories

N = 24  # items of `log`; the last one is in nobody's training part
SIZE = {"length": 8, "hidden": 8, "blocks": 2, "heads": 2, "feed_forward": 16, "dropout": 0.2}
SCHEDULE = {"epochs": 3, "batch_size": 64, "lr": 0.02, "lr_warmup": 0.0, "lr_decay": "none", "beta_2": 0.98}
SCHEDULE |= {"weight_decay": 0.0, "max_grad_norm": None, "patience": 9, "evaluate_every": 1, "valid_users": None}
SCHEDULE |= {"list_length": 5}
OWN: dict[str, dict[str, Any]] = {
    "sasrec": {"loss": "ce", "samples": None},
    "sasrec_bce": {"loss": "bce", "samples": None},
    "rearec": {
        "variant": "erl",
        "steps": 2,
        "temperature": 0.5,
        "kl": 0.05,
        "annealing": 2.0,
        "noise": 0.01,
        "early": 1.0,
        "contrast": 1.0,
    },
}


def histories(sequences: Sequence[Sequence[int]], items: int, ties: Sequence[int] | None = None) -> Histories:
    """Users by their items: of three or more the last is test, the one before it valid. ties: groups, flat."""
    lengths = np.array([len(own) for own in sequences])
    judged = lengths >= 3
    train = lengths - 2 * judged
    flat, offsets = np.concatenate([np.asarray(own) for own in sequences]), np.concatenate([[0], np.cumsum(lengths)])
    shown = np.concatenate([own[:length] for own, length in zip(sequences, train, strict=True)]).astype(np.int64)
    count = np.bincount(shown, minlength=items)
    columns: dict[str, Any] = {"item": range(items), "item_id": [f"i{item}" for item in range(items)]}
    columns |= {"title": [f"Item {item}" for item in range(items)], "text": [f"thing {item}" for item in range(items)]}
    columns |= {"categories": [["x"]] * items, "train_count": count, "cold": count == 0}
    return Histories(
        item=flat.astype(np.int64),
        tie=np.arange(len(flat)) if ties is None else np.asarray(ties),
        offsets=offsets,
        train_length=train,
        valid=np.where(judged, flat[offsets[1:] - 2], -1),
        test=np.where(judged, flat[offsets[1:] - 1], -1),
        feedback={},
        items=pa.table([pa.array(columns[field.name], field.type) for field in ITEMS], schema=ITEMS),
        users=pa.table(
            {
                "user": pa.array(range(len(sequences)), pa.int32()),
                "user_id": [f"u{user}" for user in range(len(sequences))],
            },
            schema=USERS,
        ),
    )


def log() -> Histories:
    """40 users who step through the catalogue, now and then with a leap; two of one item; N - 1 only held out."""
    generator, sequences = numpy_generator("small", "log"), []
    for user in range(40):
        start, length = int(generator.integers(N)), 3 + int(generator.integers(16))
        steps = np.where(generator.random(length) < 0.2, generator.integers(1, N, length), 1)
        items = (start + np.cumsum(steps)) % (N - 1)
        sequences.append([*items[:-1], N - 1 if user % 8 == 0 else items[-1]])
    return histories([*sequences, [3], [5]], N, np.arange(sum(map(len, sequences)) + 2) // 2)


def listed(module: Any, corpus: Histories, own: Any, split: str, exclude_seen: bool) -> Lists:
    """Lists of a baseline that counts, for the users with a target in the split."""
    users = np.flatnonzero(corpus.target(split) >= 0)
    return module.ranker(corpus, own).ranked(of_users(corpus, split, users, exclude_seen, own.list_length))


def given(corpus: Histories, folder: Path, **changes: Any) -> Given:
    """What the stage hands to a baseline; SAGE_CHECKPOINTS has to lie in a temporary folder."""
    checkpoint = Checkpoint("test", "f00d")
    checkpoint.claim()
    checkpoint.steps_done()  # signals stay pytest's
    values: dict[str, Any] = {
        "histories": corpus,
        "users": {split: np.flatnonzero(corpus.target(split) >= 0) for split in ("test", "valid")},
        "exclude_seen": True,
        "shuffle_ties": True,
        "seed": 1,
        "device": torch.device("cpu"),
        "checkpoint": checkpoint,
        "curve": Curve(folder / "curve.csv"),
        "tasks": None,
    }
    return Given(**values | changes)
