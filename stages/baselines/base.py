"""What a learnt baseline is handed, and what it hands back.

Its module declares, beside `Params`, on which axis of params.yaml it stands, and learns and recommends in one call:

    AXIS = "sequential_baselines"  # learns from item numbers alone; or "generative_baselines": from text, into ids
    class Params(Schedule): ...    # stages/baselines/loop.py
    def recommend(given: Given, params: Params) -> Outcome: ...

Every stage imports the module for its `Params`, so what takes long to import belongs into the functions that use it.
Baselines that only count (`popularity`, `transitions`) take the histories alone and know nothing of this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.files import fresh_folder, write_table
from stages.core.language_models import Backbone
from stages.core.schema import slate_table
from stages.corpus.histories import Histories, Ints

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Lists = tuple[Ints, Floats]
"""Items [U, n], best first, -1 where there is none, and their scores [U, n], 0 where there is none."""

SPLITS = ("test", "valid")  # in the order of the slates


@dataclass(frozen=True)
class Given:
    """What a baseline that learns from item numbers is handed."""

    histories: Histories
    """Learn from `train` and `train_ties` alone; `context` is what a list may know."""
    users: dict[str, Ints]
    """By split, whom to recommend to, ascending: users with a target there."""
    exclude_seen: bool
    """Whether lists leave out the items of the context."""
    shuffle_ties: bool
    """Whether the order inside a tie group says nothing, and training draws it anew in each epoch."""
    seed: int
    device: torch.device
    checkpoint: Checkpoint
    """Claimed; the stage drops it."""
    curve: Curve


@dataclass(frozen=True)
class GivenModels(Given):
    """What a baseline that learns from text or starts from a language model is handed."""

    encoder: Path
    """Folder of the sentence encoder: stages/semantic_ids/encoders.py."""
    backbone: Path
    """Folder of the language model: stages/policy/backbone.py."""
    language_model: Backbone
    """Its section in params.yaml."""


class Learner(Protocol):
    """A model, what it is taught, and its lists. A batch is what `loss` takes; the loop does not look inside."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    def batches(self, epoch: int) -> Sequence[Any]:
        """All batches of an epoch in their order, drawn from (seed, epoch) alone."""

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Sum of the losses over the batch's targets, and how many targets these are (a tensor).

        torch's generators are seeded for the step: what is drawn from them is the same whenever the step is taken.
        """

    def lists(self, split: str, users: Ints) -> Lists:
        """Lists of the users [U] from their contexts in the split, by the model as it is, in evaluation mode."""


@dataclass(frozen=True)
class Outcome:
    """What a baseline comes to."""

    lists: dict[str, Lists]
    """By split, for the users of `Given.users` in their order."""
    weights: dict[str, Tensor]
    """The trained weights that made the lists."""

    def write(self, users: dict[str, Ints], slates: Path, model: Path) -> None:
        """Write the lists as one table of slates, and the weights as <model>/model.safetensors."""
        tables = [slate_table(users[split], split, "list", *self.lists[split]) for split in SPLITS]
        with fresh_folder(model) as folder:
            save_file(
                {name: weight.detach().cpu().contiguous() for name, weight in self.weights.items()},
                folder / "model.safetensors",
            )
        write_table(slates, pa.concat_tables(tables).combine_chunks())


def device() -> torch.device:
    """A CUDA device if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
