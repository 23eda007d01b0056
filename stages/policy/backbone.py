"""The language model and its folder: safetensors, config, and what it was trained on.

Left out: pretrained models and LoRA; the one backbone so far is Qwen3's architecture from scratch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from stages.core.errors import InputError
from stages.core.sections import Backbone
from stages.core.seeding import derived_seed
from stages.policy.sharing import ATTENTION

CARD = "policy.json"
UNLOADABLE = "not a policy that can be loaded"


@dataclass(frozen=True)
class Card:
    """What a policy folder says about itself beside the weights."""

    label: str
    """sft.label it was trained with: how a prompt ends."""
    actions: str
    """Fingerprint of the action space: other ids mean other tokens."""
    made_by: str
    """The cell and the hash of its parameters."""


def create(settings: Backbone, vocabulary: int, seed: int) -> PreTrainedModel:
    """A model from scratch; the seed draws the weights."""
    torch.manual_seed(derived_seed(seed, "weights"))
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=settings.hidden_size,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            head_dim=settings.hidden_size // settings.heads,
            intermediate_size=settings.feed_forward,
            attention_dropout=settings.dropout,
            tie_word_embeddings=True,
            max_position_embeddings=4096,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation=ATTENTION,
        )
    )


def save(model: PreTrainedModel, card: Card, folder: Path) -> None:
    """Write weights, config and card."""
    model.save_pretrained(folder)
    (folder / CARD).write_text(json.dumps(asdict(card), indent=2) + "\n")


def read_card(folder: Path) -> Card:
    """Read the card. Raises InputError where the folder holds none."""
    try:
        return Card(**json.loads((folder / CARD).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: {UNLOADABLE} ({CARD}: {error}); rerun the stage that made it") from error


def load(folder: Path, fingerprint: str) -> tuple[PreTrainedModel, Card]:
    """Load a policy. Raises InputError where the folder is damaged or its ids are not those of `fingerprint`."""
    card = read_card(folder)
    # without this file transformers would build its default Qwen3, of 8 billion weights
    if not (folder / "config.json").exists():
        raise InputError(f"{folder}: {UNLOADABLE} (no config.json); rerun the stage that made it")
    try:
        model = Qwen3ForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, attn_implementation=ATTENTION
        )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: {UNLOADABLE} ({error}); rerun the stage that made it") from error
    if card.actions != fingerprint:
        raise InputError(
            f"{folder}: trained on item ids {card.actions}, but the ids at hand are {fingerprint}; rerun sft"
        )
    return model.eval(), card
