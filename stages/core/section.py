"""What the sections of params.yaml are made of: ranges by name, a strict base, and what all optimizers share."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$")]


class Section(BaseModel):
    """A frozen section: unknown keys fail, and a number written as `5e-6`, which YAML reads as text, is a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes YAML's true for 1; here it is a fault, in lists and mappings as well; sections check theirs."""
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        annotation = cls.model_fields[str(info.field_name)].annotation
        section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        if annotation is not bool and not section and any(isinstance(each, bool) for each in inner):
            raise ValueError("true and false are no values of this key")
        return value


class BeamSection(Section):
    """What searches lists by a beam."""

    beam_width: Count
    """Prefixes that are kept."""
    list_length: Count
    """n, items per list."""

    @model_validator(mode="after")
    def _wide_enough(self) -> Self:
        if self.beam_width < self.list_length:
            raise ValueError(f"beam_width {self.beam_width} is less than list_length {self.list_length}")
        return self


class OptimizerSection(Section):
    """An optimizer's own section: the class `Params` of its module adds its constants."""

    lr: Rate | None
    """Learning rate; null: the backbone's rl_lr."""
    kl: NotNegative | None
    """Weight of the k3 divergence from the SFT policy in the loss; null: rl.kl."""
