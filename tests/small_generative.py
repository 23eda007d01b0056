"""A small encoder, small sections and ids for the tests of `tiger` and `lcrec`."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from stages.baselines import lcrec, tiger
from stages.baselines.base import GivenModels, Outcome
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.corpus.histories import Histories
from stages.policy import pretrained
from tests import small_policy
from tests.small_histories import SCHEDULE, N

RQVAE = {"hidden": [8], "latent": 4, "commitment": 0.25, "epochs": 5, "batch_size": 8, "lr": 1e-2, "weight_decay": 0.0}
IDS = {"levels": 2, "codebook_size": 4, "seed": None, "rqvae": RQVAE}
CODES = np.array([[item % 3, item // 3 % 4, item // 12] for item in range(N)])  # 3 levels, no two the same
SECTIONS: dict[str, dict[str, Any]] = {
    "tiger": {
        "ids": {**IDS, "collisions": "suffix"},
        "hidden_size": 8,
        "layers": 2,
        "heads": 2,
        "head_size": 4,
        "feed_forward": 16,
        "dropout": 0.1,
        "user_tokens": 7,
        "history_items": 4,
        "targets": 1,
        "max_examples": None,
        "beam_width": 10,
    },
    "lcrec": {
        "ids": {**IDS, "levels": 3, "collisions": "sinkhorn"},
        "tasks": {"seqrec": 1.0, "item2index": 0.5, "index2item": 0.25, "fusion": 0.5},
        "history_items": 4,
        "title_items": 3,
        "title_tokens": 6,
        "vocabulary": 300,
        "max_examples": 96,
        "beam_width": 10,
    },
}
RUNS = itertools.count()
MODULES = {"tiger": tiger, "lcrec": lcrec}


def section(name: str, **changes: Any) -> Any:
    """A section of few weights and epochs."""
    return MODULES[name].Params.model_validate(SCHEDULE | SECTIONS[name] | changes)


def write_encoder(folder: Path) -> None:
    """A BERT of random weights that knows the words of the small catalogue's texts. A text of no words is its start."""
    names = ["[PAD]", "[UNK]", "thing", *map(str, range(N)), "[CLS]"]
    words = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", len(names) - 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(names), **sizes)).save_pretrained(folder)


def given(corpus: Histories, folder: Path, **changes: Any) -> GivenModels:
    """What the stage hands over: a random encoder, and a backbone from scratch unless another is named."""
    encoder, scratch, body = folder / "encoder", folder / "scratch", small_policy.settings()
    if not scratch.exists():
        write_encoder(encoder)
        scratch.mkdir()
        pretrained.fetch(body, scratch)
    values: dict[str, Any] = {
        "histories": corpus,
        "users": {split: np.flatnonzero(corpus.target(split) >= 0) for split in ("test", "valid")},
        "exclude_seen": True,
        "shuffle_ties": True,
        "seed": 1,
        "device": torch.device("cpu"),
        "checkpoint": Checkpoint(f"test-{next(RUNS)}", "f00d"),  # no run goes on from another's state
        "curve": Curve(folder / "curve.csv"),
        "tasks": None,
        "encoder": encoder,
        "backbone": scratch,
        "language_model": body,
    }
    return GivenModels(**values | changes)


def outcome(name: str, own: GivenModels, params: Any, codes: Any = CODES) -> Outcome:
    """Train on given ids."""
    if name == "tiger":
        from stages.baselines.tiger_learner import outcome as run
    else:
        from stages.baselines.lcrec_learner import outcome as run

        params = lcrec.at_rate(params, own.language_model)
    return run(own, params, codes)


def sharpen(model: torch.nn.Module) -> None:
    """Weights 3 times the initial ones, and new rows that differ, so that probabilities do by more than a little."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "trainable_tokens" in name:
                weight.normal_(0, 0.5, generator=generator)
            elif weight.ndim > 1:
                weight.mul_(3)
    model.eval()
