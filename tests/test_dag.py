"""dvc.yaml against the code: what a cell imports, reads and writes is what the graph declares, and nothing more.

DVC follows neither imports nor reads of params.yaml. Here the source is read as syntax trees and never run.
"""

import ast
import itertools
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from stages.core import params, paths
from stages.core.cells import BASELINES, axis_of
from stages.core.language_models import FIXED
from stages.reporting import charts

ROOT = Path(__file__).parents[1]
TEMPLATE = re.compile(r"\$\{([\w.]+)\}")

# Code that no cell declares: none of it can change an output.
NO_DEPENDENCY = {
    "stages/core/cells.py": "names of cells, which stand in commands and in the names of files",
    "stages/core/params.py": "refuses values; those that are read stand under `params`",
    "stages/core/section.py": "the same",
    "stages/core/language_models.py": "the same",
    "stages/core/sections.py": "the same",
    "stages/core/spelling_sections.py": "the same",
    "stages/core/corpora.py": "the same",
    "stages/core/stage.py": "command line, log, progress bar",
    "stages/core/paths.py": "names of files; they stand in deps and outs",
    "stages/core/errors.py": "an exception",
}
# Whose module a stage loads by name, by folder: the cell's coordinate. A source is named by a value of params.yaml,
# which a template cannot reach through another one, so a cell depends on every source.
LOADED_BY = {"objectives": "optimizer", "baselines": "baseline", "action_spaces": "space"}
LOADED_BY_VALUE = {"semantic_ids": "semantic_id.tokenizer"}
LOADED_WHOLE = ("corpus", "retrievers")  # of the retrievers several may be named

WRITES: dict[str, Callable[..., set[Path]]] = {
    "download": lambda dataset: {paths.raw(dataset)},
    "download_encoder": lambda encoder: {paths.encoder(encoder)},
    "prepare": lambda dataset: {paths.corpus(dataset), paths.stage_metrics(dataset, "prepare")},
    "tokenize": lambda dataset, encoder: {
        paths.actions(dataset, "semantic_id"),
        paths.stage_metrics(dataset, "semantic_id"),
        paths.codes_curve(dataset),
    },
    "render": lambda dataset: {paths.actions(dataset, "text"), paths.stage_metrics(dataset, "text")},
    "download_backbone": lambda backbone: {paths.backbone(backbone)},
    "sft": lambda dataset, space, seed: {
        paths.model(dataset, space, "warmup", seed),
        paths.curve(dataset, paths.row(space, "warmup"), seed),
        paths.sft_metrics(dataset, paths.row(space, "warmup"), seed),
    },
    "sft_round2": lambda dataset, space, optimizer, seed: {
        paths.model(dataset, space, f"warmup_{optimizer}", seed),
        paths.curve(dataset, paths.row(space, f"warmup_{optimizer}"), seed),
        paths.sft_metrics(dataset, paths.row(space, f"warmup_{optimizer}"), seed),
    },
    "rl_round2": lambda dataset, space, optimizer, seed: WRITES["rl"](dataset, space, f"{optimizer}_round2", seed),
    "rl": lambda dataset, space, optimizer, seed: {
        paths.model(dataset, space, optimizer, seed),
        paths.curve(dataset, paths.row(space, optimizer), seed),
        paths.heldout_curve(dataset, paths.row(space, optimizer), seed),
        paths.run_metrics(dataset, paths.row(space, optimizer), seed),
        paths.heldout(dataset, paths.row(space, optimizer), seed),
        paths.harvest(dataset, paths.row(space, optimizer), seed),
    },
    "recommend": lambda dataset, space, optimizer, seed: {paths.slates(dataset, paths.row(space, optimizer), seed)},
    "baseline": lambda dataset, baseline, seed: {paths.slates(dataset, baseline, seed)},
    "sequential": lambda dataset, baseline, seed: {
        paths.slates(dataset, baseline, seed),
        paths.baseline_model(dataset, baseline, seed),
        paths.curve(dataset, baseline, seed),
    },
    "generative": lambda dataset, baseline, seed: WRITES["sequential"](dataset, baseline, seed),
    "evaluate": lambda dataset, row, seed: {paths.metrics(dataset, row, seed), paths.per_user(dataset, row, seed)},
    "figure_3": lambda: {paths.figure_3()},
    "tabulate": lambda dataset: {
        paths.summary(dataset),
        paths.report(dataset),
        paths.page(dataset),
        paths.rows_curve(dataset),
    },
}


