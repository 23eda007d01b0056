"""Several processes on one step: each takes a share of the users, and all end with the same weights.

What every process holds in full are the weights, the rewards and the log-probabilities; what is shared out is the
model's work. With one process nothing here does anything.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

Part = TypeVar("Part")


def own_share(parts: Sequence[Part], accelerator: Accelerator) -> list[tuple[int, Part]]:
    """The parts that this process takes, with their numbers."""
    return list(enumerate(parts))[accelerator.process_index :: accelerator.num_processes]


def gather(done: list[tuple[int, Any]], accelerator: Accelerator) -> list[Any]:
    """What all processes made of their parts, in the parts' order. Tensors come back on this process's device."""
    if accelerator.num_processes > 1:
        done = gather_object([(number, _mapped(made, "cpu")) for number, made in done])
        done = [(number, _mapped(made, accelerator.device)) for number, made in done]
    return [made for _, made in sorted(done, key=lambda pair: pair[0])]


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


def _mapped(made: Any, device: torch.device | str) -> Any:
    """A tensor, or a tuple of them, on a device."""
    if isinstance(made, Tensor):
        return made.to(device)
    if isinstance(made, tuple):
        mapped = [_mapped(part, device) for part in made]
        return type(made)(*mapped) if hasattr(made, "_fields") else tuple(mapped)
    return made
