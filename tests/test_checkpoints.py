"""Resume states: whole or not used, one process at a time, at the pace that is asked for, on a disk without room."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.core.checkpoints import Checkpoint
from stages.core.errors import InputError

ROOT = Path(__file__).parents[1]


def test_round_trip(checkpoint):
    assert checkpoint.load() is None
    tensors = {"a": torch.randn(3, 2), "half": torch.randn(5).bfloat16(), "step": torch.tensor(7.0)}
    values = {"epoch": 3, "best_loss": 0.1 + 0.2, "curve": [{"epoch": 1}], "none": None}
    checkpoint.save({"a": torch.zeros(3, 2)}, {})
    checkpoint.save(tensors, values)
    found, also = checkpoint.load()
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert also == values
    assert {path.name for path in checkpoint.folder.iterdir()} == {"before.safetensors", "state.safetensors"}
    assert Checkpoint("sft-test", "beef").load() is None
    checkpoint.drop()
    assert checkpoint.load() is None
    checkpoint.drop()  # dropping nothing is no fault


def cut(whole: bytes) -> bytes:
    return whole[:-20]


def flipped(whole: bytes) -> bytes:
    """One bit of a weight: a file that every reader takes."""
    return whole[:-1] + bytes([whole[-1] ^ 1])


def said(whole: bytes) -> bytes:
    """One figure among the values."""
    return whole.replace(b'\\"epoch\\": 2', b'\\"epoch\\": 3')


@pytest.mark.parametrize("damage", [cut, flipped, said, lambda whole: b"", lambda whole: b"no safetensors"])
def test_a_damaged_state_gives_way_to_the_one_before(checkpoint, damage, caplog):
    """And where that is damaged as well, the run starts from its beginning; both are said."""
    for epoch in (1, 2):
        checkpoint.save({"a": torch.full((30,), float(epoch))}, {"epoch": epoch})
    for path, left in ((checkpoint.path, 1), (checkpoint.before, None)):
        whole = path.read_bytes()
        broken = damage(whole.replace(b'\\"epoch\\": 1', b'\\"epoch\\": 2'))
        assert broken != whole
        path.write_bytes(broken)
        found = checkpoint.load()
        assert (found and found[1]["epoch"]) == left
        assert f"{path} is damaged" in caplog.text
    assert "going back to the one before it" in caplog.text


def test_a_pace_of_steps_and_of_time(checkpoint, monkeypatch):
    """Every third step; every step where the clock says so; and where it is asked for in any case."""

    def saved(own: Checkpoint, always: bool = False) -> bool:
        own.path.unlink(missing_ok=True)
        own.after_step(False, lambda: ({}, {}), always)
        return own.path.exists()

    assert [saved(checkpoint), saved(checkpoint, always=True)] == [False, True]
    monkeypatch.setenv("SAGE_CHECKPOINT_STEPS", "3")
    own = Checkpoint("sft-test", "f00d")
    assert [saved(own) for _ in range(7)] == [False, False, True, False, False, True, False]
    monkeypatch.setenv("SAGE_CHECKPOINT_MINUTES", "1e-9")
    assert saved(Checkpoint("sft-test", "f00d"))
    monkeypatch.setenv("SAGE_CHECKPOINT_MINUTES", "often")
    with pytest.raises(InputError, match="SAGE_CHECKPOINT_MINUTES=often is no number above 0"):
        Checkpoint("sft-test", "f00d")


COUNTING = """
import signal, sys, time
import torch
from stages.core.checkpoints import Checkpoint

def main():
    own = Checkpoint("sft-test", "f00d")
    own.claim()
    state = own.load()
    done = state[1]["done"] if state else 0
    print(done, flush=True)
    while done < steps:
        time.sleep(0.01)
        done += 1
        state = lambda: ({"a": torch.full((1000,), float(done))}, {"done": done})
        own.after_step(own.stop_asked, state, always=done == steps)
    own.steps_done()
    print("steps done", flush=True)
    time.sleep(600)

