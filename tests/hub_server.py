"""A model hub on loopback that has one gated data set, for the tests of what is fetched from there."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0" * 40


@dataclass
class Hub:
    """What the server has and how it behaves, and what it was asked."""

    address: str
    folder: Path = Path()
    refuses: str = ""
    """gated: every file, though they are listed | unknown: all that is asked | revision: all, for want of it |
    cut: files end before their length"""
    tokens: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)


class Handler(BaseHTTPRequestHandler):
    """The two calls that a download makes: what files there are, and each of them."""

    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, body: bool) -> None:
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        listing = self.path.startswith("/api/datasets/")
        refusals = {
            "gated": ("GatedRepo", 403),
            "unknown": ("RepoNotFound", 404),
            "revision": ("RevisionNotFound", 404),
        }
        if self.hub.refuses in refusals and not (self.hub.refuses == "gated" and listing):
            code, status = refusals[self.hub.refuses]
            self._send(status, b"{}", {"X-Error-Code": code}, body)
        elif listing:
            files = {
                str(path.relative_to(self.hub.folder)): path for path in self.hub.folder.rglob("*") if path.is_file()
            }
            sizes = {"README.md": 9, **{name: path.stat().st_size for name, path in files.items()}}
            entries = [{"type": "file", "path": name, "size": size, "oid": COMMIT} for name, size in sizes.items()]
            told = entries if "/tree/" in self.path else {"id": "owner/set", "sha": COMMIT, "siblings": []}
            self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"}, body)
        else:
            name = self.path.partition(f"/resolve/{COMMIT}/")[2]
            self.hub.asked.add(name)
            content = (self.hub.folder / name).read_bytes()
            tag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"'}, body, self.hub.refuses == "cut")

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = cut


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub of its own for each test."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {}))
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    server.RequestHandlerClass.hub = hub
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
