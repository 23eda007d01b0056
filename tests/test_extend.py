"""docs/extend.md is true: each of its diffs applies to the code as it is, and what it adds runs."""

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
SECTIONS = re.split(r"^## ", (ROOT / "docs/extend.md").read_text(), flags=re.MULTILINE)[1:]
DIFFS = {text.splitlines()[0]: re.findall(r"^```diff\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) for text in SECTIONS}


def test_each_section_is_one_diff():
    assert {name: len(found) for name, found in DIFFS.items()} == {
        "An optimizer": 1,
        "A baseline": 1,
        "A reward": 1,
        "A data set": 1,
        "A backbone": 1,
    }


@pytest.fixture
def extended(project, python, request):
    """Apply the diff of a section to a copy, and give what runs Python there and fails with its error."""
    subprocess.run(["git", "init", "--quiet", "."], cwd=project, check=True)
    diff = DIFFS[request.param][0]
    applied = subprocess.run(["git", "apply", "-"], cwd=project, input=diff, capture_output=True, text=True)
    assert applied.returncode == 0, applied.stderr

    def run(*arguments: str) -> str:
        done = python(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def own_set(project, log, items):
    """A data set beside the copy: (user, item, position), and items with titles."""
    folder = project.parent / "my-data"
    folder.mkdir()
    pd.DataFrame(log, columns=["user_id", "item_id", "position"]).to_parquet(folder / "interactions.parquet")
    titles = pd.DataFrame({"item_id": range(items), "title": [f"item {number}" for number in range(items)]})
    titles.to_parquet(folder / "items.parquet")


OPTIMIZER = """
import torch
from stages.core import params
from stages.objectives.terms import ScoredSlates

settings = params.load()
assert "rloo" in settings.axes.optimizers
own, objective = settings.own["rloo"], params.load_module("objectives", "rloo", "optimizers")
rewards = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [0.5, 0.0]]])  # one user, three slates, two objectives
advantage = objective.advantages(rewards, torch.tensor([1.0, 0.5]), own, True)  # totals 2, 0, 0.5
assert torch.allclose(advantage, torch.tensor([[1.75, -1.25, -0.5]])), advantage

log_probs = torch.full((1, 3, 4), -1.0, requires_grad=True)
mask, item = torch.ones(1, 3, 4, dtype=torch.bool), torch.tensor([0, 0, 1, 1]).expand(1, 3, 4)
slates = ScoredSlates(log_probs, log_probs.detach(), mask, item, 2, torch.zeros(1, 3), torch.tensor(0.0))
value, diagnostics = objective.loss(slates, advantage, own)
value.backward()
assert torch.isclose(value, torch.tensor(0.0), atol=1e-6)
# d loss / d log pi(token) = -A r / (L x slates) with r = 1, L = 2
assert torch.allclose(log_probs.grad[0, :, 0], -advantage[0] / 6), log_probs.grad
assert diagnostics["ratio_mean"] == 1 and diagnostics["at_upper_bound"] == 0
"""


@pytest.mark.parametrize("extended", ["An optimizer"], indirect=True)
def test_optimizer(extended):
    extended("-c", OPTIMIZER)


@pytest.mark.parametrize("extended", ["A baseline"], indirect=True)
def test_baseline(extended, project, monkeypatch, tmp_path):
    """It trains in its stage, and learns that item follows item."""
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    log = [(user, (user + position) % 12, position) for user in range(48) for position in range(8)]
    own_set(project, log, 12)
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("path: ../shared/data/beauty", "path: ../my-data", 1))
    for stage in ("download", "prepare"):
        extended("-m", f"stages.{stage}", "--dataset", "beauty")
    extended("-m", "stages.sequential", "--dataset", "beauty", "--baseline", "gru4rec", "--seed", "1")
    lists = pd.read_parquet(project / "data/beauty/slates/gru4rec/seed-1.parquet")
    first = lists[(lists["split"] == "test") & (lists["rank"] == 1)]
    assert len(first) == 48
    kept = pd.read_parquet(project / "data/beauty/corpus/interactions.parquet")
    target = kept[kept["split"] == "test"].set_index("user")["item"]
    assert (first["item"].to_numpy() == target[first["user"]].to_numpy()).mean() > 0.9
    assert (project / "models/beauty/gru4rec/seed-1/model.safetensors").exists()


REWARD = """
import pandas as pd
import pyarrow as pa
from stages.core import params
from stages.corpus.cut import cut
from stages.corpus.raw_log import ITEM, in_memory

settings = params.load().corpus("ml-100k")
assert list(settings.objectives) == ["click", "like", "tail_click"]
names = list("abcd")
log = [("u", "a", 4.0), ("u", "b", 3.0), ("u", "c", 1.0), ("u", "d", 5.0)]
log += [("v", "a", 1.0), ("v", "b", 1.0), ("v", "a", 4.0)]
fields = pa.schema([("item_id", pa.string()), *ITEM])
items = pa.table([names, names, names, [[["x"]]] * 4], schema=fields)
interactions = pa.Table.from_pandas(
    pd.DataFrame(log, columns=["user_id", "item_id", "rating"]).assign(timestamp=range(len(log))), preserve_index=False
)
table = pa.concat_tables(cut(in_memory(items, None, interactions), settings).interactions())
assert table["click"].to_pylist() == [1] * 7
assert table["like"].to_pylist() == [1, 0, 0, 1, 0, 0, 1]
# Training counts: a 2, b 1, c 0, d 0 (the last two of each user are held out); the median is 0.5
assert table["tail_click"].to_pylist() == [0, 0, 1, 1, 0, 0, 0]
"""


@pytest.mark.parametrize("extended", ["A reward"], indirect=True)
def test_reward(extended):
    extended("-c", REWARD)


@pytest.mark.parametrize("extended", ["A data set"], indirect=True)
def test_data_set(extended, project):
    log = [(user, (user + position) % 8, position) for user in range(6) for position in range(8)]
    own_set(project, [*log, (0, 8, 8)], 9)  # an item that one user has is below k_core
    for stage in ("download", "prepare"):
        extended("-m", f"stages.{stage}", "--dataset", "mine")
    found = json.loads((project / "metrics/mine/prepare.json").read_text())
    kept = pd.read_parquet(project / "data/mine/corpus/interactions.parquet")
    assert (found["users"], found["items"], found["interactions"], len(kept)) == (6, 8, 48, 48)
    assert kept["click"].sum() == 48
    assert kept["split"].value_counts().to_dict() == {"train": 36, "valid": 6, "test": 6}


BACKBONE = """
from stages import download_backbone
from stages.core import params, paths
from stages.policy import backbone

settings = params.load()
assert settings.axes.backbone == "small"
assert settings.on("text").sft.epochs == 2
sizes = []
for name in ("small", "tiny"):
    download_backbone.main(name)
    sizes.append(backbone.create(settings.backbones[name], paths.backbone(name), 99, 1).num_parameters())
assert sizes[0] > 4 * sizes[1], sizes
"""


@pytest.mark.parametrize("extended", ["A backbone"], indirect=True)
def test_backbone(extended, project):
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("backbone: tiny", "backbone: small", 1))
    extended("-c", BACKBONE)
