"""A file from one of several hosts, with resume, retries, a check of space, and its hash held.

pooch keeps the file in the user's cache and compares hashes; stages/corpus/transfer.py brings it. The cache is
SAGE_DOWNLOADS, or a folder under the user's ~/.cache: outside the repository, because DVC deletes what a stage had
written before it runs again. One run at a time transfers a file; a second waits and takes what the first has brought.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pooch
from filelock import FileLock, Timeout

from stages.core.errors import InputError
from stages.core.files import fresh_file
from stages.core.stage import log
from stages.corpus.archives import check_gzip
from stages.corpus.transfer import CACHE, RefusedError, Transfer, demand_space


def fetch(name: str, hosts: list[str], sha256: str | None, into: Path) -> str:
    """Bring the gzip file `name` from the first host that gives it into a folder; returns its SHA-256.

    sha256: what it has to be; null: what it was when this user first had it, if ever. Raises InputError that says for
    each host what was wrong, or that the disk is full; what has arrived is kept for the next run.
    """
    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "sage" / "downloads")
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / f"{name}.lock", name):
        file = _cached(name, hosts, sha256, cache)
        demand_space(into, file.stat().st_size, file.stat().st_size)
        shutil.copyfile(file, into / name)
        return _recorded(cache / f"{name}.sha256") or _hash(file)


def take(name: str, folder: Path, sha256: str | None, into: Path) -> str:
    """The same from a folder of the user's."""
    file = demand(name, folder)
    check_gzip(file)
    found = _hash(file)
    if sha256 is not None and found != sha256:
        raise InputError(f"{file}: sha256 is {found}, expected {sha256}; it is not the file that was pinned")
    shutil.copyfile(file, into / name)
    return found


def demand(name: str, folder: Path) -> Path:
    """The file in the user's folder. Raises InputError where it is not there."""
    if not (folder / name).is_file():
        raise InputError(f"{folder}: no {name} there; the folder has to hold the file as it is published")
    return folder / name


def _cached(name: str, hosts: list[str], sha256: str | None, cache: Path) -> Path:
    """The file in the cache, fetched if it is not there."""
    record = cache / f"{name}.sha256"
    known = sha256 or _recorded(record)
    if known is None and (cache / name).exists():
        try:
            check_gzip(cache / name)
        except InputError:
            (cache / name).unlink()
    pooch.get_logger().setLevel(logging.ERROR)
    said = []
    for host in hosts:
        url = f"{host.rstrip('/')}/{name}"
        try:
            file = Path(pooch.retrieve(url, known, name, cache, downloader=Transfer(cache / f"{name}.part")))
        except RefusedError as refused:
            said.append(f"{url}: {refused}")
        except ValueError as mismatch:  # pooch's, with both hashes
            source = "params.yaml" if sha256 else f"{record} by the first download; remove that if the change is meant"
            said.append(f"{url}: another file than the one pinned in {source} ({mismatch})")
        else:
            found = _hash(file)
            if known is None:
                log.info("%s: sha256 %s, pinned from now on; put it under sha256 to pin it for others", name, found)
            with fresh_file(record) as scratch:
                scratch.write_text(f"{found}\n")
            return file
    said.append("Name a mirror under `hosts`, or fetch the file by hand and name its folder under `path`")
    raise InputError("\n  ".join([f"{name} could not be fetched:", *said]))


def _recorded(record: Path) -> str | None:
    return record.read_text().strip() or None if record.exists() else None


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Hold the lock of a file; waits for a run that has it."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        log.info("%s: another run fetches it, waiting", name)
        held.acquire()
    try:
        yield
    finally:
        held.release()
