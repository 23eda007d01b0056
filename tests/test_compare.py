"""What a pull request's workflow runs, on a branch of the small pipeline: the comment, and the checks of dvc.lock."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from stages.compare import MARK, beyond, bounds_of, fitting
from tests.small_pipeline import ROOT, change, run, stages_run


@pytest.mark.parametrize(
    ("old", "new", "before", "after", "said"),
    [
        (0.5, 0.7, [0.4, 0.6], [0.6, 0.8], "**yes**"),
        (0.5, 0.6, [0.4, 0.6], [0.55, 0.8], "no"),  # on the bound of the old one's
        (0.5, 0.7, [0.4, 0.6], [0.5, 0.8], "no"),  # the old figure is on the bound of the new one's
        (0.5, 0.7, [0.4, 0.6], None, "-"),
        (None, 0.7, None, [0.6, 0.8], "-"),
        ("none", 0.7, [0.4, 0.6], [0.6, 0.8], "-"),
    ],
)
def test_beyond(old, new, before, after, said):
    assert beyond(old, new, before, after) == said


def test_bounds_stand_beside_their_scalar() -> None:
    """In the summary that is shipped: measures with dots in their names, and levels below a row's."""
    summary = json.loads((ROOT / "metrics/ml-100k.json").read_text())
    row = summary["semantic_id-sage"]
    for measure in ("ndcg@10", "valid.ndcg@10", "beam.ndcg@10"):
        assert bounds_of(summary, f"semantic_id-sage.{measure}") == row["intervals"][measure]
    for measure in ("slate", "sampled"):
        assert bounds_of(summary, f"semantic_id-sage.heldout.{measure}") == row["heldout"]["intervals"][measure]
    assert bounds_of(summary, "semantic_id-sage.rl.kl") is None
    for strange in (None, "wide", [None, 1.0], [0.0, 0.5, 1.0], {"low": 0.0}):
        assert bounds_of({"row": {"kl": 0.5, "intervals": {"kl": strange}}}, "row.kl") is None
    assert bounds_of({"row": {"kl": 0.5, "intervals": None}}, "row.kl") is None
    assert bounds_of(["kl"], "row.kl") is None


def test_what_does_not_fit_a_comment_is_cut() -> None:
    lines = [f"| {number} | {'x' * 90} |" for number in range(1000)]
    text = fitting(lines)
    assert 65_000 < len(text) <= 65_536
    head, end = text.split("\n\nCut here: a comment holds 65536 characters")
    assert head.splitlines() == lines[: head.count("\n") + 1]
    assert "`dvc metrics diff`" in end
    assert fitting(lines[:600]) == "\n".join(lines[:600]) + "\n"


