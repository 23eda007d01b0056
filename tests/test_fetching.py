"""Downloads from a real server on loopback that cuts, hangs, lies and moves; from folders; what stays on the disk."""

import gzip
import hashlib
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.core.files import fresh_folder
from stages.corpus import fetching, transfer
from tests.file_server import (
    Handler,
    Sent,
    Server,
    Step,
    cut,
    no_ranges,
    other,
    page,
    send,
    serving,
    silent,
    status,
    to_login,
)

ROOT = Path(__file__).parents[1]
NAME = "meta_Toys.json.gz"
CONTENT = gzip.compress(random.Random(1).randbytes(400_000), mtime=0)
OTHER = gzip.compress(random.Random(2).randbytes(400_000), mtime=0)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        found.files[NAME] = CONTENT
        yield found


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(fetching.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "WAIT", 0.001)
    monkeypatch.setattr(transfer, "SILENCE", 0.3)
    return tmp_path / "cache"


def fetch(into: Path, *servers: Server, sha256: str | None = None) -> bytes:
    """As the stage does: into a fresh folder."""
    with fresh_folder(into) as scratch:
        assert fetching.fetch(NAME, [server.url for server in servers], sha256, scratch) == SHA256
    return (into / NAME).read_bytes()


def refused(into: Path, *servers: Server, sha256: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        fetch(into, *servers, sha256=sha256)
    assert not into.exists()
    assert list(into.parent.glob(f".{into.name}*")) == []
    return str(caught.value)


def ranges(server: Server) -> list[str | None]:
    return [asked for _, asked in server.asked]


def test_whole_then_from_the_cache(server: Server, tmp_path: Path) -> None:
    assert fetch(tmp_path / "raw", server) == CONTENT
    assert fetch(tmp_path / "again", server, sha256=SHA256) == CONTENT
    assert ranges(server) == [None]


def test_cuts_at_three_places(server: Server, tmp_path: Path, cache: Path) -> None:
    server.script = [cut(70_000), cut(150_000), cut(5)]
    assert fetch(tmp_path / "raw", server, sha256=SHA256) == CONTENT
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0 for asked in ranges(server)]
    assert starts[0] == 0
    assert 0 < starts[1] < starts[2] <= starts[3] < len(CONTENT)
    assert sorted(file.name for file in cache.iterdir()) == [NAME, f"{NAME}.lock", f"{NAME}.sha256"]


@pytest.mark.parametrize("place", [0, 1, 2, 65_536, 200_000, len(CONTENT) - 1])
def test_a_cut_anywhere(server: Server, tmp_path: Path, place: int) -> None:
    server.script = [cut(place)]
    assert fetch(tmp_path / "raw", server) == CONTENT


