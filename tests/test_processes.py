"""Two processes do what one does: curves of SFT and RL at the same global batch."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("plugin", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_sharded_weights_are_refused(plugin, monkeypatch):
    monkeypatch.setenv(f"ACCELERATE_USE_{plugin}", "true")
    with pytest.raises(InputError, match=f"accelerate is set to {plugin}"):
        accelerator("fp32")


def test_the_launcher_reads_the_configuration():
    """What `accelerate launch --config_file` makes of the file for 8 GPUs."""
    found = load_config_from_file(str(ROOT / "configs/accelerate/8-gpus.yaml"))
    assert (found.distributed_type, found.num_processes, found.mixed_precision) == ("MULTI_GPU", 8, "no")
