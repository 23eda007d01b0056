"""The real DAG on a small real slice of MovieLens-100K (small_pipeline.py): run, run again, change.

The tests build on one another, in the order in which a newcomer meets them.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages.core import params
from stages.core.cells import axis_of
from tests.browser import needs_chromium, opened
from tests.small_pipeline import ROOT, environment, run, stages_run

pytestmark = pytest.mark.slow

ROWS = [
    "popularity",
    "sasrec",
    "semantic_id-gbpo",
    "semantic_id-grpo",
    "semantic_id-sage",
    "semantic_id-sft",
    "transitions",
]
SAGE_CELLS = {
    "rl@ml-100k-semantic_id-sage-1",
    "recommend@ml-100k-semantic_id-sage-1",
    "evaluate@ml-100k-semantic_id-sage-1",
    "tabulate@ml-100k",
}


LAST = ("evaluate@ml-100k-semantic_id-sage-1", "tabulate@ml-100k")
KILLS = int(os.environ.get("SAGE_TEST_KILLS", "1"))  # moments at which sft and rl are killed


@pytest.fixture(scope="module")
def repository(first_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first run, to be changed by these tests."""
    return shutil.copytree(first_run, tmp_path_factory.mktemp("pipeline") / "repository")


def test_first_run_fills_the_table(repository: Path) -> None:
    summary = json.loads((repository / "metrics/ml-100k.json").read_text())
    assert sorted(row for row in summary if isinstance(summary[row], dict) and "ndcg@10" in summary[row]) == ROWS
    report = (repository / "reports/ml-100k.md").read_text()
    assert all(row in report for row in ROWS)


@needs_chromium
def test_the_report_and_the_plots_draw_without_a_network(repository: Path, tmp_path: Path) -> None:
    page = repository / "reports/ml-100k.html"
    shown = opened(page, tmp_path)
    assert (shown.errors, shown.requests) == ([], [])
    assert shown.dom.count('data-drawn="yes"') == page.read_text().count('class="chart" id=') == 7
    run(repository, "dvc", "plots", "show", "-o", str(tmp_path / "plots"))
    plots = opened(tmp_path / "plots/index.html", tmp_path / "again")
    assert (plots.errors, plots.requests) == ([], [])
    assert plots.dom.count('class="chart-wrapper') >= 10


