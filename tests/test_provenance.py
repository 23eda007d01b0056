"""Provenance of a small graph: names, what moves which hash."""

from importlib.metadata import version

import pytest

from stages.core.errors import InputError
from stages.core.provenance import provenance

GRAPH = """
stages:
  evaluate:
    matrix:
      dataset: ${datasets}
      seed: ${seeds}
    deps:
      - stages/evaluate.py
      - stages/measures
      - data/${item.dataset}/${encoder}
    params:
      - evaluate
      - backbones.${backbone}
  single:
    deps:
      - data/toy
"""
PARAMS = """
backbone: tiny
encoder: corpus
backbones:
  tiny:
    layers: 2
  large:
    layers: 9
evaluate:
  seed: 1
"""
CELL = {"dataset": "toy", "seed": 7}


@pytest.fixture
def root(tmp_path):
    for name, text in {
        "dvc.yaml": GRAPH,
        "params.yaml": PARAMS,
        "stages/evaluate.py": "one",
        "stages/measures/accuracy.py": "two",
        "data/toy/corpus/items": "three",
        "data/toy/corpus/deep/users": "four",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def changed(root, path, text):
    """Which entries change when a file gets this text."""
    before = provenance("evaluate", CELL, root=root)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    after = provenance("evaluate", CELL, root=root)
    return [old[0] for old, new in zip(before, after, strict=True) if old != new]


def test_cell_is_named_as_dvc_names_it(root):
    found = provenance("evaluate", CELL, root=root)
    assert [entry[0] for entry in found] == ["cell", "params", "inputs", "code", "libraries"]
    assert found[0][1] == "evaluate@toy-7"
    assert all(len(entry[1]) == 16 for entry in found[1:4])
    assert found[4][1] == f"numpy {version('numpy')}, pyarrow {version('pyarrow')}"
    assert provenance("single", {}, root=root)[0][1] == "single"
    assert found == provenance("evaluate", CELL, root=root)


@pytest.mark.parametrize(
    ("path", "text", "moved"),
    [
        ("stages/evaluate.py", "new", ["code"]),
        ("stages/measures/new.py", "", ["code"]),
        ("data/toy/corpus/deep/users", "new", ["inputs"]),
        ("params.yaml", PARAMS.replace("layers: 2", "layers: 3"), ["params"]),
        ("params.yaml", PARAMS.replace("layers: 9", "layers: 8"), []),
        ("stages/measures/__pycache__/accuracy.pyc", "compiled", []),
        ("stages/other.py", "not a dependency", []),
    ],
)
def test_only_what_the_stage_depends_on_moves_its_hash(root, path, text, moved):
    assert changed(root, path, text) == moved


def test_a_moved_line_between_files_is_a_change(root):
    """Names and sizes are hashed too: `ab` + `c` is not `a` + `bc`."""
    (root / "data/toy/corpus/items").write_text("thre")
    assert changed(root, "data/toy/corpus/deep/users", "efour") == ["inputs"]


@pytest.mark.parametrize(
    ("stage", "cell", "message"),
    [
        ("evalute", CELL, "no stage 'evalute'"),
        ("evaluate", {"seed": 7}, "'dataset' is neither in params.yaml nor a coordinate"),
        ("evaluate", {"dataset": "toys", "seed": 7}, "no such file or folder"),
    ],
)
def test_faults_are_named(root, stage, cell, message):
    with pytest.raises(InputError, match=message):
        provenance(stage, cell, root=root)
