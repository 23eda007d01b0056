"""A page as headless Chromium shows it: what it drew, said and asked the network for."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: apt install chromium)")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=30000"]


class Shown(NamedTuple):
    """What came of a page."""

    dom: str
    errors: list[str]  # of the console
    requests: list[str]  # to anything but files


def opened(page: Path, folder: Path) -> Shown:
    """Load a page and wait until it is quiet; `folder` takes the browser's files."""
    log, profile = folder / "net.json", folder / "profile"
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            *(CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"--log-net-log={log}", "--enable-logging=stderr"),
            *("--dump-dom", page.resolve().as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    said = re.findall(r'CONSOLE:\d+\] "(.*?)", source:', done.stderr, re.DOTALL)
    errors = [line for line in said if not line.startswith("WARN") and "current version" not in line]
    asked = [event["params"] for event in json.loads(log.read_text())["events"] if "url" in event.get("params", {})]
    by_page = {entry["url"] for entry in asked if entry.get("initiator") not in (None, "not an origin")}
    return Shown(done.stdout, errors, sorted(url for url in by_page if url.startswith(("http", "ws"))))
