"""A real HTTP server on loopback: it serves files with Range, and fails as hosts do, by a script of one step a GET."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Step = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        step = self.server.script.pop(0) if self.server.script else None
        body = self.server.files.get(self.path.lstrip("/"))
        if self.path == "/login":
            page(self, b"")
        elif body is None:
            self.send_error(404)
        else:
            (step or whole)(self, body)

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.script: list[Step] = []
        self.asked: list[tuple[str, str | None]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Sent:
    """What a GET is answered with."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def answer(handler: Handler, body: bytes) -> Sent:
    """The whole file, or the part that is asked for if the file is still the one that the asker knows."""
    tag = f'"{hashlib.md5(body).hexdigest()}"'
    asked, known = handler.headers.get("Range"), handler.headers.get("If-Range")
    if asked is None or known not in (None, tag):
        return Sent(200, body, {"ETag": tag})
    start = int(asked.removeprefix("bytes=").rstrip("-"))
    if start >= len(body):
        return Sent(416, b"", {"Content-Range": f"bytes */{len(body)}"})
    return Sent(206, body[start:], {"ETag": tag, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})


def send(handler: Handler, sent: Sent, until: int | None = None) -> None:
    """Send an answer, or the first bytes of its body, and hang up in the latter case."""
    handler.send_response(sent.status)
    for name, value in {"Content-Type": "application/gzip", **sent.headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(sent.body)))
    handler.end_headers()
    handler.wfile.write(sent.body[:until])
    if until is not None:
        handler.close_connection = True


def whole(handler: Handler, body: bytes) -> None:
    send(handler, answer(handler, body))


def cut(until: int) -> Step:
    """Hang up after so many bytes of the answer."""
    return lambda handler, body: send(handler, answer(handler, body), until)


def silent(after: int) -> Step:
    """Fall silent after so many bytes of the answer."""

    def step(handler: Handler, body: bytes) -> None:
        send(handler, answer(handler, body), after)
        handler.wfile.flush()
        handler.server.over.wait(10)

    return step


def status(code: int, **headers: str) -> Step:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, body: send(handler, Sent(code, b"", named))


def page(handler: Handler, body: bytes) -> None:
    """A web page in the place of the file."""
    send(
        handler,
        Sent(200, b"<!DOCTYPE html><title>Please sign in</title>", {"Content-Type": "text/html; charset=utf-8"}),
    )


def to_login(handler: Handler, body: bytes) -> None:
    send(handler, Sent(302, b"", {"Location": "/login"}))


def no_ranges(handler: Handler, body: bytes) -> None:
    """A host that knows no Range: the whole file, whatever was asked."""
    send(handler, Sent(200, body))


def other(content: bytes) -> Step:
    """Another file under the same name."""
    return lambda handler, body: send(handler, answer(handler, content))
