"""What the code never does: unpickle, run a model's code, hand parameters to a shell; and what it always pins."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from stages.core import params
from stages.core.cells import Axes
from stages.core.errors import InputError

ROOT = Path(__file__).parents[1]
CODE = sorted([*ROOT.glob("stages/**/*.py"), *ROOT.glob("benchmarks/*.py")])
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
CALLS = {"torch.load", "torch.save", "eval", "exec", "os.system", "os.popen", "yaml.load"}
OBJECTS = {"gather_object", "all_gather_object", "broadcast_object_list", "scatter_object_list"}  # which pickle
ANYWHERE = {"read_pickle", "to_pickle", *OBJECTS}
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|ghp_\w{30,}|hf_[A-Za-z]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|(?i:password|secret_access_key)\s*[=:]\s*['\"]?\w"
)
every_module = pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))


def imported(tree: ast.Module) -> dict[str, str]:
    """What the names of a module's imports stand for: {"np": "numpy", "save_file": "safetensors.torch.save_file"}."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


@every_module
def test_nothing_is_unpickled_or_run(path: Path) -> None:
    tree = ast.parse(path.read_text())
    stands_for = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not MODULES & {name.split(".")[0] for name in names}, ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        first, *rest = ast.unparse(node.func).split(".")
        name = ".".join([stands_for.get(first, first), *rest])
        assert name not in CALLS, ast.unparse(node)
        assert name.split(".")[-1] not in ANYWHERE, ast.unparse(node)
        keywords = {each.arg: ast.unparse(each.value) for each in node.keywords}
        assert keywords.get("shell") in (None, "False"), ast.unparse(node)
        assert keywords.get("allow_pickle") in (None, "False"), ast.unparse(node)
        assert keywords.get("trust_remote_code") in (None, "False"), ast.unparse(node)
        assert keywords.get("safe_serialization") in (None, "True"), ast.unparse(node)


def test_a_hook_that_reads_the_code_sees_what_it_looks_for(tmp_path: Path) -> None:
    """The scan itself: each of these has to fail it."""
    for text in (
        "import pickle",
        "from joblib import load",
        "import torch as t; t.load('x')",
        "from torch import load; load('x')",
        "from os import system as run; run('x')",
        "import pandas; pandas.read_pickle('x')",
        "from accelerate.utils import gather_object; gather_object([])",
        "run('x', shell=True)",
    ):
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(AssertionError):
            test_nothing_is_unpickled_or_run(tmp_path / "bad.py")


def test_commands_hold_names_and_seeds_alone() -> None:
    """Every template in a command is a coordinate of the cell or the name of a backbone or an encoder."""
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    allowed = {f"item.{key}" for stage in graph["stages"].values() for key in stage.get("matrix", {})}
    allowed |= {"backbone", "encoder"}
    for name, stage in graph["stages"].items():
        assert set(re.findall(r"\$\{([^}]*)\}", stage["cmd"])) <= allowed, name


@pytest.mark.parametrize("key", [name for name in Axes.model_fields if name != "seeds"])
@pytest.mark.parametrize("name", ["x; touch hacked", "$(touch hacked)", "`x`", "a b", "a|b", "../x", "-rf", ""])
def test_a_name_that_a_shell_would_read_is_refused(tmp_path: Path, key: str, name: str) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values[key] = [name] if isinstance(values[key], list) else name
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=rf"{key}.*should match pattern"):
        params.load(tmp_path / "params.yaml")


def test_wheels_and_hub_models_are_pinned() -> None:
    """Every wheel by its SHA-256, every hub model by its commit: the places that name one."""
    nodes = [node for path in CODE for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    wheels = [ast.unparse(node) for node in nodes if ast.unparse(node.func).endswith("Wheel")]
    assert len(wheels) >= 3
    for wheel in wheels:
        assert re.search(r"['\"][0-9a-f]{64}['\"]", wheel), wheel
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    models = [*values["backbones"].values(), *values["encoders"].values()]
    assert all(re.fullmatch(r"[0-9a-f]{40}", own["revision"]) for own in models if own["source"] == "hub")


def test_no_secret_is_committed() -> None:
    config = (ROOT / ".dvc/config").read_text()
    assert not re.search(r"(?i)password|secret|access_key|token|sas", config)
    files = [*CODE, ROOT / "params.yaml", ROOT / "dvc.yaml", *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.yml")]
    for path in files:
        assert not SECRET.search(path.read_text()), path
    assert "/config.local" in (ROOT / ".dvc/.gitignore").read_text()


def test_the_security_rules_are_on() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not {"S301", "S506", "S602", "S604", "S605"} & set(lint["ignore"])
    assert "ruff check" in (ROOT / "Makefile").read_text()
    assert "make check" in (ROOT / ".ci/run").read_text()
