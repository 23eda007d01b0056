"""The section `backbones` of params.yaml: a language model, and what suits it on each action space."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stages.core.section import Count, Name, Rate, Section


def pinned(source: str, revision: str | None) -> None:
    """Hold a model's revision to its source. Raises ValueError for one that is missing, idle, or no commit."""
    if (source == "hub") != (revision is not None):
        raise ValueError("revision: source hub needs the commit of the model, the others have none (null)")
    if revision is not None and not re.fullmatch("[0-9a-f]{40}", revision):
        raise ValueError(f"revision: '{revision}' is no commit of 40 hexadecimal digits; a branch would move")


class Architecture(Section):
    """A decoder of Qwen3's architecture, trained from scratch."""

    hidden_size: Count
    layers: Count
    heads: Count
    feed_forward: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Of attention weights, in SFT only: RL scores slates without it, so that r = 1 at the first update."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of heads {self.heads}")
        return self


class Lora(Section):
    """Low-rank adapters (arXiv 2106.09685), the only weights that are trained."""

    r: Count
    alpha: Annotated[float, Field(gt=0)]
    targets: list[str] = Field(min_length=1)
    """Names of the linear layers that get one."""


FIXED = {"sft": ("holdback", "reserve", "min_items"), "rl": ("slate_length",)}
"""Keys that are the same for all backbones and action spaces: data sets are divided by them."""


class Tuned(Section):
    """What `sft`, `rl` and the action space's `policy` are for one backbone, where it differs: keys of these."""

    sft: dict[Name, Any]
    rl: dict[Name, Any]
    policy: dict[Name, Any]

    @field_validator("sft", "rl")
    @classmethod
    def _not_fixed(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        section = str(info.field_name)
        if fixed := [key for key in values if key in FIXED[section]]:
            raise ValueError(f"{fixed[0]} is the same for all backbones and action spaces: set {section}.{fixed[0]}")
        return values


class Backbone(Section):
    """A language model and what suits it."""

    source: Literal["scratch", "wheel", "folder", "hub"]
    name: str | None
    """scratch: null | wheel: a package in stages/policy/pretrained.py | folder: its path | hub: owner/model."""
    revision: str | None
    """hub: the commit, so that the same name is the same model."""
    architecture: Architecture | None
    """scratch: the model; null for the others, which bring their own."""
    lora: Lora | None
    """null: every weight is trained."""
    weights: Literal["fp32", "bf16"]
    """What frozen weights are kept in; those that are trained are fp32."""
    precision: Literal["fp32", "bf16"]
    """bf16: autocast in training; sampling and decoding stay in the precision of the weights."""
    gradient_checkpointing: bool
    """Hidden states are computed again on the way back, for memory."""
    sft_lr: Rate
    rl_lr: Rate
    spaces: dict[Name, Tuned]
    """By action space."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.source == "scratch") != (self.architecture is not None):
            raise ValueError("architecture: source scratch needs one, the others bring their own (null)")
        if (self.source == "scratch") != (self.name is None):
            raise ValueError("name: source scratch has none (null), the others need one")
        if self.source == "scratch" and self.lora is not None:
            raise ValueError("lora: adapters to weights drawn at random teach nothing; null for source scratch")
        if self.weights == "bf16" and self.lora is None:
            raise ValueError("weights: bf16 is for frozen weights, and without lora none is; fp32")
        pinned(self.source, self.revision)
        return self
