"""The tokenizer of backbones from scratch, and the chat form of those that come with one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from stages.core.errors import InputError
from stages.rendering import tokenizer
from stages.rendering.chat import ChatForm, chat_form

ROOT = Path(__file__).parents[1]
LINES = ["Heat | 1995, Action, Crime\nCasper | 1995, Comedy\n\nUser: age 24\n"] * 5 + ["Toy Story (liked)\nno\n"] * 3
PROCESS = """
import sys
from pathlib import Path
from stages.rendering.tokenizer import train
from tests.test_tokenizer import LINES
train(LINES + [f"film {number * number} of {number % 97}\\n" for number in range(3000)], 600, Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.train(LINES, 400, folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def ids(trained: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(trained.encode(text, add_special_tokens=False))


def test_special_tokens_come_first_and_the_vocabulary_is_kept(trained: PreTrainedTokenizerBase) -> None:
    assert (trained.pad_token_id, trained.eos_token_id) == (0, 1)
    assert len(trained) <= 400
    assert len(ids(trained, " 1995")) == 1


def test_a_line_break_is_a_token_by_itself(trained: PreTrainedTokenizerBase) -> None:
    breaks = [token for token in trained.get_vocab() if "\u010a" in token]  # byte 10 in the alphabet of byte-level BPE
    assert breaks == ["\u010a"]
    number = ids(trained, "\n")
    assert len(number) == 1
    assert ids(trained, "no\n\n\nCasper\n").count(number[0]) == 4


def test_lines_one_by_one_are_the_whole(trained: PreTrainedTokenizerBase) -> None:
    whole = "User: age 24\n\n  Heat \n1995 | Comedy\r\n\tend"
    pieces = [number for line in whole.splitlines(keepends=True) for number in ids(trained, line)]
    assert pieces == ids(trained, whole)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_every_text_comes_back(trained: PreTrainedTokenizerBase, text: str) -> None:
    assert trained.decode(ids(trained, text)) == text


def test_what_looks_like_a_special_token_is_text(trained: PreTrainedTokenizerBase) -> None:
    for text in ("<pad>", "Heat<end>", "<end>\n"):
        assert not {0, 1} & set(ids(trained, text))
        assert trained.decode(ids(trained, text)) == text


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    for name, threads, seed in (("one", "1", "1"), ("two", "4", "2")):
        chosen = {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", PROCESS, str(tmp_path / name)]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **chosen}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert first == second
    assert set(first) == {"tokenizer.json", "tokenizer_config.json"}
    assert not any(str(tmp_path).encode() in data for data in first.values())
    assert len(json.loads(first["tokenizer.json"])["model"]["vocab"]) == 600


# --- Chat ----------------------------------------------------------------------------------------------------------

PLAIN = """{% for message in messages %}<|{{ message.role }}|>
{{ message.content | trim }}<|stop|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""
THINKING = PLAIN + "{% if enable_thinking is defined and enable_thinking is false %}<think></think>\n{% endif %}"
DATED = "{{ strftime_now('%d %b %Y') }} " + PLAIN


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (None, ChatForm("", "")),
        (PLAIN, ChatForm("<|user|>\n", "<|stop|>\n<|assistant|>\n")),
        (THINKING, ChatForm("<|user|>\n", "<|stop|>\n<|assistant|>\n<think></think>\n")),
        (DATED, ChatForm("01 Jan 2026 <|user|>\n", "<|stop|>\n<|assistant|>\n")),
    ],
)
def test_chat_form(trained: PreTrainedTokenizerBase, template: Any, form: ChatForm) -> None:
    trained.chat_template = template
    assert chat_form(trained) == form


def test_chat_form_without_a_tokenizer() -> None:
    assert chat_form(None) == ("", "")


@pytest.mark.parametrize(("template", "times"), [("hello", 0), ("{{ messages[0].content }}" * 2, 2)])
def test_a_template_that_loses_the_message(trained: PreTrainedTokenizerBase, template: str, times: int) -> None:
    trained.chat_template = template
    with pytest.raises(InputError, match=f"shows the user's message {times} times"):
        chat_form(trained)
