"""Several processes on one step: each takes a share of the users, and all end with the same weights.

What every process holds in full are the weights, the rewards and the log-probabilities; what is shared out is the
model's work. With one process nothing here does anything.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from safetensors.torch import load, save
from torch import Tensor

Part = TypeVar("Part")


def own_share(parts: Sequence[Part], accelerator: Accelerator) -> list[tuple[int, Part]]:
    """The parts that this process takes, with their numbers."""
    return list(enumerate(parts))[accelerator.process_index :: accelerator.num_processes]


def gather(done: Sequence[tuple[int, Sequence[Tensor]]], accelerator: Accelerator) -> list[tuple[Tensor, ...]]:
    """The tensors that all processes made of their parts, in the parts' order, on this process's device.

    They go over as safetensors: nothing is pickled.
    """
    if accelerator.num_processes == 1:
        return [tuple(made) for _, made in done]
    own = {f"{number} {index}": part.cpu().contiguous() for number, made in done for index, part in enumerate(made)}
    packed = torch.frombuffer(bytearray(save(own)), dtype=torch.uint8).to(accelerator.device)
    lengths = accelerator.gather(torch.tensor([len(packed)], device=accelerator.device)).tolist()
    padded = torch.zeros(max(lengths), dtype=torch.uint8, device=accelerator.device)
    padded[: len(packed)] = packed
    rows = accelerator.gather(padded[None]).cpu()
    found: dict[int, dict[int, Tensor]] = {}
    for row, length in zip(rows, lengths, strict=True):
        for name, part in load(row[:length].numpy().tobytes()).items():
            number, index = map(int, name.split())
            found.setdefault(number, {})[index] = part.to(accelerator.device)
    return [tuple(made[index] for index in sorted(made)) for _, made in sorted(found.items())]


def total(values: Tensor, accelerator: Accelerator) -> Tensor:
    """Sum of a tensor over the processes."""
    return accelerator.reduce(values, "sum") if accelerator.num_processes > 1 else values


def any_of(said: bool, accelerator: Accelerator) -> bool:
    """Whether one process says so, at least: all of them then do the same."""
    return bool(total(torch.tensor(float(said), device=accelerator.device), accelerator))


def sum_gradients(weights: Iterable[torch.nn.Parameter], accelerator: Accelerator) -> None:
    """Add up the gradients of the processes, in one message."""
    if accelerator.num_processes == 1:
        return
    trained = [weight for weight in weights if weight.requires_grad]
    for weight in trained:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    flat = accelerator.reduce(torch.cat([weight.grad.flatten() for weight in trained]), "sum")
    for weight, whole in zip(trained, flat.split([weight.numel() for weight in trained]), strict=True):
        weight.grad.copy_(whole.view_as(weight))
