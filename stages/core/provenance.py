"""What a cell's numbers came from: hashes of its parameters, inputs and code, and versions, beside them in the metrics.

dvc.lock holds the same and more, but does not travel with a JSON file that somebody copies. The values are lists
because DVC shows scalars of metrics files in its diffs and leaves lists out. Code is what the stage itself depends on;
the stages before it are covered by the hashes of their outputs, the inputs here. A model's files name cell and
parameters alone, and the metrics of the same cell the rest: a comment in the code, or a library's new version, then
gives the same bytes, and what is behind the model does not run again. The commit stands in none: stages/show.py adds
it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from stages.core.errors import InputError

DIGITS = 16  # hex digits of a hash
TABLES = ("numpy", "pyarrow")  # libraries that figures pass through
MODELS = (*TABLES, "accelerate", "peft", "torch", "transformers")
TEMPLATE = re.compile(r"\$\{([\w.-]+)\}")


def provenance(
    stage: str, coordinates: dict[str, str | int], libraries: Iterable[str] = TABLES, root: Path = Path()
) -> list[list[str]]:
    """Return ["cell", name], ["params", hash], ["inputs", hash], ["code", hash] and ["libraries", versions] of a cell.

    coordinates: the values of the stage's matrix keys in dvc.yaml. Deps under stages/ are code, the others inputs.
    Raises InputError where dvc.yaml has no such stage or coordinate, params.yaml no such key, or a dep does not exist.
    """
    graph, values = _yaml(root / "dvc.yaml"), _yaml(root / "params.yaml")
    if stage not in graph["stages"]:
        raise InputError(f"dvc.yaml: no stage '{stage}'; it has {', '.join(graph['stages'])}")
    cell = graph["stages"][stage]
    context = {**values, "item": coordinates}
    deps = sorted(_filled(dep, context) for dep in cell.get("deps", []))
    keys = sorted(_filled(key, context) for key in cell.get("params", []))
    name = "-".join(str(_value(f"item.{key}", context)) for key in cell.get("matrix", {}))
    read = json.dumps({key: _value(key, values) for key in keys}, sort_keys=True)
    code = [dep for dep in deps if dep.startswith("stages/")]
    return [
        ["cell", f"{stage}@{name}" if name else stage],
        ["params", hashlib.sha256(read.encode()).hexdigest()[:DIGITS]],
        ["inputs", hash_of(root, [dep for dep in deps if dep not in code])],
        ["code", hash_of(root, code)],
        ["libraries", ", ".join(f"{library} {version(library)}" for library in sorted(libraries))],
    ]


def made_by(origin: list[list[str]]) -> str:
    """Return a cell's name and the hash of its parameters, for the files that it makes: `rl@..-sage-1 3f2a..`.

    Two runs with other parameters then differ in their files, also where a parameter had no effect; comments in code,
    which another hash covers, leave them alone.
    """
    found = dict(origin)
    return f"{found['cell']} {found['params']}"


def fingerprint(origin: list[list[str]]) -> tuple[str, str]:
    """Return a model's cell and one hash over everything that decides its outcome, but for the hardware.

    origin: its `provenance` with the libraries MODELS, taken before the run: files may change while it lasts.
    """
    (_, cell), *hashes = origin
    return cell, hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:DIGITS]


def hash_of(root: Path, names: Iterable[str]) -> str:
    """Hash files and folders, given relative to `root`: every file's name, size and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(names):
        for path in _files(root / name):
            digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 24):
                    digest.update(block)
    return digest.hexdigest()[:DIGITS]


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or all files of a folder by name, less compiled Python."""
    if path.is_file():
        yield path
    elif path.is_dir():
        inside = sorted(path.rglob("*"), key=lambda file: file.relative_to(path).as_posix())
        yield from (file for file in inside if file.is_file() and "__pycache__" not in file.parts)
    else:
        raise InputError(
            f"{path}: no such file or folder, and dvc.yaml names it as an input; run the stage that writes it"
        )


def _filled(text: str, context: dict[str, Any]) -> str:
    """Put values in the place of ${item.dataset}, ${backbone}, ${encoder}."""
    return TEMPLATE.sub(lambda match: str(_value(match[1], context)), text)


def _value(key: str, values: dict[str, Any]) -> Any:
    """The value under a dotted key."""
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            raise InputError(f"dvc.yaml asks for '{key}', and '{part}' is neither in params.yaml nor a coordinate")
        found = found[part]
    return found


def _yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run stages from the repository's root") from error
    assert isinstance(values, dict), f"{path} is no mapping"
    return values