def test_a_file_that_is_gone_and_names_that_are_no_markdown(tmp_path: Path) -> None:
    """Null, text and bounds of null are shown as they are; the comment begins with what finds it again."""
    checkout = tmp_path / "small"
    for name in ("stages", ".ci"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", checkout)
    (checkout / "metrics").mkdir()
    for name in ("gone", "a|b"):
        rows = {"<b>|`row`": {"kl": 0.5, "by": "hand", "intervals": {"kl": [None, 1.0]}}, "none": None}
        (checkout / f"metrics/{name}.json").write_text(json.dumps(rows))
    run(checkout, "git", "init", "-q", "-b", "main")
    run(checkout, "dvc", "init", "-q")
    run(checkout, "git", "add", "-A")
    run(checkout, "git", "commit", "-qm", "before")
    (checkout / "metrics/gone.json").unlink()
    rows["<b>|`row`"] |= {"kl": 0.75, "by": "machine"}
    (checkout / "metrics/a|b.json").write_text(json.dumps(rows))
    said = run(checkout, ".ci/compare", "HEAD", "https://example.org/report")
    assert said.startswith(f"{MARK}\n## Compared with `HEAD` (")
    assert "### Figures of `gone`\n\n`metrics/gone.json` is gone.\n" in said
    assert "### Figures of `a\\|b`\n" in said
    assert "| `<b>\\|'row'` | `kl` | 0.5000 | 0.7500 | +0.2500 | - |" in said
    assert '| `<b>\\|\'row\'` | `by` | `"hand"` | `"machine"` | - | - |' in said


@pytest.fixture(scope="module")
def repository(first_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose main branch is pushed with its data, on a branch with another eps_boost and its results."""
    base = tmp_path_factory.mktemp("compare")
    repository = shutil.copytree(first_run, base / "repository")
    (base / "remote").mkdir()
    run(repository, "dvc", "remote", "add", "--default", "shared", str(base / "remote"))
    run(repository, "git", "commit", "-qam", "remote")
    run(repository, "dvc", "push")
    run(repository, "git", "checkout", "-qb", "boost")
    overrides = ["sage.eps_boost=0.5", "sage.lr=0.05", "rl.evaluate_every=2"]  # the first step has no rewards
    output = run(repository, "dvc", "exp", "run", *(part for each in overrides for part in ("-S", each)))
    assert "rl@ml-100k-semantic_id-sage-1" in stages_run(output)
    run(repository, "git", "commit", "-qam", "eps_boost of 0.5")
    return repository


def clone(repository: Path, target: Path) -> Path:
    """As CI has it: Git alone, no data."""
    run(repository.parent, "git", "clone", "-q", str(repository), str(target))
    return target


@pytest.mark.slow
def test_the_comment_on_a_branch(repository: Path, tmp_path: Path) -> None:
    """Lines of tables have as many cells as their heads; the changed keys, and figures with bounds as in the files."""
    checkout = clone(repository, tmp_path / "ci" / "clone")
    text = run(checkout, ".ci/compare", "origin/main", "https://example.org/report")
    assert text.startswith(f"{MARK}\n## Compared with `origin/main` (")
    assert "| `sage.eps_boost` | `0.3` | `0.5` |" in text
    assert "| `sage.lr` | - | `0.05` |" in text
    assert "[The report with charts](https://example.org/report)" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") - line.count("\\|") for line in block.splitlines()}) == 1
    summaries = [
        json.loads(run(checkout, "git", "show", f"{rev}:metrics/ml-100k.json")) for rev in ("origin/main", "HEAD")
    ]
    measure = next(
        key
        for key in summaries[0]["semantic_id-sage"]["intervals"]
        if summaries[0]["semantic_id-sage"][key] != summaries[1]["semantic_id-sage"][key]
    )
    cells = [
        f"{own['semantic_id-sage'][measure]:.4f} [{', '.join(f'{bound:.4f}' for bound in bounds)}]"
        for own in summaries
        for bounds in [own["semantic_id-sage"]["intervals"][measure]]
    ]
    assert f"| `semantic_id-sage` | `{measure}` | {cells[0]} | {cells[1]} |" in text
    assert "popularity" not in text
    assert "Nothing differs." in run(checkout, ".ci/compare", "HEAD")
    refused = run(checkout, ".ci/compare", "--version", code=1)
    assert "error: git rev-parse" in refused


@pytest.mark.slow
def test_the_lock_check(repository: Path, tmp_path: Path) -> None:
    """Passes where everything was run; fails for code, parameters or metrics that were not, and names the cells."""
    checkout = clone(repository, tmp_path / "ci" / "clone")
    assert "dvc.lock is of this code and these parameters" in run(checkout, ".ci/lock")
    sage = checkout / "stages/objectives/sage.py"
    sage.write_text(sage.read_text() + "\nMORE = 1\n")
    change(checkout, evaluate={"resamples": 200})
    (checkout / "metrics/ml-100k/transitions/seed-1.json").write_text("{}")
    said = run(checkout, ".ci/lock", code=1)
    assert "rl@ml-100k-semantic_id-sage-1: stages/objectives/sage.py" in said
    assert "evaluate@ml-100k-semantic_id-grpo-1: params.yaml:evaluate" in said
    assert "metrics/ml-100k/transitions/seed-1.json" in said
    assert "rl@ml-100k-semantic_id-grpo-1" not in said


@pytest.mark.slow
def test_data_that_are_not_on_the_remote(repository: Path, tmp_path: Path) -> None:
    """The branch was committed and not pushed; after `dvc push` its data are there."""
    checkout = clone(repository, tmp_path / "ci" / "clone")
    own = {"DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    said = run(checkout, ".ci/lock", "--remote", "shared", code=1, **own)
    assert "files and folders of dvc.lock are missing; run `dvc push --run-cache`" in said
    assert "models/ml-100k/semantic_id/sage/seed-1" in said
    assert "data/ml-100k/corpus" not in said
    run(repository, "dvc", "push")
    assert "remote shared has all outputs" in run(checkout, ".ci/lock", "--remote", "shared", **own)


def test_the_workflow_calls_what_is_tested_here() -> None:
    """Commands of the workflow are the scripts; what others wrote reaches a shell as a variable, never as its text."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/compare.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step.get("run", "") for step in steps)
    assert "${{" not in commands
    for script in (".ci/compare ", ".ci/lock\n", '.ci/lock --remote "$DVC_REMOTE"'):
        assert script in commands + "\n"
    assert workflow["permissions"] == {"contents": "read"}


def test_secrets_and_checks_of_the_workflow() -> None:
    """Secrets reach the two steps that ask the remote, and no step of others'; a comment that fails stops no check."""
    (job,) = yaml.safe_load((ROOT / ".github/workflows/compare.yml").read_text())["jobs"].values()
    asking = [step for step in job["steps"] if "--remote" in step.get("run", "")]
    assert len(asking) == 2
    for step in job["steps"]:
        assert ("secrets." in str(step)) == (step in asking)
        if step in asking:
            assert "env.OPEN == 'true'" in step["if"]
        if ".ci/lock" in step.get("run", ""):
            assert "!cancelled()" in step["if"]
