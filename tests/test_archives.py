"""Zip and tar archives that would harm: paths that escape, links, devices, bombs, damage. None is unpacked."""

import bz2
import gzip
import io
import lzma
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.core.files import fresh_folder
from stages.corpus.archives import unpack

NAMES = ["interactions.csv", "items.csv"]


def zipped(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return path


def tarred(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                archive.addfile(info)
    return path


both = pytest.mark.parametrize(("pack", "name"), [(zipped, "x.zip"), (tarred, "x.tar.gz")])
Pack = Callable[..., Path]


def refused(archive: Path, into: Path) -> str:
    with pytest.raises(InputError) as caught, fresh_folder(into) as scratch:
        unpack(archive, NAMES, scratch)
    assert sorted(path.name for path in into.parent.iterdir()) == [archive.name]
    return str(caught.value)


@both
def test_what_is_asked_for_is_taken(tmp_path: Path, pack: Pack, name: str) -> None:
    members = {"d/items.csv": b"1", "d/e/items.csv": b"2", "d/other": b"3", "d/interactions.csv": b"4"}
    with fresh_folder(tmp_path / "into") as scratch:
        unpack(pack(tmp_path / name, members, {"elsewhere": "/etc/passwd"}), NAMES, scratch)
    found = {path.name: path.read_bytes() for path in (tmp_path / "into").iterdir()}
    assert found == {"items.csv": b"1", "interactions.csv": b"4"}


@both
def test_one_folder_has_the_files(tmp_path: Path, pack: Pack, name: str) -> None:
    """Never one table of a folder beside another's."""
    members = {"new/interactions.csv": b"1", "old/interactions.csv": b"2", "old/items.csv": b"3"}
    assert f"{name}: several folders have the files: new, old" in refused(
        pack(tmp_path / name, members), tmp_path / "x"
    )
    members = {"interactions.csv": b"1", "old/items.csv": b"2"}
    unpack(pack(tmp_path / name, members), NAMES, tmp_path)
    assert (tmp_path / "interactions.csv").exists()
    assert not (tmp_path / "items.csv").exists()


@both
def test_backslashes_part_folders(tmp_path: Path, pack: Pack, name: str) -> None:
    unpack(pack(tmp_path / name, {"d\\items.csv": b"1", "d\\interactions.csv": b"2"}), NAMES, tmp_path)
    assert (tmp_path / "items.csv").read_bytes() == b"1"


@both
@pytest.mark.parametrize("member", ["../items.csv", "/tmp/items.csv", "d/../../items.csv", "d\\..\\..\\items.csv"])
def test_members_that_escape(tmp_path: Path, pack: Pack, name: str, member: str) -> None:
    assert "leaves the archive; it is refused" in refused(pack(tmp_path / name, {member: b"x"}), tmp_path / "into")


@both
def test_links(tmp_path: Path, pack: Pack, name: str) -> None:
    archive = pack(tmp_path / name, {"interactions.csv": b"x"}, {"items.csv": "/etc/passwd"})
    assert "'items.csv' is a folder or a link" in refused(archive, tmp_path / "into")


def test_devices(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("items.csv")
        info.type = tarfile.CHRTYPE
        archive.addfile(info)
    assert "has to be a plain file" in refused(tmp_path / "x.tar", tmp_path / "into")


@both
def test_bombs(tmp_path: Path, pack: Pack, name: str) -> None:
    bomb = pack(tmp_path / name, {"items.csv": bytes(300 << 20)})
    assert bomb.stat().st_size < 1 << 20
    assert "unpacks to more than 200 times its size" in refused(bomb, tmp_path / "into")


@both
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_damage(tmp_path: Path, pack: Pack, name: str, share: float) -> None:
    whole = pack(tmp_path / name, {"items.csv": bytes(range(256)) * 99, "interactions.csv": b"y" * 999})
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    message = refused(whole, tmp_path / "into")
    assert name in message
    assert "damaged archive" in message or "neither a folder nor a zip or tar archive" in message


@pytest.mark.parametrize("kind", ["zip", "bz2", "xz", "gz"])
def test_bytes_that_are_wrong(tmp_path: Path, kind: str) -> None:
    """An archive with any three bytes changed is unpacked or refused; nothing else is raised."""
    draw = random.Random(3)
    content = {"items.csv": draw.randbytes(3_000), "interactions.csv": b"y" * 999}
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        zipped(path, content)
    else:
        tarred(path, content)
        with gzip.open(path) as packed:
            path.write_bytes({"bz2": bz2, "xz": lzma, "gz": gzip}[kind].compress(packed.read()))
    whole, wrong = path.read_bytes(), 0
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(3):
            changed[draw.choice([draw.randrange(len(whole)), len(whole) - 1 - draw.randrange(200)])] = draw.randrange(
                256
            )
        path.write_bytes(changed)
        try:
            unpack(path, NAMES, tmp_path)
        except InputError:
            wrong += 1
    assert wrong > 50
