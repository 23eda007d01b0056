"""Every command block of the documentation is run here, or by a test that it names, or says why it is not run.

A comment above the block has it: `run` (here, as it stands, on the small pipeline), `tested: FILE::TEST, ::TEST` (these
tests run the block's commands, on a small pipeline's names where they differ), or `not run: REASON`, which may stand
behind a single line as well. That a named test has each command is looked up in its source.
"""

import ast
import itertools
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.small_pipeline import ROOT, run

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = r"(?:^<!-- (?P<mark>[^>]*) -->\n)?"
BLOCK = re.compile(MARK + r"^```(?P<language>sh|python)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
OF_THE_SHELL = ("cd", "export", "source")


class Block(NamedTuple):
    place: str
    mark: str
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("text"))
            mark = " ".join((match["mark"] or "").split())
            found.append(Block(f"{page.relative_to(ROOT)}:{line}", mark, match["language"], match["text"]))
    return found


def commands(text: str) -> list[str]:
    """The commands of a block, less comments and lines that are not run."""
    lines = [line for line in text.splitlines() if not re.search("# .*not run: ", line)]
    return [part.strip() for line in lines for part in re.sub("(^| )# .*", "", line).split("&&") if part.strip()]


def needed(command: str) -> list[str]:
    """What a test of a command has to have: its first words in a row, its long options, the names that it sets."""
    words = shlex.split(command)
    names = [match[1] for word in words if (match := re.match(r"([\w.]+)=", word))]
    while words and re.match(r"\w+=", words[0]):
        words.pop(0)
    if words[:2] == ["python", "-m"]:
        return [f"-m {words[2]}", *(word for word in words[3:] if word.startswith("--"))]
    first = list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z]+|\.ci/[a-z]+", word), words))
    phrase = [" ".join(first)] if words and words[0] not in OF_THE_SHELL else []
    return [*phrase, *(word for word in words if word.startswith("--")), *names]


def source(file: str, tests: list[str]) -> str:
    """The words of some tests, and of the functions of their file that they call or take as fixtures."""
    text = (ROOT / file).read_text()
    functions = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    taken: dict[str, str] = {}
    new = list(tests)
    while new:
        name = new.pop()
        node = functions[name]
        taken[name] = ast.get_source_segment(text, node)
        used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} | {arg.arg for arg in node.args.args}
        new += [other for other in used & functions.keys() if other not in taken]
    return re.sub(r"""["',\s]+""", " ", " ".join(taken.values()))


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.place)
def test_a_block_says_how_it_is_tested(block: Block) -> None:
    kind, _, rest = block.mark.partition(": ")
    assert kind in ("run", "tested", "not run"), f"{block.place}: no comment above this block; see tests/test_docs.py"
    assert bool(rest) == (kind != "run")
    if kind == "tested":
        file, *tests = rest.replace(",", "").replace(" ", "").split("::")
        words = source(file, tests)
        for command in commands(block.text) if block.language == "sh" else []:
            for part in needed(command):
                assert re.search(rf"(?<![\w-]){re.escape(part)}(?![\w-])", words), f"{rest}: no `{part}` of `{command}`"


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("dvc remote modify --local shared profile team", ["dvc remote modify", "--local"]),
        ("SAGE_PROCESSES=8 dvc repro", ["dvc repro", "SAGE_PROCESSES"]),
        ("dvc exp run --queue -S 'rl.kl=0.1'", ["dvc exp run", "--queue", "rl.kl"]),
        ("export SAGE_CHECKPOINT_STEPS=50", ["SAGE_CHECKPOINT_STEPS"]),
        ("python -m stages.show --row x", ["-m stages.show", "--row"]),
        (".ci/lock --remote shared", [".ci/lock", "--remote"]),
    ],
)
def test_what_a_test_of_a_command_has_to_have(command: str, parts: list[str]) -> None:
    assert needed(command) == parts


@pytest.mark.slow
def test_blocks_run(first_run: Path, tmp_path: Path) -> None:
    """In the order of the pages, line by line, in one copy of the small pipeline."""
    repository = shutil.copytree(first_run, tmp_path / "repository")
    chosen = [block for block in blocks() if block.mark == "run"]
    assert len(chosen) >= 3
    for block in chosen:
        assert block.language == "sh", block.place
        said = run(repository, "bash", "-euc", block.text)
        if "exp show" in block.text:
            assert max(map(len, said.splitlines())) <= 120, block.place
