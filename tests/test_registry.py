"""A policy, its ids and its corpus out of the registry, into a fresh folder, and a slate in three lines."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.small_pipeline import ROOT, environment, run

LINES = re.search(r"```python\n(from stages\.serve.*?)```", (ROOT / "docs/team.md").read_text(), re.DOTALL)[1]

PLACES = ("models/ml-100k/semantic_id/sage/seed-1", "data/ml-100k/actions/semantic_id", "data/ml-100k/corpus")


@pytest.mark.slow
def test_a_slate_from_the_registry(first_run: Path, tmp_path: Path) -> None:
    """Ten titles of the catalogue, none of them of the history, the same as the policy gives in place."""
    repository = shutil.copytree(first_run, tmp_path / "a" / "repository")
    (tmp_path / "remote").mkdir()
    run(repository, "dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    run(repository, "git", "commit", "-qam", "remote")
    run(repository, "dvc", "push")
    hub = tmp_path / "hub.git"
    run(tmp_path, "git", "clone", "-q", "--bare", str(repository), str(hub))
    folders = {"ml-100k-sage": "policy", "ml-100k-ids": "ids", "ml-100k-corpus": "corpus"}
    for name in folders:
        run(repository, "gto", "register", name)
    run(repository, "git", "push", "-q", "--tags", str(hub))
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for name, folder in folders.items():
        run(fresh, "dvc", "artifacts", "get", str(hub), name, "-o", folder)
    assert "rl@ml-100k-semantic_id-sage-1" in (fresh / "policy/README.md").read_text()
    in_place = LINES.replace('"policy", "ids", "corpus"', str(PLACES)[1:-1])
    own_slate = run(repository, sys.executable, "-c", in_place).strip().splitlines()[-1]
    shutil.rmtree(repository / "models")
    shutil.rmtree(repository / "data")
    said = run(fresh, sys.executable, "-c", LINES, PYTHONPATH=str(repository))
    assert said.strip().splitlines()[-1] == own_slate
    slate = ast.literal_eval(own_slate)
    titles = dict(pd.read_parquet(fresh / "corpus/items.parquet")[["item_id", "title"]].to_numpy().tolist())
    assert len(slate) == len(dict(slate)) == 10
    assert all(titles[item] == title for item, title in slate)
    assert not {"50", "172", "181"} & dict(slate).keys()
    named = (part for folder in folders.values() for part in (f"--{folder}", folder))
    command = [sys.executable, "-m", "stages.serve", *named, "--history", "50 172 181"]
    assert run(fresh, *command, PYTHONPATH=str(repository)).endswith(
        "".join(f"{item}\t{title}\n" for item, title in slate)
    )
    unknown = LINES.replace('"50"', '"none"')
    own = {**environment(repository), "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", unknown], cwd=fresh, env=own, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("InputError: 'none' is no item_id of the catalogue")
