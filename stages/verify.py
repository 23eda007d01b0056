"""Check that dvc.lock and metrics are what the code and params.yaml give, without running or fetching anything.

No stage of the graph. Ends with exit code 1 and names the cells that would have to run again. With a remote, its data
have to be there as well, every file of every folder: only the folders' lists of files are fetched.

    python -m stages.verify
    python -m stages.verify --remote shared
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from stages.core import params, stage
from stages.core.errors import InputError

CAUSES = 3  # shown of one cell
FILES = 20  # shown of a remote


def main(remote: str) -> None:
    params.load()  # names that stand in commands are checked before DVC reads them
    lock_is_current()
    if remote:
        remote_is_whole(remote)


def lock_is_current() -> None:
    """Raises InputError where a cell would have to run again, or where DVC was told not to ask that."""
    status = dvc("status", "--json")
    graph = Repo().index
    if frozen := sorted(cell.addressing for cell in graph.stages if cell.frozen):
        raise InputError(
            f"dvc.yaml: frozen, so that nobody can say whether they are current: {', '.join(frozen)}; take `frozen` out"
        )
    if stale := changed(status, [str(out) for out in graph.outs if out.use_cache]):
        cells = "\n".join(f"  {cell}: {', '.join(causes)}" for cell, causes in stale.items())
        raise InputError(
            f"dvc.lock: not of this code, these parameters or these metrics, in {len(stale)} cells; run `dvc repro` "
            f"and commit dvc.lock and metrics\n{cells}"
        )
    stage.log.info("dvc.lock is of this code and these parameters")


def remote_is_whole(remote: str) -> None:
    """Raises InputError where the remote cannot be asked, or lacks a file of an output of dvc.lock."""
    address = said("config", f"remote.{remote}.url").strip()
    if "://" not in address and not Path(address).is_dir():  # DVC takes such a remote for an empty one
        raise InputError(f"remote {remote}: no folder {address}; mount it, or make it with the first `dvc push`")
    dvc("status", "--cloud", "--remote", remote, "--json")  # fetches the lists of files, which --granular goes through
    asked = ("data", "status", "--granular", "--not-in-remote", "--remote", remote, "--json")
    if missing := dvc(*asked).get("not_in_remote"):
        listed = "\n".join(f"  {path}" for path in some(missing, FILES))
        raise InputError(
            f"remote {remote}: {len(missing)} files and folders of dvc.lock are missing; run `dvc push --run-cache` "
            f"where they were made\n{listed}"
        )
    stage.log.info("remote %s has all outputs of dvc.lock", remote)


def dvc(*arguments: str) -> dict[str, Any]:
    """What a command of DVC says as JSON. Raises InputError where it fails."""
    found: dict[str, Any] = json.loads(said(*arguments) or "{}")
    return found


def said(*arguments: str) -> str:
    """What a command of DVC says. Raises InputError where it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"dvc {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def changed(status: dict[str, Any], cached: Iterable[str]) -> dict[str, list[str]]:
    """By cell, what is another than when it ran, of `dvc status`.

    cached: paths of the outputs that DVC's cache holds; that these are not at hand does not count.
    """
    folders = [Path(path) for path in cached]

    def may_be_absent(name: str) -> bool:
        own = Path(name)  # an output, a file in one, or a folder that several stages fill
        return any(own.is_relative_to(folder) or folder.is_relative_to(own) for folder in folders)

    found: dict[str, list[str]] = {}
    for cell, entries in status.items():
        causes: list[str] = []
        for entry in entries:
            if not isinstance(entry, dict):  # "changed command", "always changed"
                causes.append(str(entry))
                continue
            for parts in entry.values():
                for name, state in parts.items():
                    if isinstance(state, dict):  # keys of params.yaml
                        causes += [f"{name}:{key}" for key in state]
                    elif state != "not in cache" and not (state == "deleted" and may_be_absent(name)):
                        causes.append(name)
        if causes:
            found[cell] = some(causes, CAUSES)
    return found


def some(names: list[str], count: int) -> list[str]:
    """The first names, and how many more there are."""
    return [*names[:count], f"and {len(names) - count} more"] if len(names) > count else names


if __name__ == "__main__":
    stage.run(main, __doc__, remote="")
