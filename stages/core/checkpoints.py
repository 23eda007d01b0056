"""Resume state of a long cell, outside the working tree, so that nothing that DVC deletes or copies takes it along.

It lies in SAGE_CHECKPOINTS, or in the user's cache folder, under a name made of the cell and of everything that decides
its outcome: a run with other parameters, inputs or code never finds it. It is dropped when the cell has succeeded.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.core.files import fresh_file
from stages.core.stage import log


class Checkpoint:
    """One file of tensors and small JSON values, replaced whole."""

    def __init__(self, cell: str, fingerprint: str) -> None:
        self.cell = cell
        root = os.environ.get("SAGE_CHECKPOINTS") or Path.home() / ".cache" / "sage" / "checkpoints"
        self.folder = Path(root, f"{cell}-{fingerprint}")
        self.path = self.folder / "state.safetensors"

    def save(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Replace the state."""
        with fresh_file(self.path) as scratch:
            whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(whole, scratch, {"values": json.dumps(values)})

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state, or None where there is none; a damaged file counts as none, and is said."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                values = json.loads(file.metadata()["values"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            log.warning("%s cannot be read (%s): starting from the beginning", self.path, error)
            return None
        log.info("resuming from %s", self.path)
        return tensors, values

    def drop(self) -> None:
        """Forget the state: the cell has succeeded."""
        shutil.rmtree(self.folder, ignore_errors=True)


def model_state(prefix: str, model: torch.nn.Module) -> dict[str, Tensor]:
    """The weights that are trained as named tensors, tied ones once; those that are frozen come with the backbone."""
    return {f"{prefix}.{name}": weight for name, weight in model.named_parameters() if weight.requires_grad}


def snapshot(prefix: str, model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of the weights, as `model_state` names them."""
    return {name: weight.detach().clone() for name, weight in model_state(prefix, model).items()}


def load_model_state(prefix: str, model: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put the tensors of `model_state` back."""
    with torch.no_grad():
        for name, weight in model_state(prefix, model).items():
            weight.copy_(tensors[name])


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{name}": value for index, own in state.items() for name, value in own.items()}


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the tensors of `optimizer_state` back into an optimizer over the same parameters."""
    whole = optimizer.state_dict()
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            whole["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(whole)
