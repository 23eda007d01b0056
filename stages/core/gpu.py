"""What a GPU is asked for: the same bytes when a cell is run again, and enough work at once for a small model."""

import os

import torch
from torch import nn

SMALL = 10_000_000  # weights


def repeatable() -> None:
    """Take deterministic kernels where there are some; others warn. Call it before the first kernel runs.

    Attention is PyTorch's own: in single precision the memory-efficient kernel would be taken, whose gradient adds up
    in no fixed order. It holds all scores of a prompt against itself, for which long prompts of large models have no
    room: those train in bf16, without this.
    On an H200 it cost nothing at the size of `tiny`, and two runs of RL ended with the same weights (docs/runs.md).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS picks its workspace, and an order with it
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)


def leaves_idle(model: nn.Module) -> bool:
    """Whether a model is on a GPU and so small that it waits for kernels unless it is given much at once."""
    weights = list(model.parameters())
    return weights[0].device.type == "cuda" and sum(weight.numel() for weight in weights) < SMALL
