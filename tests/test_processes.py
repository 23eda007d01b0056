"""Two processes do what one does: curves of SFT and RL at the same global batch."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from accelerate.commands.config.config_args import load_config_from_file

from stages.core.errors import InputError
from stages.policy.device import accelerator

ROOT = Path(__file__).parents[1]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TOLERANCE = 1e-4  # relative


def run(launcher: list[str], folder: Path) -> dict:
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SAGE_CHECKPOINTS": str(folder / "checkpoints")}
    out = folder / "out.json"
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.two_processes", str(folder), str(out)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def curves(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    return [run([], folder / "one"), run(TORCHRUN, folder / "two")]


def test_there_were_two(curves):
    assert [each["processes"] for each in curves] == [1, 2]


@pytest.mark.parametrize("kind", ["sft", "sage", "dapo"])
def test_two_processes_do_what_one_does(curves, kind):
    """Every figure of 20 steps, within 1e-4 of it; what is a difference of nearly equal numbers, within 1e-4 of 1."""
    one, two = (each[kind] for each in curves)
    assert len(one) == len(two) == 20
    moved = {name for name in one[0] if len({row.get(name) for row in one}) > 1}
    assert moved >= ({"train_loss", "valid_loss"} if kind == "sft" else {"reward", "ratio_max", "gradient_norm"})
    for step, (first, second) in enumerate(zip(one, two, strict=True)):
        assert first.keys() == second.keys()
        for name, value in first.items():
            if name == "sampler_mismatch" or (math.isnan(value) and math.isnan(second[name])):
                continue
            assert second[name] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), (step, name)


COUNTING = """
import time
import torch
from stages.core import stage
from stages.core.checkpoints import Checkpoint
from stages.policy.device import accelerator
from stages.policy.processes import any_of

def main():
    machine, own = accelerator("fp32"), Checkpoint("sft-test", "f00d")
    own.claim()
    state = own.load()
    done = state[1]["done"] if state else 0
    machine.wait_for_everyone()  # what is printed says that both have claimed, and heed signals
    if machine.is_main_process:
        print(done, flush=True)
    while True:
        time.sleep(0.01)
        done += 1
        own.after_step(any_of(own.stop_asked, machine), lambda: ({"a": torch.ones(10_000_000)}, {"done": done}))

stage.run(main, "Count.")
"""


def test_two_processes_save_before_they_are_stopped(checkpoint, tmp_path):
    """Also where both have had the signal that torchrun then passes on, as from a scheduler that signals all."""
    script = tmp_path / "count.py"
    script.write_text(COUNTING)

    def counting() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, *TORCHRUN, str(script)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return process, process.stdout.readline()

    process, _ = counting()
    for worker in psutil.Process(process.pid).children():
        worker.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert "sft-test goes on from here" in told
    _, values = checkpoint.load()
    again, done = counting()
    assert int(done) == values["done"] > 0
    again.terminate()
    again.communicate(timeout=60)


@pytest.mark.parametrize("plugin", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_sharded_weights_are_refused(plugin, monkeypatch):
    monkeypatch.setenv(f"ACCELERATE_USE_{plugin}", "true")
    with pytest.raises(InputError, match=f"accelerate is set to {plugin}"):
        accelerator("fp32")


def test_the_launcher_reads_the_configuration():
    """What `accelerate launch --config_file` makes of the file for 8 GPUs."""
    found = load_config_from_file(str(ROOT / "configs/accelerate/8-gpus.yaml"))
    assert (found.distributed_type, found.num_processes, found.mixed_precision) == ("MULTI_GPU", 8, "no")