# --- The graph -----------------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """One cell of dvc.yaml with its templates filled in."""

    stage: str
    coordinates: dict[str, Any]
    cmd: str
    deps: list[str]
    params: list[str]
    writes: list[str]

    @property
    def module(self) -> str:
        return self.cmd.split()[2]

    @property
    def arguments(self) -> dict[str, str]:
        words = self.cmd.split()[3:]
        return {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}


def cells(root: Path) -> dict[str, Cell]:
    """Every cell that the axes of params.yaml span, by DVC's name for it."""
    graph, values = (yaml.safe_load((root / name).read_text()) for name in ("dvc.yaml", "params.yaml"))
    values |= {"ablation_datasets": values["datasets"][:1], "second_round": ["sage"]}  # axes that are empty as shipped
    values |= {axis: baselines_on(axis) for axis in BASELINES}
    found = {}
    for stage, declared in graph["stages"].items():
        axes = {key: fill(axis, values) for key, axis in declared.get("matrix", {}).items()}
        for point in itertools.product(*axes.values()):
            item = dict(zip(axes, point, strict=True))
            filled = fill({key: value for key, value in declared.items() if key != "matrix"}, {**values, "item": item})
            writes = [name for kind in ("outs", "metrics", "plots") for name in filled.get(kind, [])]
            cell = Cell(
                stage,
                item,
                filled["cmd"],
                filled.get("deps", []),
                filled.get("params", []),
                [next(iter(name)) if isinstance(name, dict) else name for name in writes],
            )
            found["-".join([f"{stage}@{point[0]}", *map(str, point[1:])]) if point else stage] = cell
    return found


def baselines_on(axis: str) -> list[str]:
    """All that can stand on it."""
    return [name for name in params.modules("baselines") if axis_of(name) == axis]


def fill(value: Any, values: dict[str, Any]) -> Any:
    """Put values in the place of ${a.b}, as DVC does: a template that stands alone keeps its value's type."""
    if isinstance(value, list):
        return [fill(each, values) for each in value]
    if isinstance(value, dict):
        return {fill(key, values): fill(each, values) for key, each in value.items()}
    if not isinstance(value, str):
        return value
    if alone := TEMPLATE.fullmatch(value):
        return look_up(alone[1], values)
    return TEMPLATE.sub(lambda match: str(look_up(match[1], values)), value)


def look_up(key: str, values: dict[str, Any]) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


CELLS = cells(ROOT)
VALUES = yaml.safe_load((ROOT / "params.yaml").read_text())
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


# --- The code ------------------------------------------------------------------------------------------------------


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


def file_of(module: str) -> str | None:
    """`stages.core.files` -> `stages/core/files.py`; None for a package and for what is not the project's."""
    file = module.replace(".", "/") + ".py"
    return file if (ROOT / file).is_file() else None


@cache
def imports(file: str) -> frozenset[str]:
    """Files of the project that a file imports by a statement, anywhere in it."""
    names = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write the whole name"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found for name in names if name.split(".")[0] == "stages" and (found := file_of(name)))


def loaded(file: str, coordinates: dict[str, Any]) -> set[str]:
    """Files that a stage loads by a name: params.load_module("<folder>", ...)."""
    found = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load_module":
            assert isinstance(node.args[0], ast.Constant), f"{file}: load_module needs its folder as a literal"
            folder = str(node.args[0].value)
            if folder in LOADED_WHOLE:
                names = params.modules(folder)
            elif folder in LOADED_BY_VALUE:
                names = [look_up(LOADED_BY_VALUE[folder], VALUES)]
            else:
                names = [coordinates[LOADED_BY[folder]]]
            found |= {f"stages/{folder}/{name}.py" for name in names}
    return found


def code_of(cell: Cell) -> set[str]:
    """The stage's file and all that it imports or loads, directly or not, less what no cell declares."""
    entry = file_of(cell.module)
    assert entry, f"{cell.stage}: no module {cell.module}"
    found: set[str] = set()
    new = {entry}
    while new:
        found |= new
        stages = [file for file in new if Path(file).parent.name == "stages"]  # a second round imports the first's
        more = {name for file in stages for name in loaded(file, cell.coordinates)}
        new = (more | {name for file in new for name in imports(file)}) - found - NO_DEPENDENCY.keys()
    return found


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


# --- Code and files ------------------------------------------------------------------------------------------------


