"""params.yaml as typed, frozen sections: the only source of values.

Every stage loads and checks the whole file before it starts, so that a misspelt key or value stops the first cell that
runs and names itself: section.key, the value, what is allowed. The sections that stages share are declared here; an
optimizer's or a baseline's own section is the class `Params` of the module that bears its name, found by that name.

Checking imports those modules, so this file is no dependency of any stage in dvc.yaml: it changes no value, it only
refuses some. What a stage reads is declared under `params` there.
"""

import difflib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from stages.core.errors import InputError

STAGES = Path(__file__).parents[1]
Model = TypeVar("Model", bound=BaseModel)

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$")]


class Section(BaseModel):
    """A frozen section: unknown keys fail, and a number written as `5e-6`, which YAML reads as text, is a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes YAML's true for 1; here it is a fault, in lists and mappings as well."""
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        annotation = cls.model_fields[str(info.field_name)].annotation
        if annotation is not bool and any(isinstance(each, bool) for each in inner):
            raise ValueError("true and false are no values of this key")
        return value


class Feedback(Section):
    """Which interactions carry an objective."""

    rule: Literal["any", "at_least", "tail"]
    """any: all | at_least: `column` is at least `threshold` | tail: the item is in the lower half by train_count."""
    column: str | None = None
    """A column of the source's interactions (rule at_least)."""
    threshold: float | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.rule == "at_least" and (self.column is None or self.threshold is None):
            raise ValueError("rule at_least needs column and threshold")
        return self


