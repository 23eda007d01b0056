"""What a GPU is asked for, as far as a machine without one can tell."""

from types import SimpleNamespace

import pytest
import torch

from stages.core import gpu

KERNELS = ("mem_efficient_sdp", "flash_sdp", "cudnn_sdp")
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture
def restored(monkeypatch):
    """All that `repeatable` sets, as it was."""
    monkeypatch.setenv(WORKSPACE, "as it was")
    monkeypatch.delenv(WORKSPACE)
    before = {name: getattr(torch.backends.cuda, f"{name}_enabled")() for name in KERNELS}
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled
    for name, enabled in before.items():
        getattr(torch.backends.cuda, f"enable_{name}")(enabled)


@pytest.mark.usefixtures("restored")
def test_kernels_that_repeat_themselves():
    """Of the attentions PyTorch's own stays; a user's own workspace of cuBLAS is left alone."""
    gpu.repeatable()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.math_sdp_enabled()
    assert not any(getattr(torch.backends.cuda, f"{name}_enabled")() for name in KERNELS)
    assert gpu.os.environ[WORKSPACE] == ":4096:8"
    gpu.os.environ[WORKSPACE] = ":16:8"
    gpu.repeatable()
    assert gpu.os.environ[WORKSPACE] == ":16:8"


@pytest.mark.parametrize(
    ("device", "weights", "idle"), [("cuda", 9_999_999, True), ("cuda", 10_000_000, False), ("cpu", 10, False)]
)
def test_small_models_leave_a_gpu_idle(device, weights, idle):
    half = SimpleNamespace(device=torch.device(device), numel=lambda: weights / 2)
    assert gpu.leaves_idle(SimpleNamespace(parameters=lambda: iter([half, half]))) is idle
