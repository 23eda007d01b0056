"""A policy and a catalogue small enough to enumerate, for the tests of what is done with policies."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from stages.action_spaces.base import Prompts
from stages.action_spaces.semantic_id import Actions
from stages.core.files import write_table
from stages.core.sections import Backbone
from stages.corpus.histories import Histories
from stages.objectives import sage
from stages.policy import backbone
from stages.policy.supervised import Example
from stages.semantic_ids.table import id_table

ITEMS, DEPTH, SIZE = 14, 2, 5
SAGE = sage.Params(
    form="surrogate",
    eps_boost=0.3,
    beta=0.5,
    eps_clip=0.2,
    dual_clip=None,
    ratio_norm="item",
    decouple=True,
    lr=None,
    kl=None,
)
TEMPERATURE = 0.7
CONTEXTS = [np.array([0]), np.array([3, 1, 4, 1, 5]), np.array([9, 2, 6]), np.empty(0, dtype=np.int64)]


def settings(dropout: float = 0.0) -> Backbone:
    return Backbone(
        hidden_size=16, layers=2, heads=2, feed_forward=32, dropout=dropout, precision="fp32", sft_lr=1e-2, rl_lr=1e-3
    )


def catalogue(folder: Path) -> Actions:
    """14 of the 25 ids of two levels with five codes: prefixes with 5, 4, 3, 1 and 1 items, in mixed order."""
    ids = [(p, c) for p, count in enumerate((5, 4, 3, 1, 1)) for c in range(count)]
    order = np.random.default_rng(0).permutation(ITEMS)
    write_table(folder / "ids.parquet", id_table(np.array(ids)[order]))
    return Actions(folder, ITEMS)


def sharp_model(space: Actions, seed: int = 0, dropout: float = 0.0):
    """Weights 5 times the initial ones, so that probabilities differ by more than a little."""
    model = backbone.create(settings(dropout), space.vocabulary, seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(5)
    return model.eval()


def part(asked: Prompts, start: int, stop: int) -> Prompts:
    return Prompts(*(tensor[start:stop] for tensor in asked[:3]))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def enumerate_items(space, model, context: np.ndarray, banned: set[int], temperature: float = 1.0, label="slate"):
    """Log-probability of each item as the first, by one plain forward pass per item; -inf for banned ones."""
    left = [item for item in range(len(space.tokens)) if item not in banned]
    result = torch.full((len(space.tokens),), -torch.inf)
    for item in left:
        start = [*space.history(context).tolist(), *([2] if label == "slate" else [])]
        own = space.tokens[item].tolist()
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([start + own[:-1]])).logits[0, len(start) - 1 :]
        total = 0.0
        for level, token in enumerate(own):
            open_ = sorted(
                {int(space.tokens[i][level]) for i in left if space.tokens[i][:level].tolist() == own[:level]}
            )
            total += float(torch.log_softmax(logits[level, open_] / temperature, -1)[open_.index(token)])
        result[item] = total
    return result


def one(context: list[int], targets: list[int], *weights: float) -> Example:
    return Example(np.array(context, dtype=np.int64), np.array(targets), np.array(weights, dtype=np.float32))


def logged(item: list[int], like: list[int], train: list[int], length: list[int]) -> Histories:
    return Histories(
        item=np.array(item),
        tie=np.arange(len(item)),
        offsets=np.concatenate([[0], np.cumsum(length)]),
        train_length=np.array(train),
        valid=np.full(len(train), -1),
        test=np.full(len(train), -1),
        feedback={"click": np.ones(len(item), dtype=np.int8), "like": np.array(like, dtype=np.int8)},
        items=SimpleNamespace(num_rows=ITEMS),
        users=None,
    )
