"""Every command block of the documentation is run here, or by a test that it names, or says why it is not run.

A comment above the block has it: `run` (here, as it stands, on the small pipeline), `tested: FILE::TEST` (that test
runs the block's commands, on a small pipeline's names where they differ), or `not run: REASON`.
"""

import ast
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.small_pipeline import ROOT, run

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<language>sh|python)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)


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
            mark = re.fullmatch(r"<!-- (.*) -->", match["before"])
            found.append(
                Block(f"{page.relative_to(ROOT)}:{line}", mark[1] if mark else "", match["language"], match["text"])
            )
    return found


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.place)
def test_a_block_says_how_it_is_tested(block: Block) -> None:
    kind, _, rest = block.mark.partition(": ")
    assert kind in ("run", "tested", "not run"), f"{block.place}: no comment above this block; see tests/test_docs.py"
    assert bool(rest) == (kind != "run")
    if kind == "tested":
        file, _, name = rest.partition("::")
        tree = ast.parse((ROOT / file).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, rest


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
