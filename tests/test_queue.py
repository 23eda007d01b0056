"""Experiments in DVC's queue that are killed and stopped: queued again, they end with an undisturbed run's bytes."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
import yaml

from tests.small_pipeline import change, environment, run

pytestmark = pytest.mark.slow

CELL = "rl@ml-100k-semantic_id-sage-1"
CURVE = "metrics/curves/ml-100k/semantic_id-sage/seed-1.csv"
LONG = {"rollouts": 60, "evaluate_every": 20}
PATIENCE = 1800  # seconds, on a machine that does much else
EVERY_STEP = {"SAGE_CHECKPOINT_STEPS": "1"}

Found = TypeVar("Found")


def wait_for(look: Callable[[], Found | None], what: str) -> Found:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.1)
    pytest.fail(f"no {what} within {PATIENCE} s")


def queue(repository: Path, eps_boost: str) -> None:
    overrides = [f"sage.eps_boost={eps_boost}", *(f"rl.{key}={value}" for key, value in LONG.items())]
    run(repository, "dvc", "exp", "run", "--queue", *(part for each in overrides for part in ("-S", each)), CELL)


def start(repository: Path) -> None:
    """Start the worker, which keeps the streams that it is given open for as long as it lives: no pipe to wait on."""
    own = {**environment(repository), **EVERY_STEP}
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["dvc", "queue", "start", "--jobs", "1"], cwd=repository, env=own, check=True, **nowhere)


def training(repository: Path, not_these: set[int]) -> tuple[psutil.Process, float] | None:
    """A process of the queue that trains and has some steps behind it, and its eps_boost."""
    for process in psutil.process_iter(["cmdline"]):
        if "stages.rl" not in (process.info["cmdline"] or []) or process.pid in not_these:
            continue
        try:
            here = Path(process.cwd())
            if here.is_relative_to(repository / ".dvc/tmp/exps") and (here / CURVE).read_text().count("\n") > 5:
                return process, yaml.safe_load((here / "params.yaml").read_text())["sage"]["eps_boost"]
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue  # not begun, or over
    return None


def ended(repository: Path, count: int) -> str | None:
    """What `dvc queue status` says once so many tasks are over and none runs or waits."""
    said = run(repository, "dvc", "queue", "status")
    over = said.count("Success") + said.count("Failed")
    return said if over == count and "Running" not in said and "Queued" not in said else None


def outcomes(repository: Path) -> dict[float, list]:
    """By eps_boost, path and MD5 of everything that the cell of each finished experiment wrote."""
    found = {}
    for line in run(repository, "git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines():
        name, commit = line.split()
        if re.match(r"refs/exps/[0-9a-f]{2}/", name):  # not what DVC keeps there of those that wait or failed
            values = yaml.safe_load(run(repository, "git", "show", f"{commit}:params.yaml"))
            lock = yaml.safe_load(run(repository, "git", "show", f"{commit}:dvc.lock"))
            found[values["sage"]["eps_boost"]] = lock["stages"][CELL]["outs"]
    return found


def undisturbed(repository: Path, folder: Path, eps_boost: float) -> list:
    copy = shutil.copytree(repository, folder / "repository", ignore=shutil.ignore_patterns("exps"))
    change(copy, sage={"eps_boost": eps_boost}, rl=LONG)
    run(copy, "dvc", "repro", "--single-item", CELL)
    return yaml.safe_load((copy / "dvc.lock").read_text())["stages"][CELL]["outs"]


def test_killed_and_stopped_experiments_end_as_undisturbed_ones(first_run: Path, tmp_path: Path) -> None:
    """Three in the queue: SIGKILL, SIGTERM, and one left alone. The first two, queued again, go on where they were."""
    repository = shutil.copytree(first_run, tmp_path / "queue" / "repository")
    queue(repository, "0.2,0.4,0.5")
    start(repository)
    disturbed: dict[float, int] = {}
    pids: set[int] = set()
    for number in (signal.SIGKILL, signal.SIGTERM):
        process, eps_boost = wait_for(lambda: training(repository, pids), "experiment that trains")
        process.send_signal(number)
        pids.add(process.pid)
        disturbed[eps_boost] = number
    said = wait_for(lambda: ended(repository, 3), "end of the queue")
    assert (said.count("Failed"), said.count("Success")) == (2, 1)
    kept = list((repository.parent / "checkpoints").glob(f"{CELL}-*/state.safetensors"))
    assert len(kept) == 2
    (left_alone,) = outcomes(repository)
    assert {left_alone, *disturbed} == {0.2, 0.4, 0.5}
    run(repository, "dvc", "queue", "remove", "--failed")
    queue(repository, ",".join(map(str, disturbed)))
    start(repository)
    said = wait_for(lambda: ended(repository, 3), "end of the queue")
    assert said.count("Success") == 3
    logs = [path.read_text() for path in (repository / ".dvc/tmp/exps/run").rglob("*.out")]
    assert sum("resuming from" in log for log in logs) == 2
    assert not list((repository.parent / "checkpoints").glob(f"{CELL}-*/state.safetensors"))
    found = outcomes(repository)
    for eps_boost in disturbed:
        assert found[eps_boost] == undisturbed(repository, tmp_path / str(eps_boost), eps_boost)
