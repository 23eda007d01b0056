"""The axes of params.yaml, and the cells of dvc.yaml that they span: which names there are and what each stands for.

A policy's row is named after its optimizer; after an ablation, which is SAGE less one part; or after an optimizer's
second round: RL from an SFT policy that was taught the best slates of the first (Sec. 3.3).
"""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from stages.core.errors import InputError
from stages.core.section import Name, Section

STAGES = Path(__file__).parents[1]
ABLATED = "sage"  # the optimizer that `ablations` take parts from
STILL = "sft"  # the optimizer that takes no step
SECOND = "_round2"  # behind an optimizer's name
OFFERS = ("class Params(", "Params = ", "class Actions:", "def read(", "def quantise(", "class Retriever(")

BASELINES = {"baselines": "baseline", "sequential_baselines": "sequential", "generative_baselines": "generative"}
"""The axes of baselines, by what they learn from, and the stage of each: nothing, item numbers, text."""


def modules(folder: str) -> list[str]:
    """Names of the modules in a folder of stages/ that can be chosen: those that declare what OFFERS lists."""
    return sorted(path.stem for path in (STAGES / folder).glob("*.py") if _offers(path))


def _offers(path: Path) -> bool:
    text = path.read_text()
    return any(f"\n{start}" in text for start in OFFERS)


def axis_of(baseline: str) -> str:
    """The axis that a baseline stands on: what its module names as AXIS, which those that only count do not have."""
    found = re.search('^AXIS = "(.+)"', (STAGES / "baselines" / f"{baseline}.py").read_text(), re.MULTILINE)
    return found[1] if found else next(iter(BASELINES))


def on_axis(key: str, baseline: str, axis: str) -> None:
    """Refuse a baseline, a module of stages/baselines, on an axis or in a stage that is not its own. key: where."""
    if (own := axis_of(baseline)) != axis:
        raise InputError(
            f"{key}: '{baseline}' is none of {axis}; it stands on {own}, and stages/{BASELINES[own]}.py runs it"
        )


class Axes(Section):
    """The lists that span the matrix of cells."""

    datasets: list[Name] = Field(min_length=1)
    action_spaces: list[Name] = Field(min_length=1)
    optimizers: list[Name] = Field(min_length=1)
    baselines: list[Name]
    sequential_baselines: list[Name]
    generative_baselines: list[Name]
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    ablation_datasets: list[Name]
    second_round: list[Name]
    backbone: Name
    encoder: Name

    @field_validator(
        "datasets", "action_spaces", "optimizers", *BASELINES, "seeds", "ablation_datasets", "second_round"
    )
    @classmethod
    def _no_twins(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) < len(values):
            raise ValueError(f"{values} names one value twice")
        return values


class Cells(Section):
    """The axes, and what they name."""

    axes: Axes
    ablations: dict[Name, dict[Name, Any]]
    """SAGE without one of its parts, or with another value: keys of its section that differ."""

    def module_of(self, optimizer: str) -> str:
        """The module of stages/objectives that an optimizer runs: SAGE's, the first round's, or its own."""
        return ABLATED if optimizer in self.ablations else optimizer.removesuffix(SECOND)

    def harvest_of(self, optimizer: str) -> str:
        """Whose best slates the SFT policy was taught that an optimizer starts from: nobody's, "", in a first round."""
        return optimizer.removesuffix(SECOND) if optimizer.endswith(SECOND) else ""

    def every_optimizer(self) -> list[str]:
        """All that a policy's row can be named after."""
        first = modules("objectives")
        return [*first, *(f"{name}{SECOND}" for name in first if name != STILL), *self.ablations]

    def cell(self, stage: str, dataset: str, space: str, optimizer: str, seed: int) -> tuple[str, dict[str, str | int]]:
        """The stage of dvc.yaml that runs a policy's cell, and the cell's coordinates."""
        coordinates: dict[str, str | int] = {"dataset": dataset, "space": space, "seed": seed}
        if optimizer in self.ablations:
            return f"{stage}_ablation", {**coordinates, "optimizer": ABLATED, "ablation": optimizer}
        if first := self.harvest_of(optimizer):
            return f"{stage}{SECOND}", {**coordinates, "optimizer": first}
        return stage, {**coordinates, "optimizer": optimizer}

    def policies(self, dataset: str) -> list[tuple[str, str]]:
        """Action space and optimizer of every policy that the axes ask of a data set, ablations behind the others."""
        ablated = list(self.ablations) if dataset in self.axes.ablation_datasets else []
        names = [*self.axes.optimizers, *(f"{name}{SECOND}" for name in self.axes.second_round), *ablated]
        return [(space, name) for space in self.axes.action_spaces for name in names]
