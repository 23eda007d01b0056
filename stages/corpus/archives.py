"""Taking named files out of zip and tar archives that others made.

Only members that are asked for are written, under plain names that the caller gives; a path that leaves the archive, a
link, a folder or a device in a member's place, and a member of implausible size are refused before anything is written.
"""

import errno
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from stages.core.errors import InputError

MAX_BYTES = 1 << 36  # of one member, unpacked
MAX_RATIO = 200  # of unpacked to packed bytes, above which it is no data set: logs pack to a tenth or so
PACKED = 1 << 20  # bytes below which the ratio says nothing
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


def extract(archive: Path, members: dict[str, str], into: Path, most: int = MAX_BYTES) -> None:
    """Write the named members of a zip into a folder: name in the archive -> file name. All are checked first.

    most: bytes of one member. Raises InputError where a member is missing or refused, or the archive is damaged.
    """
    with _damage(archive), zipfile.ZipFile(archive) as opened:
        found = {member: _zip_member(opened, member, target, archive.name, most) for member, target in members.items()}
        for member, info in found.items():
            # zipfile reads no more than the size that was checked, and compares the checksum at the end
            with opened.open(info) as source, (into / members[member]).open("wb") as file:
                shutil.copyfileobj(source, file)


def unpack(archive: Path, names: list[str], into: Path) -> None:
    """Write those of the files `names` that an archive, zip or tar, has, at its top or in one of its folders: the
    uppermost that has any.

    Raises InputError where that is not one folder, a member is refused, or the archive is damaged or none.
    """
    if zipfile.is_zipfile(archive):
        with _damage(archive), zipfile.ZipFile(archive) as opened:
            wanted = _wanted(opened.namelist(), names, archive.name)
        extract(archive, wanted, into)
    elif _is_tar(archive):
        _unpack_tar(archive, names, into)
    else:
        raise InputError(f"{archive}: neither a folder nor a zip or tar archive")


def check_gzip(path: Path) -> None:
    """Read a gzip file to its end, in constant memory. Raises InputError where it is damaged, cut short or a bomb."""
    packed, unpacked, buffer = path.stat().st_size, 0, bytearray(1 << 20)
    if not packed:
        raise InputError(f"{path.name}: damaged archive (it is empty); fetch it again")
    with _damage(path), gzip.open(path) as file:
        while count := file.readinto(buffer):
            unpacked += count
            if unpacked > max(packed, PACKED) * MAX_RATIO:
                raise InputError(f"{path.name}: unpacks to more than {MAX_RATIO} times its size; it is refused")


def _unpack_tar(archive: Path, names: list[str], into: Path) -> None:
    budget = max(archive.stat().st_size, PACKED) * MAX_RATIO
    with _damage(archive), tarfile.open(archive) as opened:
        listed: dict[str, tarfile.TarInfo] = {}
        for info in opened:
            budget = _spend(budget, info.size, archive.name)
            listed[info.name] = info
        packing: Any = opened.fileobj
        buffer = bytearray(1 << 20)
        while count := packing.readinto(buffer):  # behind the last member, up to the checksum of the packing
            budget = _spend(budget, count, archive.name)
        wanted = _wanted(list(listed), names, archive.name)
        for member, target in wanted.items():
            _check_names(member, target, archive.name)
            if not listed[member].isreg():
                raise InputError(f"{archive.name}: member '{member}' is a folder or a link, it has to be a plain file")
        for member, target in wanted.items():
            source = opened.extractfile(listed[member])
            assert source is not None, "a plain file has content"
            with source, (into / target).open("wb") as file:
                shutil.copyfileobj(source, file)


def _spend(budget: int, size: int, where: str) -> int:
    """What is left of the bytes that an archive may unpack to."""
    if size > budget:
        raise InputError(f"{where}: unpacks to more than {MAX_RATIO} times its size; it is refused")
    return budget - size


def _wanted(members: list[str], names: list[str], where: str) -> dict[str, str]:
    """The members that are one of the names, in the one uppermost folder that has any."""
    found = {member: _path(member) for member in members if _path(member).name in names and not member.endswith("/")}
    depth = min((len(path.parts) for path in found.values()), default=0)
    folders = sorted({str(path.parent) for path in found.values() if len(path.parts) == depth})
    if len(folders) > 1:
        raise InputError(f"{where}: several folders have the files: {', '.join(folders)}; it has to be one")
    return {member: path.name for member, path in found.items() if str(path.parent) in folders}


def _path(member: str) -> PurePosixPath:
    """A member's path; some archivers of Windows write it with backslashes."""
    return PurePosixPath(member.replace("\\", "/"))


def _zip_member(opened: zipfile.ZipFile, member: str, target: str, where: str, most: int) -> zipfile.ZipInfo:
    """Find one member and refuse what is no plain file of sensible size, or whose target would leave the folder."""
    _check_names(member, target, where)
    try:
        info = opened.getinfo(member)
    except KeyError as error:
        raise InputError(f"{where}: member '{member}' is missing; the pinned release has another layout") from error
    if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
        raise InputError(f"{where}: member '{member}' is a folder or a link, it has to be a plain file")
    if info.file_size > most:
        raise InputError(f"{where}: member '{member}' unpacks to {info.file_size:,} bytes, at most {most:,} allowed")
    if info.file_size > max(info.compress_size, PACKED) * MAX_RATIO:
        raise InputError(f"{where}: member '{member}' unpacks to more than {MAX_RATIO} times its size; it is refused")
    return info


def _check_names(member: str, target: str, where: str) -> None:
    if _path(member).is_absolute() or ".." in _path(member).parts:
        raise InputError(f"{where}: member '{member}' has a path that leaves the archive; it is refused")
    if target in ("", ".", "..") or "/" in target or "\\" in target:
        raise InputError(f"{where}: target '{target}' of member '{member}' is no plain file name")


def _is_tar(archive: Path) -> bool:
    try:
        return tarfile.is_tarfile(archive)
    except (EOFError, zlib.error, OSError):  # packed, and cut short
        return archive.name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar"))


@contextmanager
def _damage(archive: Path) -> Iterator[None]:
    """Turn what the libraries say of a damaged archive into an InputError."""
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{archive.name}: damaged archive ({error}); fetch it again") from error
    except OSError as error:  # bz2 and a seek to nowhere; a full disk is another matter
        if error.errno not in (None, errno.EINVAL):
            raise
        raise InputError(f"{archive.name}: damaged archive ({error}); fetch it again") from error
