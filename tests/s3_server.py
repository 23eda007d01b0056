"""An S3-compatible server on loopback, moto's, behind a line that a test can cut."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import boto3

BUCKET = "team"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",  # a line that is cut is not asked again and again
}


class Line:
    """A TCP line to a server: what goes through is counted, and after a given number of bytes nothing does."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._left: float = float("inf")
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, count: int) -> None:
        """Break every connection once so many bytes have passed, and take no other."""
        self._left = count

    @property
    def is_cut(self) -> bool:
        return self._left <= 0

    def mend(self) -> None:
        self._left = float("inf")

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._server))
            self._open |= {near, far}
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._left -= len(data)
                if self.is_cut:
                    break
                target.sendall(data)
        for end in list(self._open) if self.is_cut else (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes who waits for data there
            end.close()  # or what is still sent here would be taken in, and nobody would notice


@contextlib.contextmanager
def served() -> Iterator[Line]:
    """Start the server with an empty bucket, and give the line to it."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = iter(process.stderr.readline, "")
        port = next(
            int(found[1]) for line in said if (found := re.search(r"Running on http://127\.0\.0\.1:(\d+)", line))
        )
        threading.Thread(target=lambda: [None for _ in said], daemon=True).start()  # or its pipe would fill
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=BUCKET)
        yield Line(port)
    finally:
        process.kill()
        process.wait()
