"""What a learnt baseline is handed, and what it hands back.

Its module declares, beside `Params`, on which axis of params.yaml it stands, and learns and recommends in one call:

    AXIS = "sequential_baselines"  # learns from item numbers alone; or "generative_baselines": from text, into ids
    class Params(Schedule): ...    # stages/baselines/loop.py
    def recommend(given: Given, params: Params) -> Outcome: ...

Every stage imports the module for its `Params`, so what takes long to import belongs into the functions that use it.
Baselines that only count (`popularity`, `transitions`) know nothing of this file: in the place of AXIS and `recommend`
they declare

    def ranker(histories: Histories, params: Params) -> Ranker: ...    # stages/baselines/asked.py
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.baselines.asked import Asked, Lists, Ranker
from stages.baselines.task_asked import everything, slates
from stages.core.checkpoints import Checkpoint, model_state
from stages.core.curves import Curve
from stages.core.files import fresh_folder, write_table
from stages.core.gpu import repeatable
from stages.core.language_models import Backbone
from stages.core.stage import log
from stages.corpus.histories import Histories, Ints
from stages.corpus.tasks import Tasks


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
    """Claimed; dropped when what comes of it is written."""
    curve: Curve
    tasks: Tasks | None
    """What the corpus asks beside next items. Nothing is learnt from them."""

    def asked(self, length: int) -> list[Asked]:
        """What the slates hold; length: of the users' lists."""
        return everything(self.histories, self.users, self.tasks, self.exclude_seen, length)


@dataclass(frozen=True)
class GivenModels(Given):
    """What a baseline that learns from text or starts from a language model is handed."""

    encoder: Path
    """Folder of the sentence encoder: stages/semantic_ids/encoders.py."""
    backbone: Path
    """Folder of the language model: stages/policy/backbone.py."""
    language_model: Backbone
    """Its section in params.yaml."""


class Learner(Ranker, Protocol):
    """A model, what it is taught, and its lists. A batch is what `loss` takes; the loop does not look inside.

    It ranks and judges as the model is, in evaluation mode.
    """

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    def batches(self, epoch: int) -> Sequence[Any]:
        """All batches of an epoch in their order, drawn from (seed, epoch) alone."""

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Sum of the losses over the batch's targets, and how many targets these are (a tensor).

        torch's generators are seeded for the step: what is drawn from them is the same whenever the step is taken.
        """


@dataclass(frozen=True)
class Outcome:
    """What a baseline comes to."""

    lists: dict[str, Lists]
    """By split, for the users of `Given.users` in their order, or for the samples of a task; see Asked.answered."""
    weights: dict[str, Tensor]
    """The trained weights that made the lists."""

    @classmethod
    def of(cls, learner: Learner, given: Given, length: int, **further: Tensor) -> Self:
        """Answer all that is asked. length: of the users' lists; further: what is kept beside the model's weights."""
        lists = {asked.split: asked.answered(learner) for asked in given.asked(length)}
        return cls(lists, {**model_state("model", learner.model), **further})

    def write(self, given: Given, into: Path, model: Path) -> None:
        """Write the lists as one table of slates, and the weights as <model>/model.safetensors. Nothing is left to take
        up again then.
        """
        with fresh_folder(model) as folder:
            save_file(
                {name: weight.detach().cpu().contiguous() for name, weight in self.weights.items()},
                folder / "model.safetensors",
            )
        write_table(into, slates(self.lists, given.users))
        given.checkpoint.drop()
        log.info("%s: %d users", into, len(given.users["test"]))


def device() -> torch.device:
    """A CUDA device if there is one, with kernels that repeat themselves and matrix products in TF32, of training and
    lists; otherwise the CPU.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    repeatable()
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")
