"""Where the model runs: a CUDA device per process if there is one, otherwise the CPU."""

import os

import torch
from accelerate import Accelerator

from stages.core.errors import InputError
from stages.core.gpu import repeatable

SHARDING = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG")


def accelerator(precision: str) -> Accelerator:
    """Device, autocast and processes: precision `fp32`, with kernels that repeat themselves, or `bf16`.

    Raises InputError where accelerate is set to shard the weights: a shard is fetched by all processes together, and
    here each reads as many prompts as its users have.
    """
    for plugin in SHARDING:
        if os.environ.get(f"ACCELERATE_USE_{plugin}", "").lower() == "true":
            raise InputError(
                f"accelerate is set to {plugin}, which shards weights over processes; here each process holds them all "
                "and takes a share of the users: launch with distributed_type MULTI_GPU, or by SAGE_PROCESSES"
            )
    gpu = torch.cuda.is_available()
    if gpu and precision == "fp32":
        repeatable()
    return Accelerator(cpu=not gpu, mixed_precision="bf16" if precision == "bf16" else "no")


def decoding_device() -> torch.device:
    """Where a policy is that only writes: without gradients any kernel repeats itself."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
