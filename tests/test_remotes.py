"""Two people and a remote, S3 or a folder: nothing is trained twice, and one that goes away costs a second try."""

import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.s3_server import BUCKET, CREDENTIALS, served
from tests.small_pipeline import change, environment, run, stages_run

pytestmark = pytest.mark.slow

SAGE_CELLS = {f"{stage}@ml-100k-semantic_id-sage-1" for stage in ("rl", "recommend", "evaluate")} | {"tabulate@ml-100k"}
RECOMMEND = "recommend@ml-100k-semantic_id-sage-1"
PART = 20_000_000  # bytes, of a push of some 90 million


def hub_of(repository: Path) -> Path:
    """The repository's committed state on a Git host, its `origin`."""
    hub = repository.parent / "hub.git"
    run(repository.parent, "git", "clone", "-q", "--bare", str(repository), str(hub))
    run(repository, "git", "remote", "add", "origin", str(hub))
    return hub


def cloned(hub: Path, target: Path) -> Path:
    run(target.parent, "git", "clone", "-q", str(hub), str(target))
    return target


def a_change_goes_over(clone: Path, theirs: dict[str, str], repository: Path, own: dict[str, str]) -> None:
    """B changes one value, runs what depends on it and pushes; A has the commit with its data, and trains nothing."""
    output = run(clone, "dvc", "exp", "run", "-S", "sage.eps_boost=0.5", **theirs)
    assert stages_run(output) == SAGE_CELLS
    run(clone, "git", "add", "params.yaml", "dvc.lock", "metrics")
    run(clone, "git", "commit", "-qm", "eps_boost of 0.5")
    run(clone, "git", "push", "-q")
    run(clone, "dvc", "push", "--run-cache", **theirs)
    run(repository, "git", "pull", "-q", "origin", "main")
    run(repository, "dvc", "pull", "--run-cache", **own)
    assert not stages_run(run(repository, "dvc", "repro", **own))


def refused(repository: Path, *command: str, **variables: str) -> str:
    """What a command says that ends with an error."""
    own = {**environment(repository), **variables}
    done = subprocess.run(command, cwd=repository, env=own, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_two_people_and_an_s3_remote(first_run: Path, tmp_path: Path) -> None:
    """A pushes, B pulls and trains nothing, changes one value, pushes; A has B's commit without training, and of a run
    that is in no commit at hand what the run cache holds. Cut in between, a push and a pull fail with a message, and
    the same command then completes."""
    repository = shutil.copytree(first_run, tmp_path / "a" / "repository")
    own = {**CREDENTIALS, "DVC_SITE_CACHE_DIR": str(tmp_path / "site-a")}
    theirs = {**CREDENTIALS, "DVC_SITE_CACHE_DIR": str(tmp_path / "site-b")}
    with served() as line:
        address = f"http://127.0.0.1:{line.port}"
        run(repository, "dvc", "remote", "add", "--default", "shared", f"s3://{BUCKET}/sage")
        run(repository, "git", "commit", "-qam", "remote")
        run(repository, "dvc", "remote", "modify", "--local", "shared", "endpointurl", address)
        line.cut_after(PART)
        assert "ERROR: failed to" in refused(repository, "dvc", "push", "--run-cache", **own)
        assert line.is_cut
        line.mend()
        assert "pushed" in run(repository, "dvc", "push", "--run-cache", **own)

        (tmp_path / "b").mkdir()
        clone = cloned(hub_of(repository), tmp_path / "b" / "clone")
        assert "endpointurl" not in (clone / ".dvc/config").read_text()  # the colleague says his own
        run(clone, "dvc", "remote", "modify", "--local", "shared", "endpointurl", address)
        line.cut_after(PART)
        assert "ERROR: failed to" in refused(clone, "dvc", "pull", "--run-cache", **theirs)
        line.mend()
        run(clone, "dvc", "pull", "--run-cache", **theirs)
        assert not stages_run(run(clone, "dvc", "repro", **theirs))

        a_change_goes_over(clone, theirs, repository, own)
        run(repository, "git", "checkout", "-q", "HEAD~1", "--", "params.yaml", "dvc.lock", "metrics")
        run(repository, "dvc", "checkout", **own)
        back = run(repository, "dvc", "exp", "run", "-S", "sage.eps_boost=0.5", **own)
        assert stages_run(back) == SAGE_CELLS - {RECOMMEND}  # which has no file in Git: it is his, from the run cache


def names(remote: Path, error: str) -> bool:
    """Whether DVC says where it failed: with a file of the remote, or with the folder itself, as it happens."""
    return "ERROR: " in error and str(remote) in error


def size_of(path: Path) -> int:
    """Bytes of a file that another process may remove at any time."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def point(remote: Path, target: Path) -> None:
    """Let the remote, a link, be another folder or a file from one moment to the next, as a mount that is lost."""
    link = remote.with_name("link")
    link.symlink_to(target)
    link.replace(remote)


def take_away(remote: Path, when: Path) -> threading.Thread:
    """Put a file in the remote's place as soon as there is a whole file below `when`: DVC tries a reflink first, which
    leaves an empty one at the object's own name for an instant, and for good where the folder is gone by then."""

    def watch() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if any(size_of(path) for path in when.glob("files/md5/*/*")):
                point(remote, Path(__file__))
                return
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_two_people_and_a_folder(first_run: Path, tmp_path: Path) -> None:
    """The same with a shared folder, which goes away in the middle of a push and of a pull. A clone without data says
    that nothing changed without fetching anything, and fetches what a change needs."""
    repository = shutil.copytree(first_run, tmp_path / "a" / "repository")
    own = {"DVC_SITE_CACHE_DIR": str(tmp_path / "site-a")}
    theirs = {"DVC_SITE_CACHE_DIR": str(tmp_path / "site-b")}
    remote, store = tmp_path / "remote", tmp_path / "store"
    store.mkdir()
    point(remote, store)
    run(repository, "dvc", "remote", "add", "--default", "shared", str(remote))
    run(repository, "git", "commit", "-qam", "remote")
    watcher = take_away(remote, remote)
    assert names(remote, refused(repository, "dvc", "push", "--run-cache", "--jobs", "1", **own))
    watcher.join()
    point(remote, store)
    run(repository, "dvc", "push", "--run-cache", **own)
    (tmp_path / "b").mkdir()
    hub = hub_of(repository)
    bare = cloned(hub, tmp_path / "b" / "bare")
    assert not stages_run(run(bare, "dvc", "repro", "--pull", "--allow-missing", **theirs))
    assert not (bare / "models").exists()
    change(bare, evaluate={"resamples": 200})
    cell = "evaluate_baseline@ml-100k-popularity-1"
    assert stages_run(run(bare, "dvc", "repro", "--pull", "--allow-missing", cell, **theirs)) == {cell}
    assert (bare / "data/ml-100k/corpus").exists()
    assert not (bare / "models").exists()
    clone = cloned(hub, tmp_path / "b" / "clone")
    watcher = take_away(remote, clone / ".dvc/cache")
    assert names(remote, refused(clone, "dvc", "pull", "--run-cache", "--jobs", "1", **theirs))
    watcher.join()
    point(remote, store)
    run(clone, "dvc", "pull", "--run-cache", **theirs)
    assert not stages_run(run(clone, "dvc", "repro", **theirs))
    assert not run(clone, "git", "status", "--porcelain")
    a_change_goes_over(clone, theirs, repository, own)
