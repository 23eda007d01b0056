"""A policy and a catalogue small enough to enumerate, for the tests of what is done with policies."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from stages.action_spaces.base import Prompts
from stages.action_spaces.semantic_id import Actions
from stages.core.files import write_table
from stages.core.language_models import Backbone
from stages.corpus.histories import Histories
from stages.objectives import sage
from stages.policy import backbone, pretrained
from stages.policy.logprobs import spell
from stages.policy.noise import keys_of
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


def settings(dropout: float = 0.0, hidden: int = 16, feed_forward: int = 32) -> Backbone:
    """Two layers of two heads, from scratch."""
    shape = {"hidden_size": hidden, "layers": 2, "heads": 2, "feed_forward": feed_forward, "dropout": dropout}
    rates = {"sft_lr": 1e-2, "rl_lr": 1e-3}
    plain = {"name": None, "revision": None, "lora": None, "weights": "fp32", "precision": "fp32", "spaces": {}}
    return Backbone(source="scratch", architecture=shape, gradient_checkpointing=False, **plain, **rates)


def scratch(tokens: int, seed: int, body: Backbone | None = None):
    """A model of so many tokens, made as the stages make theirs."""
    body = body or settings()
    with tempfile.TemporaryDirectory() as folder:
        pretrained.fetch(body, Path(folder))
        return backbone.create(body, Path(folder), tokens, seed)


def catalogue(folder: Path, tokenizer=None) -> Actions:
    """14 of the 25 ids of two levels with five codes: prefixes with 5, 4, 3, 1 and 1 items, in mixed order."""
    ids = [(p, c) for p, count in enumerate((5, 4, 3, 1, 1)) for c in range(count)]
    order = np.random.default_rng(0).permutation(ITEMS)
    write_table(folder / "ids.parquet", id_table(np.array(ids)[order]))
    return actions(folder, ITEMS, tokenizer)


def actions(folder: Path, items: int, tokenizer=None) -> Actions:
    """The action space of a catalogue of so many items, without histories."""
    return Actions(folder, SimpleNamespace(item_count=items), tokenizer)


def sharp_model(space: Actions, seed: int = 0, dropout: float = 0.0):
    """Weights 5 times the initial ones, so that probabilities differ by more than a little."""
    model = scratch(space.new_tokens, seed, settings(dropout))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(5)
    return model.eval()


def part(asked: Prompts, start: int, stop: int) -> Prompts:
    return asked._replace(**{name: getattr(asked, name)[start:stop] for name in ("tokens", "mask", "banned")})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def keys(users: int, seed: int = 0) -> torch.Tensor:
    """What the draws of so many users hang on."""
    return keys_of(np.stack([np.arange(users), np.zeros(users, dtype=np.int64)], 1), seed)


def items_as_slates(asked: Prompts, space: Actions, items: list[int]):
    """Slates of one item each, the same for every user."""
    return spell(asked, space, torch.tensor(items)[None, :, None].expand(len(asked.tokens), -1, -1))


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
