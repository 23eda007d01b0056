"""params.yaml as typed, frozen sections: the only source of values.

Every stage loads and checks the whole file before it starts, so that a misspelt key or value stops the first cell that
runs and names itself: section.key, the value, what is allowed. Shared sections are declared in sections.py, corpora.py
and language_models.py; an optimizer's or a baseline's own section is the class `Params` of the module that bears its
name, found by that name.

Checking imports those modules, so this file is no dependency of any stage in dvc.yaml: it refuses values, and puts
those that a backbone has for an action space in the place of the shared ones (`Params.on`). What a stage reads is
declared under `params` there.
"""

import difflib
import importlib
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError, model_validator

from stages.core.cells import ABLATED, BASELINES, SECOND, STILL, Axes, Cells, modules, on_axis
from stages.core.corpora import Corpus
from stages.core.errors import InputError, one_of
from stages.core.language_models import Backbone
from stages.core.section import Name
from stages.core.sections import Evaluate, Figure3, Harvest, Recommend, Rewards, Rl, Sft, Tabulate
from stages.core.spelling_sections import Encoder, SemanticId, Text

Model = TypeVar("Model", bound=BaseModel)


class Params(Cells):
    """The whole file."""

    corpora: dict[Name, Corpus]
    encoders: dict[Name, Encoder]
    semantic_id: SemanticId
    text: Text
    backbones: dict[Name, Backbone]
    sft: Sft
    rl: Rl
    harvest: Harvest
    rewards: Rewards
    recommend: Recommend
    evaluate: Evaluate
    tabulate: Tabulate
    figure_3: Figure3
    own: dict[str, Any]
    """Sections of optimizers and baselines, by name; those of ablations are SAGE's with their keys changed."""
    policy: Any = None
    """What an action space tells its policies, after `on`: the key `policy` of its section. No key of the file."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._fit_together()
        return self

    def _fit_together(self) -> None:
        """Hold sections to each other."""
        if self.rl.minibatches > self.rl.contexts:
            raise ValueError(f"rl.minibatches {self.rl.minibatches} is more than rl.contexts {self.rl.contexts}")
        if self.text.pool_size < self.rl.slate_length:
            raise ValueError(
                f"text.pool_size {self.text.pool_size} is less than rl.slate_length {self.rl.slate_length}, the items "
                "that a slate takes out of a pool"
            )
        if self.text.tasks.pool_size < self.rl.slate_length:
            raise ValueError(
                f"text.tasks.pool_size {self.text.tasks.pool_size} is less than rl.slate_length {self.rl.slate_length}"
            )
        if self.rl.horizon > self.sft.holdback:
            raise ValueError(
                f"rl.horizon {self.rl.horizon} is more than sft.holdback {self.sft.holdback}, the items it needs"
            )
        if self.rewards.source == "belief" and self.rewards.beam_width < self.rl.slate_length:
            raise ValueError(
                f"rewards.beam_width {self.rewards.beam_width} is less than rl.slate_length {self.rl.slate_length}: "
                "ranks behind it would earn nothing"
            )

    def corpus(self, dataset: str) -> Corpus:
        """The section of a data set. Raises InputError where there is none."""
        one_of("--dataset", dataset, list(self.corpora), "keys of corpora")
        return self.corpora[dataset]

    @property
    def backbone(self) -> Backbone:
        return self.backbones[self.axes.backbone]

    def on(self, space: str, backbone: str | None = None) -> Self:
        """The file as a backbone, by default the chosen one, has it on an action space: `sft`, `rl`, `policy`.

        Raises InputError for a misfit.
        """
        chosen = backbone or self.axes.backbone
        spaces, name = self.backbones[chosen].spaces, f"backbones.{chosen}.spaces"
        one_of(name, space, modules("action_spaces"), "modules of stages/action_spaces")
        if space not in spaces:
            raise InputError(f"params.yaml: {name}: '{space}' is missing; add it, with sft, rl and policy")
        sft = _parse(Sft, self.sft.model_dump() | spaces[space].sft, f"{name}.{space}.sft")
        rl = _parse(Rl, self.rl.model_dump() | spaces[space].rl, f"{name}.{space}.rl")
        told = getattr(self, space).policy
        policy = _parse(type(told), told.model_dump() | spaces[space].policy, f"{name}.{space}.policy")
        found = self.model_copy(update={"sft": sft, "rl": rl, "policy": policy})
        try:
            found._fit_together()
        except ValueError as error:
            raise InputError(f"params.yaml: with {name}.{space}, {error}") from error
        return found


AXES = tuple(Axes.model_fields)
SHARED = tuple(name for name in Params.model_fields if name not in ("axes", "own", "policy"))


def load_module(folder: str, name: str, key: str) -> ModuleType:
    """Import stages/<folder>/<name>.py, the one way a name in params.yaml becomes code."""
    one_of(key, name, modules(folder), f"modules of stages/{folder}")
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
            one_of(key, key, known, "sections")
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
    for name, backbone in params.backbones.items():
        for space in backbone.spaces:
            params.on(space, name)
    own |= _ablations(params, own, list(folders))
    own |= {f"{name}{SECOND}": section for name, section in own.items() if folders.get(name) == "objectives"}
    return params.model_copy(update={"own": own})


def _ablations(params: Params, own: dict[str, Any], taken: list[str]) -> dict[str, Any]:
    """Sections of the ablations: that of the optimizer that they take parts from, with their keys changed."""
    if params.ablations and ABLATED not in own:
        raise InputError(f"params.yaml: '{ABLATED}' has no section, and ablations change its keys; add it")
    for name in params.ablations:
        if name in taken or name.startswith("warmup") or name.endswith(SECOND):
            raise InputError(
                f"params.yaml: ablations: '{name}' is the name of an optimizer, a baseline, an SFT policy or a round"
            )
    return {
        name: _parse(type(own[ABLATED]), own[ABLATED].model_dump() | changed, f"ablations.{name}")
        for name, changed in params.ablations.items()
    }


def _own_section(name: str, folder: str, values: dict[str, Any]) -> Any:
    """Parse the section of one optimizer or baseline with the class `Params` of its module, or None if shared."""
    schema = getattr(importlib.import_module(f"stages.{folder}.{name}"), "Params", None)
    return None if schema is None else _parse(schema, {} if values[name] is None else values[name], name)


def _check_axes(axes: Axes, values: dict[str, Any]) -> None:
    """Hold every name on an axis to what there is: a section, a module, an action space."""
    for dataset in axes.datasets:
        one_of("datasets", dataset, list(values["corpora"]), "keys of corpora")
    for name, corpus in values["corpora"].items():
        one_of(f"corpora.{name}.source", corpus["source"], modules("corpus"), "modules of stages/corpus")
    tokenizer = values["semantic_id"]["tokenizer"]
    one_of("semantic_id.tokenizer", tokenizer, modules("semantic_ids"), "modules of stages/semantic_ids")
    for retriever in values["text"]["retrievers"]:
        one_of("text.retrievers", retriever, modules("retrievers"), "modules of stages/retrievers")
    one_of("backbone", axes.backbone, list(values["backbones"]), "keys of backbones")
    one_of("encoder", axes.encoder, list(values["encoders"]), "keys of encoders")
    for space in axes.action_spaces:
        one_of("action_spaces", space, modules("action_spaces"), "modules of stages/action_spaces")
    for dataset in axes.ablation_datasets:
        one_of("ablation_datasets", dataset, axes.datasets, "datasets")
        one_of("optimizers", ABLATED, axes.optimizers, "optimizers, and ablations are measured by it")
    for name in axes.second_round:
        one_of("second_round", name, [other for other in axes.optimizers if other != STILL], "optimizers that learn")
    _check_modules(axes, values)


def _check_modules(axes: Axes, values: dict[str, Any]) -> None:
    """Hold optimizers and baselines to modules and sections, and baselines to their axis."""
    for axis, folder in (("optimizers", "objectives"), *((axis, "baselines") for axis in BASELINES)):
        for name in getattr(axes, axis):
            one_of(axis, name, modules(folder), f"modules of stages/{folder}")
            if name not in values:
                raise InputError(f"params.yaml: {axis}: '{name}' has no section; add '{name}:' with its keys")
            if folder == "baselines":
                on_axis(f"params.yaml: {axis}", name, axis)


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
    said = f"{fault['msg'].removeprefix('Value error, ')}{found}"
    return f"{key}: {said}" if key else said


def _section_at(schema: Any, location: list[str]) -> Any:
    """The section that a location leads to, through sections and mappings of sections."""
    for part in location:
        fields = getattr(schema, "model_fields", None)
        schema = fields[part].annotation if fields else get_args(schema)[-1]
        if isinstance(schema, UnionType):  # a section or null
            schema = next(kind for kind in get_args(schema) if kind is not NoneType)
    return schema