def test_one_user_of_one_cell(repository: Path) -> None:
    """Titles and scores of the slate in the file; the title that was held out is marked where it is in."""
    users = pd.read_parquet(repository / "data/ml-100k/corpus/users.parquet")["user_id"]
    command = (
        sys.executable,
        "-m",
        "stages.show",
        "--dataset",
        "ml-100k",
        "--row",
        "semantic_id-sage",
        "--user",
        users[3],
    )
    said = run(repository, *command)
    slates = pd.read_parquet(repository / "data/ml-100k/slates/semantic_id-sage/seed-1.parquet")
    own = slates[(slates["user"] == 3) & (slates["split"] == "test") & (slates["decoder"] == "slate")]
    titles = pd.read_parquet(repository / "data/ml-100k/corpus/items.parquet")["title"]
    for rank, item, score in own.sort_values("rank")[["rank", "item", "score"]].itertuples(index=False):
        assert re.search(rf"^ +{rank}  {re.escape(titles[item][:70])} +{score:.4f}", said, re.MULTILINE)
    assert "rl@ml-100k-semantic_id-sage-1" in said
    refused = subprocess.run([*command[:-1], "nobody"], cwd=repository, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "--user: 'nobody' is none of the 40 users of the corpus" in refused.stderr


def test_slates_are_whole_lists_of_unseen_items(repository: Path) -> None:
    slates = pd.read_parquet(repository / "data/ml-100k/slates/semantic_id-sage/seed-1.parquet")
    log = pd.read_parquet(repository / "data/ml-100k/corpus/interactions.parquet")
    seen = set(zip(*log[log["split"] == "train"][["user", "item"]].to_numpy().T, strict=True))
    assert (slates.groupby(["user", "split", "decoder"])["item"].nunique() == 10).all()
    assert not seen & set(zip(slates["user"], slates["item"], strict=True))
    assert set(slates["decoder"]) == {"slate", "beam"}


def test_curves_hold_every_diagnostic(repository: Path) -> None:
    steps = pd.read_csv(repository / "metrics/curves/ml-100k/semantic_id-sage/seed-1.csv")
    named = {"reward_click", "reward_like", "kl", "cold_mass", "ratio_max", "at_upper_bound", "lambda_mean"}
    assert named <= set(steps.columns)
    assert steps["step"].tolist() == [1, 2]
    looks = pd.read_csv(repository / "metrics/curves/ml-100k/semantic_id-sage/heldout-1.csv")
    assert looks["step"].tolist() == [0, 1, 2]


def test_second_run_does_nothing(repository: Path) -> None:
    output = run(repository, "dvc", "repro")
    assert not stages_run(output)
    assert "up to date" in output


def test_one_override_reruns_only_what_depends_on_it(repository: Path) -> None:
    output = run(repository, "dvc", "exp", "run", "-S", "sage.eps_boost=0.5")
    assert stages_run(output) == SAGE_CELLS
    changed = run(repository, "dvc", "metrics", "diff", "--targets", "metrics/ml-100k.json")
    assert not changed or {line.split()[1].split(".")[0] for line in changed.splitlines()[1:]} == {"semantic_id-sage"}
    back = run(repository, "dvc", "exp", "run", "-S", "sage.eps_boost=0.3")
    assert not stages_run(back)


def test_a_cell_run_again_gives_the_same_bytes(repository: Path) -> None:
    before = (repository / "dvc.lock").read_text()
    for cell in ("sequential@ml-100k-sasrec-1", "sft@ml-100k-semantic_id-1", "rl@ml-100k-semantic_id-sage-1", *LAST):
        output = run(repository, "dvc", "repro", "--force", "--single-item", cell)
        assert stages_run(output) == {cell}
    assert (repository / "dvc.lock").read_text() == before
    assert not run(repository, "git", "status", "--porcelain", "metrics", "dvc.lock")


def test_two_seeds_of_two_optimizers(repository: Path) -> None:
    overrides = ["optimizers=[sft,sage]", "seeds=[1,2]", "baselines=[popularity]"]
    output = run(repository, "dvc", "exp", "run", *(part for override in overrides for part in ("-S", override)))
    assert {"sft@ml-100k-semantic_id-2", "rl@ml-100k-semantic_id-sage-2"} <= stages_run(output)
    assert not any("grpo" in stage for stage in stages_run(output))
    summary = json.loads((repository / "metrics/ml-100k.json").read_text())
    assert "semantic_id-gbpo" not in summary
    assert "semantic_id-sage" in summary


def test_one_line_runs_every_baseline(repository: Path) -> None:
    """Each learnt baseline becomes a row that is judged by its list, with a curve and weights; then nothing is left."""
    learnt = ("sequential_baselines", "generative_baselines")
    of = {axis: [name for name in params.modules("baselines") if axis_of(name) == axis] for axis in learnt}
    overrides = [
        f"sequential_baselines=[{','.join(of[learnt[0]])}]",
        f"generative_baselines=[{','.join(of[learnt[1]])}]",
    ]
    overrides += ["seeds=[1]"]
    output = run(repository, "dvc", "exp", "run", *(part for override in overrides for part in ("-S", override)))
    names = {name: axis.removesuffix("_baselines") for axis in learnt for name in of[axis]}
    cells = {f"{stage}{kind}@ml-100k-{name}-1" for name, kind in names.items() for stage in ("", "evaluate_")}
    assert {cell for cell in cells if "sasrec-1" not in cell} <= stages_run(output)
    report = (repository / "reports/ml-100k.md").read_text()
    for name, kind in names.items():
        assert f"| {name} | list |" in report
        found = json.loads((repository / f"metrics/ml-100k/{name}/seed-1.json").read_text())
        assert found["provenance"][0] == ["cell", f"evaluate_{kind}@ml-100k-{name}-1"]
        curve = pd.read_csv(repository / f"metrics/curves/ml-100k/{name}/seed-1.csv")
        assert curve["valid_ndcg@10"].max() == pytest.approx(found["valid.ndcg@10"], rel=1e-5)
        assert (repository / f"models/ml-100k/{name}/seed-1/model.safetensors").exists()
    assert not stages_run(run(repository, "dvc", "repro"))


def test_one_line_runs_a_second_round(repository: Path) -> None:
    """SFT learns from what RL found, RL starts from it; the harvest holds nothing that users are judged by."""
    output = run(repository, "dvc", "exp", "run", "-S", "second_round=[sage]", "-S", "seeds=[1]")
    again = {f"{stage}_round2@ml-100k-semantic_id-sage-1" for stage in ("sft", "rl", "recommend", "evaluate")}
    assert stages_run(output) == again | {"tabulate@ml-100k"}
    harvest = pd.read_parquet(repository / "data/ml-100k/harvest/semantic_id-sage/seed-1.parquet").explode("items")
    log = pd.read_parquet(repository / "data/ml-100k/corpus/interactions.parquet")
    judged = log[log["split"] != "train"]
    assert len(harvest)
    kept = set(zip(harvest["user"], harvest["items"], strict=True))
    assert not kept & set(zip(judged["user"], judged["item"], strict=True))
    later = harvest.merge(log, left_on=["user", "items"], right_on=["user", "item"], suffixes=("", "_log"))
    assert len(later) == len(harvest)
    assert (later["position_log"] >= later["position"]).all()
    curve = pd.read_csv(repository / "metrics/curves/ml-100k/semantic_id-warmup_sage/seed-1.csv")
    high = harvest[harvest["reward"] >= params.load(repository / "params.yaml").harvest.min_reward]
    assert (curve["harvested"] == high.groupby(["user", "position"]).ngroups).all()
    assert "| semantic_id-sage_round2 | slate |" in (repository / "reports/ml-100k.md").read_text()


def test_one_line_runs_the_ablations(repository: Path) -> None:
    """SAGE less each part, behind the cells that are there; Figure 5 is drawn then."""
    output = run(repository, "dvc", "exp", "run", "-S", "ablation_datasets=[ml-100k]", "-S", "seeds=[1]")
    names = [f"ml-100k-semantic_id-sage-{name}-1" for name in params.load(ROOT / "params.yaml").ablations]
    ablated = {f"{stage}_ablation@{name}" for stage in ("rl", "recommend", "evaluate") for name in names}
    assert stages_run(output) == ablated | {"tabulate@ml-100k"}
    assert "Ablation (Figure 5)" in (repository / "reports/ml-100k.html").read_text()
    found = json.loads((repository / "metrics/ml-100k/semantic_id-sage_no_boost/seed-1.json").read_text())
    assert found["provenance"][0] == ["cell", "evaluate_ablation@ml-100k-semantic_id-sage-sage_no_boost-1"]
    readme = (repository / "models/ml-100k/semantic_id/sage_no_boost/seed-1/README.md").read_text()
    assert '"eps_boost": 0.0' in readme


@pytest.mark.parametrize(
    ("stage", "outs"),
    [
        (["sft"], ["warmup/seed-1", "semantic_id-warmup/seed-1.csv"]),
        (
            ["rl", "--optimizer", "sage"],
            ["sage/seed-1", "semantic_id-sage/seed-1.csv", "semantic_id-sage/heldout-1.csv"],
        ),
    ],
)
def test_killed_at_any_moment_it_ends_with_the_same_bytes(repository, tmp_path, stage, outs) -> None:
    """kill -9 at random moments of a longer run, then the same command again: what an undisturbed run gives."""
    copy = shutil.copytree(repository, tmp_path / "copy", ignore=shutil.ignore_patterns(".dvc", ".git"))
    values = yaml.safe_load((copy / "params.yaml").read_text())
    values["sft"] |= {"epochs": 8, "patience": 8}
    values["rl"] |= {"rollouts": 8, "evaluate_every": 2, "contexts": 8}
    (copy / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    coordinates = ["--dataset", "ml-100k", "--space", "semantic_id", "--seed", "1"]
    command = [sys.executable, "-m", f"stages.{stage[0]}", *stage[1:], *coordinates]

    model = copy / "models/ml-100k/semantic_id" / outs[0]
    curves = [copy / "metrics/curves/ml-100k" / out for out in outs[1:]]
    harvest = [copy / "data/ml-100k/harvest/semantic_id-sage/seed-1.parquet"]

    def outcome() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in [*sorted(model.iterdir()), *curves, *harvest]}

    started = time.monotonic()
    run(copy, *command)
    duration, undisturbed = time.monotonic() - started, outcome()
    assert len(undisturbed) >= 3
    killed = 0
    moments = random.Random(0)
    for _ in range(KILLS):
        shutil.rmtree(model)  # as DVC does before a stage
        for curve in curves:
            curve.unlink()
        process = subprocess.Popen(command, cwd=copy, env=environment(copy), stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=moments.uniform(0.3, 0.8) * duration)  # the first part of it is imports
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        run(copy, *command)
        assert outcome() == undisturbed
    assert killed
    assert not any((copy.parent / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (["sft"], "SFT diverged: no epoch has a finite validation loss; lower the backbone's sft_lr"),
        (
            ["rl", "--optimizer", "sage"],
            r"RL diverged: step \d has no finite gradient; lower rl_lr or sage.lr",
        ),
    ],
)
def test_a_run_that_diverges_publishes_nothing(repository, tmp_path, stage, message) -> None:
    """A weight decay that blows the weights up: one line says what to lower, and the policy that is there stays."""
    copy = shutil.copytree(repository, tmp_path / "copy", ignore=shutil.ignore_patterns(".dvc", ".git"))
    values = yaml.safe_load((copy / "params.yaml").read_text())
    values[stage[0]]["weight_decay"] = 1e30
    (copy / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    policy = (
        copy / "models/ml-100k/semantic_id" / ("warmup" if stage[0] == "sft" else "sage") / "seed-1/model.safetensors"
    )
    before = policy.read_bytes()
    command = [sys.executable, "-m", f"stages.{stage[0]}", *stage[1:], "--dataset", "ml-100k", "--space", "semantic_id"]
    done = subprocess.run([*command, "--seed", "1"], cwd=copy, env=environment(copy), capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(message, done.stderr.splitlines()[-1])
    assert policy.read_bytes() == before


def test_native_text_by_one_override(repository: Path) -> None:
    """The same stages on names picked from pools, in one table with Semantic IDs; written unaided as well.

    Two processes run the command of one.
    """
    overrides = ["action_spaces=[semantic_id,text]", "optimizers=[sft,sage]", "baselines=[]", "seeds=[1]"]
    overrides += ["recommend.free=true", "ablation_datasets=[]", "second_round=[]"]
    output = run(repository, "dvc", "exp", "run", *(part for override in overrides for part in ("-S", override)))
    assert {"sft@ml-100k-text-1", "rl@ml-100k-text-sage-1"} <= stages_run(output)
    assert not any(
        stage.startswith(("sft@ml-100k-semantic_id", "rl@ml-100k-semantic_id")) for stage in stages_run(output)
    )
    report = (repository / "reports/ml-100k.md").read_text()
    rows = ["| text-sft | slate |", "| text-sage | slate |", "| text-sage | beam |", "| text-sage | free |"]
    rows += ["| semantic_id-sft | slate |", "| semantic_id-sage | slate |"]
    assert all(row in report for row in rows)
    assert report.count("| text | pool |") == 5  # the retriever's own order, once per table
    found = json.loads((repository / "metrics/ml-100k/text-sage/seed-1.json").read_text())
    assert found["invalid_share"] == 0
    assert (
        found["detail"]["test"]["pool"]["recall@10"][0]
        <= json.loads((repository / "metrics/ml-100k/text.json").read_text())["pool_recall"]["test"]
    )
    curve = repository / "metrics/curves/ml-100k/text-sage/seed-1.csv"
    alone = pd.read_csv(curve)
    shared = {**environment(repository), "SAGE_PROCESSES": "2", "OMP_NUM_THREADS": "1"}
    command = ["dvc", "repro", "--force", "--single-item", "rl@ml-100k-text-sage-1"]
    done = subprocess.run(command, cwd=repository, env=shared, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    together = pd.read_csv(curve)
    assert together["reward"].tolist() == pytest.approx(alone["reward"].tolist(), rel=1e-4)
    assert together["gradient_norm"].tolist() == pytest.approx(alone["gradient_norm"].tolist(), rel=1e-3)
