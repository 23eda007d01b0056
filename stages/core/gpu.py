"""A GPU that gives the same bytes when a cell is run again: every sum in one order."""

import os

import torch


def repeatable() -> None:
    """Take deterministic kernels. Attention is PyTorch's own, since the gradient of the memory-efficient kernel, which
    masks make it take, adds up in no fixed order. Call it before the first kernel runs.

    On an H200 it cost nothing at the size of `tiny`, and two runs of RL ended with the same weights (docs/runs.md).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS picks its workspace, and an order with it
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