def test_a_host_that_keeps_failing_and_a_later_run(
    server: Server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [cut(150_000), *[cut(0)] * transfer.ATTEMPTS]
    message = refused(tmp_path / "raw", server)
    assert f"{server.url}/{NAME}: " in message
    assert f"{transfer.ATTEMPTS} times in a row" in message
    kept = (cache / f"{NAME}.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    assert f"{kept:,} bytes are kept" in message
    server.asked.clear()
    assert fetch(tmp_path / "raw", server) == CONTENT
    assert ranges(server) == [f"bytes={kept}-"]


def test_a_host_that_hangs(server: Server, tmp_path: Path) -> None:
    server.script = [silent(0), silent(100_000)]
    assert fetch(tmp_path / "raw", server) == CONTENT
    server.script = [silent(0)] * transfer.ATTEMPTS
    os.environ[fetching.CACHE] += "-2"
    assert "the host does not answer" in refused(tmp_path / "other", server)


def test_a_host_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.script = [cut(100_000), no_ranges]
    assert fetch(tmp_path / "raw", server) == CONTENT


def test_another_version_in_the_middle_starts_over(server: Server, tmp_path: Path) -> None:
    """Half of one file is never joined to half of another: If-Range sends the second whole."""
    server.script = [lambda handler, body: cut(150_000)(handler, OTHER)]
    assert fetch(tmp_path / "raw", server, sha256=SHA256) == CONTENT


def test_a_part_of_another_version_starts_over(server: Server, tmp_path: Path) -> None:
    """Of a host that knows Range and not If-Range."""

    def careless(handler: Handler, body: bytes) -> None:
        start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
        told = {"ETag": '"other"', "Content-Range": f"bytes {start}-{len(OTHER) - 1}/{len(OTHER)}"}
        send(handler, Sent(206, OTHER[start:], told))

    server.script = [cut(150_000), careless]
    assert fetch(tmp_path / "raw", server, sha256=SHA256) == CONTENT
    assert ranges(server)[1:] == [ranges(server)[1], None]


@pytest.mark.parametrize("word", ["gzip", "x-gzip"])
def test_a_gzip_file_stays_packed(server: Server, tmp_path: Path, word: str) -> None:
    """Apache's AddEncoding calls the file the encoding of another."""
    server.script = [lambda handler, body: send(handler, Sent(200, body, {"Content-Encoding": word}))]
    assert fetch(tmp_path / "raw", server, sha256=SHA256) == CONTENT


def test_a_first_chunk_of_one_byte(server: Server, tmp_path: Path) -> None:
    def chunked(handler: Handler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in (body[:1], body[1:], b""):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    server.script = [chunked]
    assert fetch(tmp_path / "raw", server, sha256=SHA256) == CONTENT


def test_all_of_it_had_arrived(server: Server, tmp_path: Path, cache: Path) -> None:
    """A run that was killed between the last byte and the move."""
    server.script = [cut(200_000), *[cut(0)] * transfer.ATTEMPTS]
    refused(tmp_path / "raw", server)
    (cache / f"{NAME}.part").write_bytes(CONTENT)
    server.asked.clear()
    assert fetch(tmp_path / "raw", server) == CONTENT
    assert ranges(server) == [f"bytes={len(CONTENT)}-"]
    os.environ[fetching.CACHE] += "-2"
    other_cache = Path(os.environ[fetching.CACHE])
    server.script = [cut(200_000), *[cut(0)] * transfer.ATTEMPTS]
    refused(tmp_path / "again", server)
    (other_cache / f"{NAME}.part").write_bytes(CONTENT + b"more")
    assert fetch(tmp_path / "again", server) == CONTENT


@pytest.mark.parametrize("busy", [status(503), status(503, Retry_After="0"), status(429), status(502)])
def test_busy_then_success(server: Server, tmp_path: Path, busy: Step) -> None:
    server.script = [busy, busy]
    assert fetch(tmp_path / "raw", server) == CONTENT
    assert len(server.asked) == 3


def test_busy_for_good(server: Server, tmp_path: Path) -> None:
    server.script = [status(503)] * 20
    assert f"the host is busy, {transfer.ATTEMPTS + 1} times in a row" in refused(tmp_path / "raw", server)


REFUSALS: dict[str, tuple[list[Step], str]] = {
    "not found": ([status(404)], "HTTP 404 Not Found"),
    "forbidden": ([status(403)], "HTTP 403 Forbidden"),
    "no end of redirects": (
        [lambda handler, body: status(302, Location=handler.path)(handler, body)] * 40,
        "redirects without end",
    ),
    "a page": ([page], "a web page came in the file's place: a login"),
    "a login": ([to_login], "a web page came in the file's place, redirected to http://127.0.0.1:"),
    "no gzip": ([other(b"<html>not said to be one</html>")], "it is no gzip file, it begins with b'<html>not"),
    "cut gzip": ([other(CONTENT[:-9])], "damaged archive"),
    "damaged gzip": ([other(CONTENT[:200_000] + bytes(9) + CONTENT[200_009:])], "damaged archive"),
    "a bomb": ([other(gzip.compress(bytes(300 << 20), 9))], "unpacks to more than 200 times its size"),
    "empty": ([other(b"")], "damaged archive"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_and_a_run_after_it(server: Server, tmp_path: Path, name: str) -> None:
    server.script, message = list(REFUSALS[name][0]), REFUSALS[name][1]
    said = refused(tmp_path / "raw", server)
    assert message in said
    assert "Name a mirror under `hosts`, or fetch the file by hand" in said
    server.script = []
    assert fetch(tmp_path / "raw", server) == CONTENT


def test_hash_mismatch(server: Server, tmp_path: Path, cache: Path) -> None:
    message = refused(tmp_path / "raw", server, sha256="0" * 64)
    assert "another file than the one pinned in params.yaml" in message
    assert SHA256 in message
    assert not (cache / NAME).exists()
    assert fetch(tmp_path / "raw", server, sha256=SHA256) == CONTENT


def test_the_first_use_pins(server: Server, tmp_path: Path, cache: Path) -> None:
    """Also where the file itself has been removed from the cache."""
    assert fetch(tmp_path / "raw", server) == CONTENT
    (cache / NAME).unlink()
    server.script = [other(OTHER)]
    message = refused(tmp_path / "other", server)
    assert f"{NAME}.sha256 by the first download" in message
    assert fetch(tmp_path / "other", server) == CONTENT
    (cache / NAME).write_bytes(CONTENT[:-1])  # a cache that was damaged is fetched again
    assert fetch(tmp_path / "third", server) == CONTENT
    for record in ("", None):  # one cut short, and none: the file is held to being whole
        (cache / NAME).write_bytes(CONTENT[:-1])
        (cache / f"{NAME}.sha256").unlink()
        if record is not None:
            (cache / f"{NAME}.sha256").write_text(record)
        assert fetch(tmp_path / "third", server) == CONTENT
    assert (cache / f"{NAME}.sha256").read_text() == f"{SHA256}\n"


def test_mirrors(server: Server, tmp_path: Path) -> None:
    with serving() as mirror:
        mirror.files[NAME] = CONTENT
        server.files[NAME] = OTHER
        assert fetch(tmp_path / "raw", server, mirror, sha256=SHA256) == CONTENT
        assert len(mirror.asked) == 1
        mirror.files[NAME] = OTHER
        os.environ[fetching.CACHE] += "-2"
        message = refused(tmp_path / "other", server, mirror, sha256=SHA256)
        assert message.count("another file than the one pinned") == 2
    gone = server.url.replace("127.0.0.1", "127.0.0.1:1/")  # a port that nobody listens to
    with pytest.raises(InputError, match="the connection failed"):
        fetching.fetch(NAME, [gone.rpartition(":")[0]], SHA256, tmp_path)


def test_two_runs_at_once(server: Server, tmp_path: Path) -> None:
    """The second waits and takes what the first has brought: one transfer, in real processes."""
    started = threading.Event()

    def slow(handler, body: bytes) -> None:
        started.set()
        time.sleep(1.5)
        no_ranges(handler, body)

    server.script = [slow]
    code = "import sys; from pathlib import Path; from stages.corpus import fetching; "
    code += "fetching.fetch(sys.argv[1], [sys.argv[2]], None, Path(sys.argv[3]))"

    def run(name: str) -> subprocess.Popen[bytes]:
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", code, NAME, server.url, str(tmp_path / name)]
        return subprocess.Popen(command, cwd=ROOT)

    first = run("first")
    assert started.wait(60)
    second = run("second")
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert [(tmp_path / name / NAME).read_bytes() for name in ("first", "second")] == [CONTENT, CONTENT]
    assert len(server.asked) == 1


def test_a_killed_run_is_gone_on_with(server: Server, tmp_path: Path, cache: Path) -> None:
    server.script = [silent(150_000)]
    code = "import sys; from pathlib import Path; from stages.corpus import fetching; "
    code += "fetching.fetch(sys.argv[1], [sys.argv[2]], None, Path(sys.argv[3]))"
    process = subprocess.Popen([sys.executable, "-c", code, NAME, server.url, str(tmp_path)], cwd=ROOT)
    part = cache / f"{NAME}.part"
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 100_000) and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    assert fetch(tmp_path / "raw", server) == CONTENT
    assert ranges(server)[1:] == [f"bytes={kept}-"]


def test_too_little_space_is_said_before_the_transfer(
    server: Server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "RESERVE", 1 << 60)
    message = refused(tmp_path / "raw", server)
    assert f"are needed for a file of {len(CONTENT):,}" in message
    assert not (cache / f"{NAME}.part").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
def test_a_disk_that_fills_on_the_way(server: Server, tmp_path: Path, cache: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))  # a write beyond fails, as on a full disk
    try:
        message = refused(tmp_path / "raw", server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{cache / NAME}.part: cannot be written (File too large); make room" in message
    kept = (cache / f"{NAME}.part").stat().st_size
    assert 0 < kept <= 150_000
    assert fetch(tmp_path / "raw", server) == CONTENT
    assert ranges(server) == [None, f"bytes={kept}-"]


def test_from_a_folder(tmp_path: Path) -> None:
    own, into = tmp_path / "own", tmp_path / "raw"
    own.mkdir()
    into.mkdir()
    with pytest.raises(InputError, match=f"no {NAME} there"):
        fetching.take(NAME, own, None, into)
    (own / NAME).write_bytes(CONTENT)
    with pytest.raises(InputError, match="expected 0000"):
        fetching.take(NAME, own, "0" * 64, into)
    assert fetching.take(NAME, own, SHA256, into) == SHA256
    for damaged in (CONTENT[:1000], b"<html>", b""):
        (own / NAME).write_bytes(damaged)
        with pytest.raises(InputError, match="damaged archive"):
            fetching.take(NAME, own, None, into)
