"""Check that dvc.lock and metrics are what the code and params.yaml give, without running or fetching anything.

No stage of the graph. Ends with exit code 1 and names the cells that would have to run again. With a remote, its data
have to be there as well, whole: a folder's list of files is pushed behind the files.

    python -m stages.verify
    python -m stages.verify --remote shared
"""

import json
import subprocess
import sys
from typing import Any

from stages.core import params, stage
from stages.core.errors import InputError

ABSENT = ("deleted", "not in cache")  # what a clone without data has of every output
SHOWN = 3  # causes of one cell


def main(remote: str) -> None:
    params.load()  # names that stand in commands are checked before DVC reads them
    if stale := changed(dvc("status", "--json")):
        cells = "\n".join(f"  {cell}: {', '.join(causes)}" for cell, causes in stale.items())
        raise InputError(
            f"dvc.lock: not of this code, these parameters or these metrics, in {len(stale)} cells; run `dvc repro` "
            f"and commit dvc.lock and metrics\n{cells}"
        )
    stage.log.info("dvc.lock is of this code and these parameters")
    if not remote:
        return
    if missing := dvc("data", "status", "--not-in-remote", "--remote", remote, "--json").get("not_in_remote"):
        listed = "\n".join(f"  {path}" for path in missing)
        raise InputError(
            f"remote {remote}: {len(missing)} outputs of dvc.lock are missing; run `dvc push --run-cache` where they "
            f"were made\n{listed}"
        )
    stage.log.info("remote %s has all outputs of dvc.lock", remote)


def dvc(*arguments: str) -> dict[str, Any]:
    """What a command of DVC says as JSON. Raises InputError where it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"dvc {' '.join(arguments)}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found


def changed(status: dict[str, Any]) -> dict[str, list[str]]:
    """By cell, what is another than when it ran, of `dvc status`; that outputs are not at hand does not count."""
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
                    elif state not in ABSENT:
                        causes.append(name)
        if causes:
            more = [f"and {len(causes) - SHOWN} more"] if len(causes) > SHOWN else []
            found[cell] = causes[:SHOWN] + more
    return found


if __name__ == "__main__":
    stage.run(main, __doc__, remote="")
