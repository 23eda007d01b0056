"""Where the model runs: one CUDA device if there is one, otherwise the CPU."""

import torch
from accelerate import Accelerator

from stages.core.errors import InputError


def accelerator(precision: str) -> Accelerator:
    """Device and autocast of the one process: precision `fp32` or `bf16`. Raises InputError if there are several."""
    chosen = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="bf16" if precision == "bf16" else "no")
    if chosen.num_processes > 1:
        raise InputError(f"{chosen.num_processes} processes were started; training runs in one: start it with python")
    return chosen