def alike(cell: Cell) -> list[Cell]:
    """The cell on every action space, or with every baseline of its axis."""
    others = {"space": params.modules("action_spaces")}
    if "baseline" in cell.coordinates:
        others["baseline"] = baselines_on(axis_of(cell.coordinates["baseline"]))
    key = next((key for key in others if key in cell.coordinates), None)
    return [cell._replace(coordinates={**cell.coordinates, key: name}) for name in others[key]] if key else [cell]


@every_cell
def test_imports_are_deps(cell):
    missing = [file for file in sorted(code_of(cell)) if not any(covers(dep, file) for dep in cell.deps)]
    assert not missing, f"dvc.yaml: {cell.stage} imports these and does not name them under deps"


@every_cell
def test_code_deps_are_imported(cell):
    """By the cell, or by the stage on another action space, or with another baseline of its axis: a template cannot say
    what one of them imports alone.
    """
    code, deps = set().union(*map(code_of, alike(cell))), [dep for dep in cell.deps if dep.startswith("stages/")]
    idle = [dep for dep in deps if not any(covers(dep, file) for file in code)]
    assert not idle, f"dvc.yaml: {cell.stage} names these under deps and does not import them"
    assert len(set(cell.deps)) == len(cell.deps)


@every_cell
def test_other_deps_are_written_by_a_cell_or_in_git(cell):
    written = [name for other in CELLS.values() for name in other.writes]
    for dep in cell.deps:
        if not dep.startswith("stages/"):
            assert any(covers(dep, name) for name in written) or (ROOT / dep).is_file(), dep


@every_cell
def test_outputs_are_those_of_paths(cell):
    expected = WRITES[cell.module.removeprefix("stages.")](**cell.arguments)
    assert {Path(name) for name in cell.writes} == expected


@every_cell
def test_command_has_the_arguments_of_the_stage(cell):
    file = file_of(cell.module)
    runs = [node for node in ast.walk(tree(str(file))) if isinstance(node, ast.Call)]
    taken = next(node.args[2:] for node in runs if ast.unparse(node.func) == "stage.run")
    assert [name.value for name in taken if isinstance(name, ast.Constant)] == list(cell.arguments)


# --- Parameters ----------------------------------------------------------------------------------------------------


def reads(cell: Cell) -> set[str]:
    """Dotted keys of params.yaml that the functions a cell can reach read.

    Followed are `params.load()`, its sections through assignments, and arguments annotated with the class of a section.
    """
    functions = [(file, node) for file in sorted(code_of(cell)) for node in functions_of(file)]
    reached, new = [], [entry for entry in functions if entry[0] == file_of(cell.module)]
    while new:
        reached += new
        used = {name for _, function in reached for name in names_in(function)} | {"__init__"}
        used |= {name for file in code_of(cell) for name in names_in_tables(file)}
        new = [entry for entry in functions if entry[1].name in used and entry not in reached]
    found = {key for file, function in reached for key in Reader(cell, file).keys(function)}
    return found | tuned(cell, found)


def tuned(cell: Cell, found: set[str]) -> set[str]:
    """Where a backbone may change keys of `sft` and `rl` for the cell's action space (`Params.on`)."""
    if "space" not in cell.coordinates or cell.module == "stages.evaluate":
        return set()
    fixed = {key for section, keys in FIXED.items() for key in (f"{section}.{name}" for name in keys)}
    place = f"backbones.{VALUES['backbone']}.spaces.{cell.coordinates['space']}"
    sections = {key.split(".")[0] for key in found - fixed if key.startswith(("sft.", "rl."))}
    return {f"{place}.{section}" for section in (*sections, "policy")}


@cache
def names_in_tables(file: str) -> frozenset[str]:
    """Names in a module's own assignments, such as a table of functions by the value that chooses one."""
    tables = [node.value for node in tree(file).body if isinstance(node, ast.Assign | ast.AnnAssign) and node.value]
    return frozenset(node.id for table in tables for node in ast.walk(table) if isinstance(node, ast.Name))


@cache
def functions_of(file: str) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree(file)) if isinstance(node, ast.FunctionDef)]


@cache
def names_in(function: ast.FunctionDef) -> frozenset[str]:
    return frozenset(str(getattr(node, "id", getattr(node, "attr", ""))) for node in ast.walk(function))


