"""What every stage's command line does alike: arguments, log, errors, progress."""

import argparse
import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from stages.core import params
from stages.core.errors import InputError

Item = TypeVar("Item")

log = logging.getLogger("stages")

LOG_EVERY = 15.0  # seconds
PROCESSES = "SAGE_PROCESSES"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")  # accelerate's launcher starts one process on a CPU

COORDINATES = {
    "dataset": "name of a data set: a key of corpora in params.yaml",
    "space": "action space: a module of stages/action_spaces",
    "optimizer": "a module of stages/objectives, a key of ablations in params.yaml, or <optimizer>_round2",
    "baseline": "a module of stages/baselines",
    "row": "row of the tables: <space>-<optimizer>, or a baseline's name",
    "encoder": "name of a sentence encoder",
    "backbone": "name of a language model: a key of backbones in params.yaml",
    "seed": "seed of everything random in this cell",
    "user": "the source's id of a user",
    "split": "test, or valid",
    "rev": "commit, branch or tag of Git to compare with",
    "report": "address of the report with charts",
    "remote": "name of a DVC remote that has to hold the data; without it none is asked",
    "policy": "folder of a policy out of the registry",
    "ids": "folder of the Semantic IDs that it writes",
    "corpus": "folder of the corpus that it was trained on",
    "history": "the source's ids of items, oldest first, with spaces between",
    "decoder": "slate, beam, list, ..; without it the one that the row is judged by",
}


def run(
    stage: Callable[..., None],
    doc: str | None,
    *coordinates: str,
    shared_out: bool = False,
    flags: dict[str, str] | None = None,
    **defaults: str,
) -> None:
    """Parse the cell's coordinates, call the stage with them, and turn an InputError into one line and exit code 1.

    shared_out: whether the stage can run as several processes, SAGE_PROCESSES of them; flags: switches and what each is
    for; defaults: of further coordinates that may be left out.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {stage.__module__ if stage.__module__ != '__main__' else _module_name()}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in (*coordinates, *defaults):
        kind = int if name == "seed" else str
        asked = name in coordinates
        parser.add_argument(f"--{name}", required=asked, default=defaults.get(name), type=kind, help=COORDINATES[name])
    for name, what in (flags or {}).items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    arguments = vars(parser.parse_args())
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr, level=logging.WARNING)
    log.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    if shared_out and (processes := _processes()) > 1 and "RANK" not in os.environ:
        os.execv(
            sys.executable,
            [sys.executable, *TORCHRUN, f"--nproc-per-node={processes}", "-m", parser.prog.split()[-1], *sys.argv[1:]],
        )
    try:
        if "dataset" in arguments:
            params.load().corpus(arguments["dataset"])  # a misspelt name is named before anything is looked for
        stage(**arguments)
    except InputError as error:
        log.error("error: %s", error)
        sys.exit(1)
    except Exception as error:
        if not _no_room(error):
            raise
        log.error("error: %s: no space is left to write there (%s); make room and run again", _place(error), error)
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("interrupted; started again with the same parameters, what trains goes on from its last checkpoint")
        sys.exit(130)


def _place(error: Exception) -> str:
    """The file of an error of writing, where it names one."""
    return str(getattr(error, "filename", None) or Path.cwd())


def is_main_process() -> bool:
    """Whether this process is the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def _processes() -> int:
    """How many processes the environment asks for. The number stands in no command: it would be part of DVC's keys."""
    value = os.environ.get(PROCESSES, "1")
    if not value.isdecimal() or int(value) < 1:
        log.error("error: %s=%s is no number of processes", PROCESSES, value)
        sys.exit(1)
    return int(value)


def _no_room(error: Exception) -> bool:
    """Whether a write failed because the disk or the quota is full, also where a library says so in words alone."""
    said = any(os.strerror(code) in str(error) for code in DISK_FULL)
    return said or (isinstance(error, OSError) and error.errno in DISK_FULL)


def _module_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else sys.argv[0]


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a progress bar on a terminal, or with a line of log every LOG_EVERY seconds elsewhere."""
    if not is_main_process():
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, leave=False, dynamic_ncols=True)
        return
    count = total if total is not None else len(items) if isinstance(items, Sized) else None
    started = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= LOG_EVERY:
            said = now
            log.info("%s: %d/%s after %.0f s", what, done, count or "?", now - started)
