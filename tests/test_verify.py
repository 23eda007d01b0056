"""The check of dvc.lock, on a graph of two stages: what may be absent in a clone, what the remote has to hold."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.small_pipeline import ROOT, run

GRAPH = {
    "make": {
        "cmd": "mkdir data/raw && cp notes.txt data/raw/one && cp stages/show.py data/raw/two && echo 1 > made.json",
        "deps": ["stages/show.py", "notes.txt"],
        "outs": ["data/raw"],
        "metrics": [{"made.json": {"cache": False}}],
    },
    "use": {
        "cmd": "cp data/raw/one data/used",
        "deps": ["data/raw/one", "made.json"],
        "outs": ["data/used"],
    },
    "end": {"cmd": "ls data > last", "deps": ["data"], "outs": ["last"]},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository that has run and pushed, its remote, and a clone as CI has it, Git alone."""
    base = tmp_path_factory.mktemp("verify")
    repository = base / "repository"
    for name in ("stages", ".ci"):
        shutil.copytree(ROOT / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", repository)
    (repository / ".gitignore").write_text("/data/\n/last\n__pycache__/\n")
    (repository / "notes.txt").write_text("notes\n")
    (repository / "dvc.yaml").write_text(yaml.safe_dump({"stages": GRAPH}))
    (repository / "data").mkdir()
    (base / "remote").mkdir()
    run(repository, "git", "init", "-q", "-b", "main")
    run(repository, "dvc", "init", "-q")
    run(repository, "dvc", "remote", "add", "shared", "../remote")
    run(repository, "dvc", "repro", "-q")
    run(repository, "dvc", "push", "-q", "-r", "shared")
    run(repository, "git", "add", "-A")
    run(repository, "git", "commit", "-qm", "first run")
    run(base, "git", "clone", "-q", "repository", "clone")
    return base


@pytest.fixture
def clone(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "own") / "clone"


def lock(clone: Path, *arguments: str, code: int = 0) -> str:
    own = {"DVC_SITE_CACHE_DIR": str(clone.parent / "site"), "AWS_MAX_ATTEMPTS": "1"}
    return run(clone, ".ci/lock", *arguments, code=code, **own)


def test_what_the_cache_holds_may_be_absent_and_what_git_holds_may_not(clone: Path) -> None:
    """Outputs, a file in one, and a folder that several stages fill; but no code, other file or output in Git."""
    assert not (clone / "data").exists()
    assert "dvc.lock is of this code and these parameters" in lock(clone)
    for name in ("stages/show.py", "notes.txt", "made.json"):
        (clone / name).unlink()
    said = lock(clone, code=1)
    (causes,) = re.findall("^  make: (.*)$", said, re.MULTILINE)
    assert set(causes.split(", ")) == {"stages/show.py", "notes.txt", "made.json"}
    assert "\n  use: made.json\n" in said  # as a dependency
    assert "end:" not in said


def test_a_frozen_stage_is_refused(clone: Path) -> None:
    """DVC leaves its dependencies out of `dvc status`."""
    run(clone, "dvc", "freeze", "make")
    (clone / "stages/show.py").write_text("other = 1\n")
    assert "stages/show.py" not in run(clone, "dvc", "status", "--json")
    said = lock(clone, code=1)
    assert "error: dvc.yaml: frozen, so that nobody can say whether they are current: make; take `frozen` out" in said


def test_every_file_of_a_folder_has_to_be_on_the_remote(clone: Path) -> None:
    """One file of a folder is lost, its list of files is there; nothing but lists is fetched to find that."""
    assert "remote shared has all outputs of dvc.lock" in lock(clone, "--remote", "shared")
    two = run(clone, "md5sum", "stages/show.py").split()[0]
    (clone.parent / "remote/files/md5" / two[:2] / two[2:]).unlink()
    shutil.rmtree(clone / ".dvc/cache")
    shutil.rmtree(clone.parent / "site")
    said = lock(clone, "--remote", "shared", code=1)
    assert said.endswith("where they were made\n  data/raw/two\n")
    assert "1 files and folders of dvc.lock are missing; run `dvc push --run-cache`" in said
    assert {path.suffix for path in (clone / ".dvc/cache").rglob("*") if path.is_file()} == {".dir"}


def test_a_remote_that_cannot_be_asked(clone: Path) -> None:
    """No remote of the name, no folder, no server: said as that, and not as data that are missing."""
    assert "remote 'other' doesn't exist" in lock(clone, "--remote", "other", code=1)
    (clone.parent / "remote").rename(clone.parent / "away")
    said = lock(clone, "--remote", "shared", code=1)
    assert f"error: remote shared: no folder {clone.parent / 'remote'}; mount it" in said
    run(clone, "dvc", "remote", "add", "--local", "far", "s3://team/sage")
    run(clone, "dvc", "remote", "modify", "--local", "far", "endpointurl", "http://127.0.0.1:9")
    said = lock(clone, "--remote", "far", code=1)
    assert "error: dvc status --cloud --remote far" in said
    assert "are missing" not in said