class Reader:
    """Finds the keys that one function reads. A place is a dotted key of params.yaml, "" the whole file."""

    def __init__(self, cell: Cell, file: str) -> None:
        self.cell, self.file = cell, file
        self.backbone = f"backbones.{VALUES['backbone']}"
        self.corpus = f"corpora.{cell.coordinates.get('dataset')}"

    def keys(self, function: ast.FunctionDef) -> Iterator[str]:
        self.places: dict[str, str] = {}
        for argument in [*function.args.args, *function.args.kwonlyargs]:
            place = self.annotated(ast.unparse(argument.annotation)) if argument.annotation else None
            if place is not None:
                self.places[argument.arg] = place
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                self.assign(node.targets[0], node.value)
        for node in ast.walk(function):
            place = self.place(node) if isinstance(node, ast.expr) else None
            if place and self.is_value(place):
                yield place
            if isinstance(node, ast.Subscript) and place and "ablation" in self.cell.coordinates:
                yield f"ablations.{self.cell.coordinates['ablation']}"  # which changes keys of the optimizer's section
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("settings.policies"):
                yield from ("action_spaces", "optimizers", "second_round", "ablation_datasets", "ablations")

    def annotated(self, name: str) -> str | None:
        """The section that a class of parameters describes; an own one only where the cell is that module's."""
        if name == "Params" and Path(self.file).parent.name == "stages":  # the whole file, in a stage
            return ""
        if name.endswith("Params"):
            own = name.split(".")[0] if "." in name else Path(self.file).stem
            return own if own in self.cell.coordinates.values() else None
        known = {
            "Corpus": self.corpus,
            "Backbone": self.backbone,
            "Encoder": f"encoders.{VALUES['encoder']}",
            "SemanticId": "semantic_id",
            "Ids": f"{self.cell.coordinates['baseline']}.ids" if "baseline" in self.cell.coordinates else "semantic_id",
        }
        return known.get(name, name.lower() if name in ("Sft", "Rl", "Recommend", "Evaluate", "Tabulate") else None)

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for inner, each in zip(target.elts, value.elts, strict=True):
                self.assign(inner, each)
        elif isinstance(target, ast.Name) and (place := self.place(value)) is not None:
            self.places[target.id] = place

    def place(self, node: ast.expr) -> str | None:
        """Where in params.yaml an expression points, or None."""
        match node:
            case ast.Name(id=name):
                return self.places.get(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="params"), attr="load")):
                return ""
            case ast.Call(func=ast.Attribute(value=owner, attr="on")) if self.place(owner) == "":
                return ""
            case ast.Call(func=ast.Attribute(value=owner, attr="corpus")) if self.place(owner) == "":
                return self.corpus
            case ast.Call(func=ast.Name(id="getattr"), args=[owner, ast.Constant(value=name), *_]):
                return self.under(self.place(owner), str(name))
            case ast.Subscript(value=ast.Attribute(value=owner, attr="own"), slice=key) if self.place(owner) == "":
                named = key.value if isinstance(key, ast.Constant) else self.cell.coordinates[ast.unparse(key)]
                return str(named)
            case ast.Attribute(value=owner, attr=name):
                return self.under(self.place(owner), name)
        return None

    def under(self, place: str | None, name: str) -> str | None:
        if place is None:
            return None
        if place == "":
            policy = f"{self.cell.coordinates.get('space')}.policy"
            return {"axes": "", "backbone": self.backbone, "own": None, "policy": policy}.get(name, name)
        return f"{place}.{name}"

    def is_value(self, place: str) -> bool:
        """Whether a place is a key that is read, not a section on the way to one."""
        axes = params.AXES
        if place.endswith(".policy"):  # which a cell of one space hands on whole
            return "space" in self.cell.coordinates
        deep = place.startswith(("corpora.", "backbones.", "encoders.")) or ".policy." in place
        return place in axes or place.count(".") == 1 + deep


@every_cell
def test_params_that_are_read_are_declared(cell):
    missing = [
        key for key in sorted(reads(cell)) if not any(key == own or key.startswith(f"{own}.") for own in cell.params)
    ]
    assert not missing, f"dvc.yaml: {cell.stage} reads these and does not name them under params"


@every_cell
def test_declared_params_are_read(cell):
    """By the cell, or by the stage with another baseline of its axis, as what it imports."""
    found = set().union(*map(reads, alike(cell) if "baseline" in cell.coordinates else [cell]))
    idle = [own for own in cell.params if not any(key == own or key.startswith(f"{own}.") for key in found)]
    assert not idle, f"dvc.yaml: {cell.stage} declares these and reads none of their keys"
    assert len(set(cell.params)) == len(cell.params)


