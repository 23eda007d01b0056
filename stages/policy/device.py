"""Where the model runs: a CUDA device per process if there is one, otherwise the CPU."""

import torch
from accelerate import Accelerator


def accelerator(precision: str) -> Accelerator:
    """Device, autocast and processes: precision `fp32` or `bf16`."""
    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="bf16" if precision == "bf16" else "no")
