"""The transfer of one gzip file over HTTP: what has arrived is kept and gone on with, by Range, also by a later run.

Requests and urllib3 carry it; pooch, which calls it, would start over after a cut. What comes in the file's place, such
as the page of a login, is refused.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util import Retry

from stages.core.errors import InputError
from stages.core.stage import log, progress
from stages.corpus.archives import check_gzip

CACHE = "SAGE_DOWNLOADS"
CHUNK = 1 << 16  # bytes; what is lost of an answer that is cut
CONNECT, SILENCE = 15.0, 60.0  # seconds until a host that does not answer, or falls silent, counts as gone
ATTEMPTS = 5  # in a row that bring nothing, after which a host counts as gone
WAIT = 1.0  # seconds before the second attempt; doubled with each
LONGEST_WAIT = 120  # seconds that a busy host may ask for
RESERVE = 64 << 20  # bytes that stay free on the disk
GZIP = b"\x1f\x8b"
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, *(code for code in HTTPStatus if code >= HTTPStatus.INTERNAL_SERVER_ERROR))


class RefusedError(Exception):
    """A host cannot give the file; the next is asked."""


def demand_space(folder: Path, need: int, size: int) -> None:
    """Raise InputError where a disk has less than `need` bytes left. size: of the whole file, for the message."""
    free = shutil.disk_usage(folder).free
    if free < need + RESERVE:
        raise InputError(
            f"{folder}: {free:,} bytes are free, {need + RESERVE:,} are needed for a file of {size:,}; make room, or "
            f"set {CACHE} to a folder on another disk"
        )


@dataclass
class Transfer:
    """What pooch calls to bring a file: into `part`, which outlives a failure, and then to where pooch wants it."""

    part: Path

    def __call__(self, url: str, output: str, pooch: object) -> None:
        self.origin = self.part.with_suffix(".json")  # of the part: its URL, and what tells one version from another
        idle = 0
        with _session() as session:
            while True:
                before = self._size()
                try:
                    if self._advance(session, url):
                        break
                    why = "the connection was closed early"
                except requests.TooManyRedirects as error:
                    raise RefusedError("the host redirects without end") from error
                except requests.exceptions.RetryError as error:
                    raise RefusedError(f"the host is busy, {ATTEMPTS + 1} times in a row") from error
                except requests.RequestException as error:
                    why = _reason(error)
                idle = 0 if self._size() > before else idle + 1
                if idle == ATTEMPTS:
                    raise RefusedError(
                        f"{why}, {ATTEMPTS} times in a row; {self._size():,} bytes are kept for the next run"
                    )
                wait = WAIT * 2**idle
                log.info("%s: %s; going on at byte %s in %.0f s", url, why, f"{self._size():,}", wait)
                time.sleep(wait)
        try:
            check_gzip(self.part)
        except InputError as error:
            self._forget()
            raise RefusedError(str(error)) from error
        self.part.replace(output)
        self._forget()

    def _advance(self, session: requests.Session, url: str) -> bool:
        """Ask for what is missing and append it. Returns whether the file is whole."""
        have, headers = self._begin(url), {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self._told()["version"]}
        with session.get(url, headers=headers, stream=True, timeout=(CONNECT, SILENCE)) as answer:
            if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if answer.headers.get("Content-Range") == f"bytes */{have}":
                    return True
                self._forget()  # longer than the host's file: another one
                return False
            _check_answer(answer, url)
            version = self._told().get("version", "")
            if (
                answer.status_code != HTTPStatus.PARTIAL_CONTENT
                or _first_byte(answer) != have
                or _is_other(answer, version)
            ):
                self._forget()  # the host starts over, or has another version by now
                have = 0
                if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
                    return False
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length and length.isdigit() else None
            if total is not None:
                demand_space(self.part.parent, total - have, total)
            if not have:
                self.origin.write_text(json.dumps({"url": url, "version": _version(answer)}))
            return self._append(answer, url, have, total)

    def _append(self, answer: requests.Response, url: str, have: int, total: int | None) -> bool:
        name = url.rpartition("/")[2]
        chunks = progress(
            _body(answer),
            f"{name}, of {CHUNK >> 10} KiB",
            None if total is None else -(-(total - have) // CHUNK),
        )
        try:
            with self.part.open("ab") as file:
                for chunk in chunks:
                    if not chunk.startswith(GZIP[have : have + len(chunk)]):
                        raise RefusedError(f"it is no gzip file, it begins with {chunk[:40]!r}")
                    have += len(chunk)
                    file.write(chunk)
                    file.flush()
        except requests.RequestException:
            raise
        except OSError as error:
            raise InputError(
                f"{self.part}: cannot be written ({error.strerror}); make room, or set {CACHE} to a folder on another "
                "disk, and run again: what has arrived is kept"
            ) from error
        return have == total if total is not None else True

    def _begin(self, url: str) -> int:
        """Bytes that are there of this version; a part of another URL, or one that nothing vouches for, is dropped."""
        told = self._told()
        if told.get("url") != url or not told.get("version"):
            self._forget()
        return self._size()

    def _told(self) -> dict[str, str]:
        try:
            found = json.loads(self.origin.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)


def _session() -> requests.Session:
    """urllib3 asks busy hosts again, with back-off and when they say; connections that fail are left to `Transfer`."""
    retry = Retry(
        total=None,
        connect=0,
        read=0,
        status=ATTEMPTS,
        backoff_factor=WAIT,
        retry_after_max=LONGEST_WAIT,
        status_forcelist=[int(code) for code in BUSY],
        respect_retry_after_header=True,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _check_answer(answer: requests.Response, url: str) -> None:
    """Refuse what is no file: errors that will not pass, and web pages, such as that of a login."""
    if not answer.ok:
        raise RefusedError(f"HTTP {answer.status_code} {answer.reason}")
    if answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() in (
        "text/html",
        "application/xhtml+xml",
    ):
        via = f", redirected to {answer.url}" if answer.url != url else ""
        raise RefusedError(f"a web page came in the file's place{via}: a login, terms to accept, or an error")


def _first_byte(answer: requests.Response) -> int:
    """Where a partial answer begins; -1 where it does not say."""
    kind, _, span = answer.headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if kind == "bytes" and first.isdigit() else -1


def _is_other(answer: requests.Response, version: str) -> bool:
    """Whether an answer says that it is of another version, by what the part's is told by."""
    said = answer.headers.get("ETag" if version.startswith('"') else "Last-Modified")
    return said is not None and said != version


def _body(answer: requests.Response) -> Iterator[bytes]:
    """The body as it was sent. Requests would unpack a .gz file that its host calls `Content-Encoding: gzip`."""
    try:
        yield from answer.raw.stream(CHUNK, decode_content=False)
    except HTTPError as error:  # urllib3's
        raise requests.ConnectionError(error) from error


def _version(answer: requests.Response) -> str:
    """What If-Range takes to tell versions of a file apart: a strong ETag, or the date of the last change."""
    tag = answer.headers.get("ETag", "")
    return answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _reason(error: requests.RequestException) -> str:
    """A failed connection in words."""
    silent = any(isinstance(cause, ReadTimeoutError) for cause in error.args)  # in the middle of an answer
    if silent or isinstance(error, requests.Timeout):
        return "the host does not answer"
    return f"the connection failed ({str(error)[:200]})"