@every_cell
def test_declared_params_exist(cell):
    for key in cell.params:
        look_up(key, VALUES)


# --- Names ---------------------------------------------------------------------------------------------------------


def test_every_name_on_an_axis_is_a_module_and_a_section():
    for axis, folder in (("optimizers", "objectives"), *((axis, "baselines") for axis in BASELINES)):
        for name in VALUES[axis]:
            assert name in params.modules(folder)
            assert name in VALUES
    assert all(axis_of(name) in BASELINES and name in VALUES for name in params.modules("baselines"))


def test_ablations_have_the_same_names_everywhere():
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in ("rl_ablation", "recommend_ablation", "evaluate_ablation"):
        assert graph[stage]["matrix"]["ablation"] == list(VALUES["ablations"])
    assert list(charts.ABLATIONS) == list(VALUES["ablations"])


@pytest.mark.parametrize("name", params.modules("objectives"))
def test_every_optimizer_can_be_put_on_the_axis(name):
    """It has a section, and imports what the stage `rl` depends on in every cell: no other optimizer."""
    assert name in VALUES
    shared = {dep for cell in CELLS.values() if cell.stage == "rl" for dep in cell.deps} | NO_DEPENDENCY.keys()
    others = {f"stages/objectives/{other}.py" for other in params.modules("objectives")}
    assert imports(f"stages/objectives/{name}.py") <= shared - others


REINFORCE = """
from stages.core.section import OptimizerSection
from stages.objectives.terms import Loss, slate_ratio, summed_advantages


class Params(OptimizerSection):
    pass


def advantages(rewards, weights, params, divide_by_std):
    return summed_advantages(rewards, weights, divide_by_std)


def loss(slates, advantage, params):
    return Loss(-(slate_ratio(slates) * advantage).mean(), {})
"""


def test_an_optimizer_is_a_module_a_section_and_a_list_entry(project, python):
    before = cells(project)
    (project / "stages/objectives/reinforce.py").write_text(REINFORCE)
    text = (project / "params.yaml").read_text()
    text = text.replace("optimizers:\n", "optimizers:\n  - reinforce\n", 1) + "\nreinforce:\n  lr: null\n  kl: null\n"
    (project / "params.yaml").write_text(text)
    loads = python("-c", "from stages.core import params; assert params.load().own['reinforce'].lr is None")
    assert loads.returncode == 0, loads.stderr
    after = cells(project)
    lists = (VALUES[axis] for axis in ("datasets", "action_spaces", "seeds"))
    points = [f"{dataset}-{space}-reinforce-{seed}" for dataset, space, seed in itertools.product(*lists)]
    assert after.keys() - before.keys() == {
        f"{stage}@{point}" for stage in ("rl", "recommend", "evaluate") for point in points
    }
    assert {name: after[name] for name in before} == before
    values = yaml.safe_load(text)
    changed = {
        cell.stage for cell in before.values() if any(look_up(k, values) != look_up(k, VALUES) for k in cell.params)
    }
    assert changed == {"tabulate"}


NOUNS = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("stages/*/**/*.py") if file.parent.name != "core")
VERBS = {str(file.relative_to(ROOT)) for file in ROOT.glob("stages/*.py")}
NO_STAGES = ("compare", "serve", "show", "verify")  # look at what stages wrote, and are none


@pytest.mark.parametrize("file", NOUNS)
def test_nouns_import_no_stage_read_no_params_know_no_paths(file):
    assert not imports(file) & VERBS
    assert "stages/core/paths.py" not in imports(file)
    names = {ast.unparse(node) for node in ast.walk(tree(file)) if isinstance(node, ast.Name | ast.Attribute)}
    loads = "stages/core/params.py" in imports(file) and names & {"params.load", "load_module", "params.load_module"}
    assert not loads
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom) and node.module == "stages.core.params":
            assert not {alias.name for alias in node.names} & {"load", "load_module", "modules"}


@pytest.mark.parametrize("package", sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("stages/*/__init__.py")))
def test_packages_import_nothing(package):
    assert not [node for node in ast.walk(tree(package)) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("verb", sorted({Path(file).stem for file in VERBS} - {"__init__", *NO_STAGES}))
def test_every_stage_is_in_the_graph(verb):
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert f"stages.{verb}" in {declared["cmd"].split()[2] for declared in graph.values()}