steps = int(sys.argv.pop())
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
from stages.core import stage
stage.run(lambda: main(), "Count.")
"""


def counting(steps: int = 10_000) -> subprocess.Popen[str]:
    """A run of steps that has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", COUNTING, str(steps)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.first = process.stdout.readline()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_ends_the_run(checkpoint, number):
    process = counting()
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopped; started again with the same parameters, sft-test goes on from here" in told
    _, values = checkpoint.load()
    again = counting()
    assert int(again.first) == values["done"] > 0
    again.kill()
    again.communicate()


def test_a_signal_behind_the_last_step_ends_the_run_at_once(checkpoint):
    process = counting(steps=2)
    assert process.stdout.readline() == "steps done\n"
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert checkpoint.load()[1]["done"] == 2


def test_a_second_process_refuses(checkpoint):
    """Until the first ends, even by SIGKILL: no lock is left behind."""
    first = counting()
    second = counting()
    _, told = second.communicate(timeout=60)
    assert second.returncode == 1
    owner = f"process {first.pid} on {socket.gethostname()} in {ROOT}"
    assert f"error: sft-test is being run by {owner}, with the same parameters" in told
    first.kill()
    first.communicate()
    third = counting()
    assert third.first == "0\n"
    third.kill()
    third.communicate()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\); make room, or set SAGE_CHECKPOINTS"):
        Checkpoint("sft-test", "f00d").claim()


# ------------------------------------------------------------------------------------------------- a full disk

NAMESPACE = ["unshare", "--map-root-user", "--user", "--mount"]
mountable = shutil.which("unshare") and not subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode
needs_a_disk = pytest.mark.skipif(not mountable, reason="this system lets nobody mount a small disk in a namespace")


def on_a_small_disk(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a file system of 1 MB at a folder."""
    folder.mkdir()
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = [*NAMESPACE, "sh", "-c", script, "sh", str(folder), sys.executable, code]
    own = {**os.environ, "SAGE_CHECKPOINTS": str(folder)}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=120)


@needs_a_disk
def test_a_full_disk_costs_a_checkpoint_and_not_the_run(tmp_path):
    """The state that is there stays, whole; the scratch file is gone; the step after it goes on."""
    done = on_a_small_disk(
        tmp_path / "disk",
        """
import torch
from stages.core.checkpoints import Checkpoint
own = Checkpoint("sft-test", "f00d")
own.claim()
own.save({"a": torch.ones(1000)}, {"epoch": 1})
own.save({"a": torch.ones(1_000_000)}, {"epoch": 2})
print(own.load()[1]["epoch"], sorted(path.name for path in own.folder.iterdir()))
own.save({"a": torch.ones(1000)}, {"epoch": 3})
print(own.load()[1]["epoch"])
own.after_step(True, lambda: ({"a": torch.ones(1_000_000)}, {"epoch": 4}))
""",
    )
    assert done.stdout == "1 ['lock', 'owner', 'state.safetensors']\n3\n", done.stderr
    assert "sft-test goes on from the last state that found room" in done.stderr
    assert "no checkpoint written" in done.stderr
    assert "No space left on device" in done.stderr


@needs_a_disk
def test_a_stage_on_a_full_disk_ends_with_one_line(tmp_path):
    """By Python's files and by those of a library, which says so in words; nothing half-written is left."""
    done = on_a_small_disk(
        tmp_path / "disk",
        """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from stages.core import stage
from stages.core.files import fresh_file, fresh_folder

disk = Path(sys.argv.pop())

def tables():
    with fresh_file(disk / "table") as scratch:
        scratch.write_bytes(bytes(2_000_000))

def weights():
    with fresh_folder(disk / "model") as scratch:
        save_file({"a": torch.ones(1_000_000)}, scratch / "model.safetensors")

for main in (tables, weights):
    try:
        stage.run(main, "Write.")
    except SystemExit as end:
        print(end.code, list(disk.iterdir()))
""",
    )
    assert done.stdout == "1 []\n1 []\n", done.stderr
    assert done.stderr.count("no space is left to write there") == 2
    assert "Traceback" not in done.stderr
