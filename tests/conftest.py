"""What several tests need: the repository on the path, and copies of the project that a test may change."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import stages  # noqa: E402, F401 - sets what OpenMP reads before a test imports torch
from stages.core.checkpoints import Checkpoint  # noqa: E402
from tests import small_pipeline, small_policy  # noqa: E402


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of code, parameters and graph, without data, models or Git."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "stages", root / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    return root


@pytest.fixture
def python(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python with some arguments in the copy."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *arguments], cwd=project, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small pipeline after its first run, made once for all processes of a test run: copy it, do not change it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with FileLock(base / "first-run.lock"):
        made = base / "first-run"
        if not (made / "whole").exists():
            small_pipeline.first_run(made)
            (made / "whole").touch()
    return made / "repository"


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """14 items of two codes."""
    return small_policy.catalogue(tmp_path_factory.mktemp("actions"))


@pytest.fixture(scope="module")
def model(space):
    return small_policy.sharp_model(space)


@pytest.fixture(scope="module")
def asked(space):
    """Contexts of 1, 5, 3 and 0 items, seen items banned: padding, and lists of different lengths."""
    return space.prompts_of(small_policy.CONTEXTS, 4, "slate", True)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> Checkpoint:
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return Checkpoint("sft-test", "f00d")
