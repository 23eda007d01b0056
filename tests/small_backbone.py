"""Pretrained models of a few thousand random weights, for the tests of what is made of a backbone."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from stages.core.language_models import Backbone

WORDS = 37  # tokens of the tokenizer
ROWS = 40  # of the model's vocabulary: some have no token, as Qwen3's last ones
SHAPE = {
    "vocab_size": ROWS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
}
LORA = {"r": 2, "alpha": 4.0, "targets": ["q_proj", "v_proj", "down_proj"]}
CONFIGS = {"qwen": lambda **more: Qwen3Config(head_dim=8, **more), "llama": LlamaConfig}


def settings(**changes: object) -> Backbone:
    """A model out of a folder, with adapters."""
    plain = {
        "source": "folder",
        "name": "elsewhere",
        "revision": None,
        "architecture": None,
        "lora": LORA,
        "weights": "fp32",
        "precision": "fp32",
        "gradient_checkpointing": False,
        "sft_lr": 1e-2,
        "rl_lr": 1e-3,
        "spaces": {},
    }
    return Backbone(**{**plain, **changes})


def write_tokenizer(folder: Path) -> None:
    """Words w0 to w36."""
    words = Tokenizer(WordLevel({f"w{number}": number for number in range(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(folder)


def write_model(folder: Path, config, **options: object) -> None:
    """A model of random weights and its tokenizer."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, **options)
    write_tokenizer(folder)


def pretrained_folder(root: Path, kind: str = "qwen", tied: bool = True) -> Path:
    """models/backbones/small below a root, as `download_backbone` leaves it."""
    folder = root / "models" / "backbones" / "small"
    write_model(folder, CONFIGS[kind](tie_word_embeddings=tied, **SHAPE))
    (folder / "generation_config.json").unlink()
    return folder
