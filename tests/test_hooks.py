"""The hooks of .pre-commit-config.yaml, installed and run by Git in a small repository."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.small_pipeline import environment, run

pytestmark = pytest.mark.slow


def test_hooks(first_run: Path, tmp_path: Path) -> None:
    """A file that is not formatted is refused; one that is goes in, with DVC's status; a push takes the data along."""
    repository = shutil.copytree(first_run, tmp_path / "a" / "repository")
    own = environment(repository) | {
        "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"),
        "SKIP": "mypy",
    }  # it takes minutes
    run(repository, "pre-commit", "install")
    assert {"pre-commit", "pre-push", "post-checkout"} <= {path.name for path in (repository / ".git/hooks").iterdir()}

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=repository, env=own, capture_output=True, text=True)

    added = repository / "stages/added.py"
    added.write_text("import pickle\nx = pickle.loads( b'' )\n")
    git("add", "stages/added.py")
    refused = git("commit", "-m", "bad")
    assert refused.returncode == 1
    assert "ruff format" in refused.stderr
    assert "S301" in refused.stderr
    assert "Data and pipelines are up to date" in refused.stderr
    added.write_text('"""Nothing."""\n')
    run(repository, "dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    git("add", "stages/added.py", ".dvc/config")
    assert git("commit", "-m", "good").returncode == 0
    run(tmp_path, "git", "init", "-q", "--bare", "hub.git")
    pushed = git("push", "-q", str(tmp_path / "hub.git"), "main")
    assert pushed.returncode == 0, pushed.stderr
    assert len(list((tmp_path / "remote/files/md5").glob("*/*"))) > 30
    assert list((tmp_path / "remote/runs").rglob("*"))
    policy = repository / "models/ml-100k/semantic_id/sage/seed-1/policy.json"
    policy.unlink()
    assert git("checkout", "-qb", "other").returncode == 0
    assert policy.exists()  # post-checkout


def test_a_push_without_a_remote(first_run: Path, tmp_path: Path) -> None:
    """The hook leaves it be."""
    repository = shutil.copytree(first_run, tmp_path / "a" / "repository", ignore=shutil.ignore_patterns("models"))
    (tmp_path / "hub.git").mkdir()
    run(tmp_path / "hub.git", "git", "init", "-q", "--bare")
    own = {"PRE_COMMIT_HOME": str(tmp_path / "pre-commit")}
    run(repository, "pre-commit", "install", **own)
    said = run(repository, "git", "push", "-q", str(tmp_path / "hub.git"), "main", **own)
    assert re.search(r"^dvc push\.+Passed$", said, re.MULTILINE)  # it ran