class Corpus(Section):
    """One data set: where it comes from and how it is cut."""

    source: str
    """A module of stages/corpus."""
    path: str | None
    """Folder of the user's own files (source local)."""
    k_core: Count
    """Users and items with fewer interactions are dropped until none is left; 1 keeps all."""
    tie_order: Literal["file", "shuffle"]
    """Order of a user's interactions that share a timestamp: as in the file, or drawn by a fixed seed."""
    category_level: Annotated[int, Field(ge=1)] | None
    """null: every entry of an item's categories is one | n: the n-th entry of the path, root = 1."""
    cold_share: Share
    """Cold items: this share of the catalogue, least frequent in training (Sec. 4.1.3)."""
    cold_ties: Literal["include", "exclude", "exact"]
    """Where the cut falls inside a tie: all of the tie is cold, none of it, or by item number up to the share."""
    feedback: dict[Name, Feedback]
    objectives: dict[Name, float]
    """Weight w_m of each objective in Eq. 7; negative feedback has a negative weight."""
    exclude_seen: bool
    """Whether items of the history are left out of rollouts and recommendations."""

    @field_validator("objectives")
    @classmethod
    def _objectives_exist(cls, objectives: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        feedback = info.data.get("feedback", objectives)  # absent where feedback itself is at fault
        unknown = [name for name in objectives if name not in feedback]
        if unknown or not objectives:
            what = f"'{unknown[0]}' is no key of feedback" if unknown else "empty; name at least one key of feedback"
            raise ValueError(f"{what} ({', '.join(feedback)})")
        return objectives


class SemanticId(Section):
    """Residual k-means ids."""

    levels: Annotated[int, Field(ge=1, le=5)]
    codebook_size: Annotated[int, Field(ge=2)]
    seed: int


class Backbone(Section):
    """A language model and the learning rates that suit it."""

    hidden_size: Count
    layers: Count
    heads: Count
    feed_forward: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Of attention weights, in SFT only: RL scores slates without it, so that r = 1 at the first update."""
    precision: Literal["fp32", "bf16"]
    """bf16: autocast in training; sampling and decoding stay in fp32."""
    sft_lr: Rate
    rl_lr: Rate

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of heads {self.heads}")
        return self


class Fill(Section):
    """Transition counts that fill up slate labels; see stages/baselines/transitions.py."""

    window: Count
    last_items: Count
    decay: Rate


class Sft(Section):
    """Supervised fine-tuning, and what it leaves to RL."""

    label: Literal["history", "slate"]
    epochs: Count
    batch_size: Count
    item_dropout: Annotated[float, Field(ge=0, lt=1)]
    history_items: Annotated[int, Field(ge=2)]
    warmup: Share
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    patience: Count
    holdback: Annotated[int, Field(ge=2)]
    reserve: Annotated[float, Field(gt=0, lt=1)]
    min_items: Count
    fill_weight: Share
    fill: Fill


class Rl(Section):
    """Algorithm 1: what all optimizers share."""

    slate_length: Count
    group_size: Annotated[int, Field(ge=2)]
    contexts: Count
    rollouts: Count
    updates_per_rollout: Count
    temperature: Annotated[float, Field(gt=0)]
    horizon: Count
    kl: Annotated[float, Field(ge=0)]
    entropy_rate: Rate
    max_grad_norm: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    evaluate_every: Count
    reserve_positions: Count
    cold_contexts: Count


class Recommend(Section):
    """Decoding."""

    batch_size: Count
    beam_width: Count
    list_length: Annotated[int, Field(ge=10)]

    @model_validator(mode="after")
    def _wide_enough(self) -> Self:
        if self.beam_width < self.list_length:
            raise ValueError(f"beam_width {self.beam_width} is less than list_length {self.list_length}")
        return self


class Evaluate(Section):
    """Bootstrap over users."""

    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: int


class Axes(Section):
    """The lists that span the matrix of cells."""

    datasets: list[Name] = Field(min_length=1)
    action_spaces: list[Name] = Field(min_length=1)
    optimizers: list[Name] = Field(min_length=1)
    baselines: list[Name]
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    backbone: Name
    encoder: Name

    @field_validator("datasets", "action_spaces", "optimizers", "baselines", "seeds")
    @classmethod
    def _no_twins(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) < len(values):
            raise ValueError(f"{values} names one value twice")
        return values


class Params(Section):
    """The whole file."""

    axes: Axes
    corpora: dict[Name, Corpus]
    semantic_id: SemanticId
    backbones: dict[Name, Backbone]
    sft: Sft
    rl: Rl
    recommend: Recommend
    evaluate: Evaluate
    own: dict[str, Any]
    """Sections of optimizers and baselines, by name."""

    def corpus(self, dataset: str) -> Corpus:
        """The section of a data set. Raises InputError where there is none."""
        _one_of("--dataset", dataset, list(self.corpora), "keys of corpora")
        return self.corpora[dataset]

    @property
    def backbone(self) -> Backbone:
        return self.backbones[self.axes.backbone]


AXES = tuple(Axes.model_fields)
SHARED = tuple(name for name in Params.model_fields if name not in ("axes", "own"))


def modules(folder: str) -> list[str]:
    """Names of the modules in a folder of stages/ that can be chosen: those that declare Params, Actions or read."""
    return sorted(path.stem for path in (STAGES / folder).glob("*.py") if _offers(path))


def _offers(path: Path) -> bool:
    text = path.read_text()
    return any(f"\n{start}" in text for start in ("class Params(", "Params = ", "class Actions:", "def read("))


def load_module(folder: str, name: str, key: str) -> ModuleType:
    """Import stages/<folder>/<name>.py, the one way a name in params.yaml becomes code."""
    _one_of(key, name, modules(folder), f"modules of stages/{folder}")
    return importlib.import_module(f"stages.{folder}.{name}")


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check the whole of params.yaml. Raises InputError that names every fault."""
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run stages from the repository's root") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: has to be a mapping of sections")
    folders = {name: folder for folder in ("objectives", "baselines") for name in modules(folder)}
    known = [*AXES, *SHARED, *folders]
    for key in values:
        if key not in known:
            _one_of(key, key, known, "sections")
    own = {name: _own_section(name, folder, values) for name, folder in folders.items() if name in values}
    params = _parse(
        Params,
        {
            "axes": {key: values[key] for key in AXES if key in values},
            **{key: values[key] for key in SHARED if key in values},
            "own": {},
        },
        "",
    )
    _check_axes(params.axes, values)
    return params.model_copy(update={"own": own})


def _own_section(name: str, folder: str, values: dict[str, Any]) -> Any:
    """Parse the section of one optimizer or baseline with the class `Params` of its module, or None if shared."""
    schema = getattr(importlib.import_module(f"stages.{folder}.{name}"), "Params", None)
    return None if schema is None else _parse(schema, {} if values[name] is None else values[name], name)


def _check_axes(axes: Axes, values: dict[str, Any]) -> None:
    """Hold every name on an axis to what there is: a section, a module, an action space."""
    for dataset in axes.datasets:
        _one_of("datasets", dataset, list(values["corpora"]), "keys of corpora")
    for name, corpus in values["corpora"].items():
        _one_of(f"corpora.{name}.source", corpus["source"], modules("corpus"), "modules of stages/corpus")
    _one_of("backbone", axes.backbone, list(values["backbones"]), "keys of backbones")
    encoders = importlib.import_module("stages.semantic_ids.encoders").ENCODERS
    _one_of("encoder", axes.encoder, list(encoders), "names in stages/semantic_ids/encoders.py")
    for space in axes.action_spaces:
        _one_of("action_spaces", space, modules("action_spaces"), "modules of stages/action_spaces")
    for axis, folder in (("optimizers", "objectives"), ("baselines", "baselines")):
        for name in getattr(axes, axis):
            _one_of(axis, name, modules(folder), f"modules of stages/{folder}")
            if name not in values:
                raise InputError(f"params.yaml: {axis}: '{name}' has no section; add '{name}:' with its keys")


def _parse(schema: type[Model], values: Any, section: str) -> Model:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = [_fault(section, fault, schema) for fault in error.errors()]
        raise InputError("params.yaml: " + "; ".join(lines)) from error


def _fault(section: str, fault: Any, schema: type[BaseModel]) -> str:
    """One fault as `section.key: what is wrong (value)`, with the nearest key where the key is unknown."""
    location = [str(part) for part in fault["loc"] if part != "axes"]
    key = ".".join([section, *location]).strip(".")
    if fault["type"] == "extra_forbidden":
        allowed = list(_section_at(schema, location[:-1]).model_fields)
        near = difflib.get_close_matches(location[-1], allowed, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"{key}: unknown key{hint} (allowed: {', '.join(allowed)})"
    if fault["type"] == "missing":
        return f"{key}: missing; add it, with a value"
    if fault["type"] == "model_type":
        return f"{key}: has to be a mapping of keys (found {fault['input']!r})"
    found = "" if isinstance(fault["input"], dict) else f" (found {fault['input']!r})"
    return f"{key}: {fault['msg'].removeprefix('Value error, ')}{found}"


def _section_at(schema: Any, location: list[str]) -> Any:
    """The section that a location leads to, through sections and mappings of sections."""
    for part in location:
        fields = getattr(schema, "model_fields", None)
        schema = fields[part].annotation if fields else get_args(schema)[-1]
    return schema


def _one_of(key: str, value: str, allowed: list[str], what: str) -> None:
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise InputError(f"params.yaml: {key}: '{value}' is none of the {what}: {', '.join(allowed)}{hint}")
