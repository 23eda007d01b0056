"""The language model and its folder: what a backbone is made into, saved, and loaded again.

A backbone's folder (models/backbones/<name>) gives the architecture and, but from scratch, weights and tokenizer. What
an action space needs beside the tokenizer's tokens are new rows of the vocabulary, behind its last token. A policy's
folder holds a whole model, or adapters alone, and a card that says what it was trained on.
"""

import copy
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from stages.core.errors import InputError
from stages.core.language_models import Backbone
from stages.core.seeding import derived_seed
from stages.policy import adapters, weights
from stages.policy.sharing import ATTENTION
from stages.policy.weights import loading

CARD = "policy.json"
UNLOADABLE = "not a policy that can be loaded", "the stage that made it"
NO_BACKBONE = "not a backbone that can be loaded", "download_backbone"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Model = PreTrainedModel | PeftModel


@dataclass(frozen=True)
class Card:
    """What a policy folder says about itself beside the weights."""

    label: str
    """sft.label it was trained with: how a prompt ends."""
    actions: str
    """Fingerprint of the action space: other ids mean other tokens."""
    made_by: str
    """The cell and the hash of its parameters."""


def tokenizer(source: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a backbone; None from scratch. New tokens are numbered from its length on."""
    if not (source / "tokenizer.json").exists():
        return None
    with loading(source, *NO_BACKBONE):
        return AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)


def create(settings: Backbone, source: Path, new_tokens: int, seed: int) -> Model:
    """A model to train, with `new_tokens` tokens beside those of the backbone's tokenizer; the seed draws what is new.

    Raises InputError where `source` holds no backbone that can be used.
    """
    if settings.architecture is not None:
        model: Model = _from_scratch(source, new_tokens, seed)
    else:
        base, known = _base(source, settings), tokenizer(source)
        weights.require_sharing(base, source)
        if new_tokens:
            assert known is not None, "a pretrained backbone is fetched with its tokenizer"
            weights.grow(base, len(known), new_tokens, seed)
        model = adapters.attach(base, settings.lora, new_tokens, seed) if settings.lora else base
    if settings.gradient_checkpointing:
        weights.recompute(model)
    return model


def save(model: Model, card: Card, folder: Path) -> None:
    """Write weights, config and card; of a model with adapters these alone."""
    if isinstance(model, PeftModel):
        # models/backbones/<name>: the same from wherever the model was loaded
        adapters.save(model, Path(*Path(model.get_base_model().name_or_path).parts[-3:]), folder)
    else:
        model.save_pretrained(folder)
    (folder / CARD).write_text(json.dumps(asdict(card), indent=2) + "\n")


def read_card(folder: Path) -> Card:
    """Read the card. Raises InputError where the folder holds none."""
    try:
        return Card(**json.loads((folder / CARD).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: {UNLOADABLE[0]} ({CARD}: {error}); rerun {UNLOADABLE[1]}") from error


def load(
    folder: Path, fingerprint: str, source: Path, settings: Backbone, trainable: bool = False
) -> tuple[Model, Card]:
    """Load a policy, without dropout. Raises InputError where it is damaged or its ids are not those of `fingerprint`.

    source: the folder of its backbone. trainable: adapters have gradients, and where the settings ask for it layers are
    computed again on the way back.
    """
    card = read_card(folder)
    if card.actions != fingerprint:
        raise InputError(
            f"{folder}: trained on item ids {card.actions}, but the ids at hand are {fingerprint}; rerun sft"
        )
    with loading(folder, *UNLOADABLE):
        if (folder / adapters.CONFIG).exists():
            model: Model = adapters.restore(_base(source, settings), folder, trainable)
        else:
            model = weights.read(folder, torch.float32)
    model.eval()
    if trainable and settings.gradient_checkpointing:
        weights.recompute(model)
    return model, card


def reference_of(model: Model) -> Callable[[], AbstractContextManager[Model]]:
    """A frozen copy of a policy as it is now, to be entered: `with reference() as frozen: ...`.

    With adapters the copy is a second set on the same base, switched to inside the block; the policy is not to be used
    there. Without, it is a second model.
    """
    if isinstance(model, PeftModel):
        adapters.add_reference(model)
        return lambda: adapters.as_reference(model)
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    return lambda: nullcontext(frozen)


def output_rows(model: Model, columns: Tensor) -> Tensor:
    """Rows [.., h] of the output layer for tokens [..], with gradients, also where new ones are kept apart."""
    return adapters.output_rows(model.get_output_embeddings(), columns)


def _from_scratch(source: Path, vocabulary: int, seed: int) -> PreTrainedModel:
    with loading(source, *NO_BACKBONE):
        weights.require_config(source)
        config = Qwen3Config.from_pretrained(source, vocab_size=vocabulary, attn_implementation=ATTENTION)
    torch.manual_seed(derived_seed(seed, "weights"))
    return Qwen3ForCausalLM(config)


def _base(source: Path, settings: Backbone) -> PreTrainedModel:
    with loading(source, *NO_BACKBONE):
        return weights.read(source, DTYPES[settings.weights])
