"""From slates to metrics and the report, on two users and five items; and every malformed slate by its name."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages import evaluate, tabulate
from stages.core import paths
from stages.core.errors import InputError
from stages.core.files import write_table
from stages.core.schema import HELD_OUT, INTERACTIONS, ITEMS, SLATES, USERS
from stages.core.sections import Evaluate, Tabulate
from stages.measures.slates import parse

TARGET = {"test": np.array([2, 3, -1]), "valid": np.array([1, 0, -1])}  # user 2 has none
HASHES = [["params", "1a"], ["inputs", "2b"], ["code", "3c"]]
ROOT = Path(__file__).parents[1]
SETTINGS = Evaluate(max_users=None, resamples=200, confidence=0.95, seed=1)
TESTS = Tabulate(rounds=200, level=0.05)


def rows(split, decoder, user, items):
    return [(user, split, decoder, rank, item, 0.5) for rank, item in enumerate(items, 1)]


def good(decoder="list"):
    """Test: user 0's target 2 stands second, user 1's target 3 is absent and a slot is empty. Valid: both first."""
    return [
        *rows("test", decoder, 0, [0, 2]),
        *rows("test", decoder, 1, [-1, 1]),
        *rows("valid", decoder, 0, [1, 2]),
        *rows("valid", decoder, 1, [0, 4]),
    ]


def table(lines):
    columns = list(zip(*lines, strict=True))
    return pa.table([pa.array(own, field.type) for own, field in zip(columns, SLATES, strict=True)], schema=SLATES)


def test_rows_in_any_order_become_lists():
    found = parse(table(good()[::-1]), TARGET, 5, "here")
    assert set(found) == {("test", "list"), ("valid", "list")}
    assert found["test", "list"].user.tolist() == [0, 1]
    assert found["test", "list"].items.tolist() == [[0, 2], [-1, 1]]


def replaced(index, **values):
    """The good rows with some columns of one row replaced."""
    lines = good()
    names = SLATES.names
    lines[index] = tuple(values.get(name, old) for name, old in zip(names, lines[index], strict=True))
    return lines


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (replaced(0, item=5), r"item 5 is outside -1\.\.4"),
        (replaced(0, item=-2), "item -2 is outside"),
        (replaced(1, rank=1), "split test, decoder list: user 0 has rank 1 twice"),
        (good() + rows("test", "list", 0, [3, 4]), "user 0 has rank 1 twice"),
        (replaced(0, score=float("nan")), "1 scores are NaN"),
        (replaced(0, score=None), "column 'score' has 1 missing values"),
        (replaced(0, split="train"), r"unknown split 'train' \(allowed: test, valid\)"),
        (replaced(0, decoder="greedy"), "unknown decoder 'greedy'"),
        (replaced(1, rank=3), r"user 0 has ranks \[1, 3\], not 1..2"),
        (replaced(0, rank=0), r"user 0 has ranks \[0, 2\], not 1..2"),
        (good()[1:], r"user 0 has ranks \[2\], not 1"),
        ([*good(), (1, "test", "list", 3, 4, 0.5)], "every user needs ranks 1..n of one n"),
        (good()[2:], "1 of 2 users with a target have no list, first 0"),
        (good() + rows("test", "list", 2, [0, 1]), "user 2 has no target in this split"),
        (good() + rows("test", "list", 9, [0, 1]), "user 9 has no target in this split, or is unknown"),
        (good()[:4], "no rows of split valid with decoder slate or list"),
        (good("beam"), "no rows of split test with decoder slate or list"),
    ],
)
def test_malformed_slates_are_refused(lines, message):
    with pytest.raises(InputError, match=message) as error:
        parse(table(lines), TARGET, 5, "slates.parquet")
    assert str(error.value).startswith("slates.parquet: ")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository with a corpus of five items (4 is cold) and three users, and axes of one policy and one baseline."""
    monkeypatch.chdir(tmp_path)
    folder = paths.corpus("toy")
    folder.mkdir(parents=True)
    items = {"item": range(5), "item_id": list("abcde"), "title": [""] * 5, "text": [""] * 5}
    items |= {
        "categories": [["x"], ["x"], ["y"], ["y"], []],
        "train_count": [3, 2, 2, 1, 0],
        "cold": [False] * 4 + [True],
    }
    split = ["train", "valid", "test", "train", "valid", "test", "train"]
    log = {"user": [0, 0, 0, 1, 1, 1, 2], "item": [0, 1, 2, 1, 0, 3, 2], "position": [0, 1, 2, 0, 1, 2, 0]}
    log |= {"timestamp": range(7), "split": split}
    users = {"user": range(3), "user_id": list("uvw")}
    for name, schema, columns in (
        ("items", ITEMS, items),
        ("interactions", INTERACTIONS, log),
        ("users", USERS, users),
    ):
        arrays = [pa.array(columns[field.name], field.type) for field in schema]
        pq.write_table(pa.table(arrays, schema=schema), folder / f"{name}.parquet")
    axes = SimpleNamespace(action_spaces=["text"], optimizers=["sft"], baselines=["popularity"], seeds=[1])
    axes.sequential_baselines, axes.generative_baselines = [], []
    loaded = SimpleNamespace(
        evaluate=SETTINGS,
        tabulate=TESTS,
        axes=axes,
        every_optimizer=lambda: ["sft"],
        policies=lambda dataset: [("text", "sft")],
        cell=lambda stage, dataset, space, optimizer, seed: (stage, ["dataset", "space", "optimizer", "seed"]),
    )
    monkeypatch.setattr("stages.core.params.load", lambda: loaded)
    found = {"baselines": ["popularity"], "action_spaces": ["text"], "objectives": ["sft"]}
    monkeypatch.setattr("stages.core.params.modules", found.__getitem__)
    monkeypatch.setattr(evaluate, "provenance", lambda stage, cell: [["cell", f"{stage} {sorted(cell)}"], *HASHES])
    monkeypatch.setattr(tabulate, "provenance", lambda stage, cell: [["cell", f"{stage}@{cell['dataset']}"], *HASHES])
    for name in ("data/published.csv", "data/published_notes.csv", "metrics/curves/figure_3.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, name)
    return axes


def write(row, seed, lines):
    path = paths.slates("toy", row, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(lines), path)


def metrics(row, seed=1):
    return json.loads(paths.metrics("toy", row, seed).read_text())


def test_figures_of_a_baseline(tree):
    """Test: recall (1 + 0) / 2, ndcg (1 / log2(3)) / 2 = 0.315465; {x, y} has 1 bit, {-, x} 0: mean 0.5;
    pooled x, y, x: 0.918296; 3 of 5 items shown, no cold one; 1 of 4 slots empty. Valid: both targets first, ndcg 1.
    """
    write("popularity", 1, good())
    evaluate.main("toy", "popularity", 1)
    found = metrics("popularity")
    scalars = {name: value for name, value in found.items() if not isinstance(value, dict | list)}
    assert scalars == {
        **{"ndcg@5": 0.315465, "ndcg@10": 0.315465, "recall@5": 0.5, "recall@10": 0.5},
        **{"entropy_slate@10": 0.5, "entropy_pooled@10": 0.918296, "coverage@10": 0.6, "invalid_share": 0.25},
        **{"cold_recall@10": None, "cold_coverage@10": 0.0, "valid.ndcg@10": 1.0},
    }
    assert found["counts"]["users"] == [2]
    assert found["counts"]["cold_targets"] == [0]
    assert found["provenance"] == [["cell", "evaluate_baseline ['baseline', 'dataset', 'seed']"], *HASHES]
    assert found["detail"]["valid"]["list"]["cold_exposure@10"][0] == 0.25  # item 4 in one of 4 slots
    assert found["detail"]["test"]["list"]["coverage@10"] == [0.6, None, None]
    assert found["intervals"]["recall@10"] == [0, 1]
    assert "coverage@10" not in found["intervals"]


def test_per_user_values(tree):
    write("popularity", 1, good())
    evaluate.main("toy", "popularity", 1)
    found = pq.read_table(paths.per_user("toy", "popularity", 1))
    assert found["user"].to_pylist() == [0, 1, 0, 1]
    assert found["split"].to_pylist() == ["test", "test", "valid", "valid"]
    assert found["recall@10"].to_pylist() == [1, 0, 1, 1]
    assert found["entropy_slate@10"].to_pylist() == [1, 0, 1, 0]
    assert found["cold_recall@10"].to_pylist() == [None] * 4


def test_a_policy_is_judged_by_its_slate_and_shows_its_beam(tree):
    """The beam swaps user 0's test list, which brings the target to the first place: ndcg (1 + 0) / 2."""
    beam = [*rows("test", "beam", 0, [2, 0]), *rows("test", "beam", 1, [0, 1])]
    write("text-sft", 1, good("slate") + beam)
    evaluate.main("toy", "text-sft", 1)
    found = metrics("text-sft")
    assert found["ndcg@10"] == 0.315465
    assert found["beam.ndcg@10"] == 0.5
    assert found["provenance"] == [["cell", "evaluate ['dataset', 'optimizer', 'seed', 'space']"], *HASHES]
    assert sum(not isinstance(value, dict | list) for value in found.values()) == 12


def test_same_slates_same_bytes(tree):
    write("popularity", 1, good())
    write("popularity", 2, good()[::-1])
    outs = []
    for seed in (1, 1, 2):
        evaluate.main("toy", "popularity", seed)
        files = (paths.metrics("toy", "popularity", seed), paths.per_user("toy", "popularity", seed))
        outs.append([file.read_bytes() for file in files])
    assert outs[0] == outs[1] == outs[2]


def test_an_unknown_row_is_refused(tree):
    with pytest.raises(InputError, match="--row txt-sft: neither a baseline"):
        evaluate.main("toy", "txt-sft", 1)


NO_STEP = {"published_step": 0, "heldout_reward": 0.25, "no_comparison": ["no step of RL"]}  # the optimizer `sft`


def make_cells(tree, run=None):
    """Seed 1 as above; in seed 2 user 0's test list holds no target, so that its recall is 0."""
    for seed in tree.seeds:
        lines = good() if seed == 1 else replaced(1, item=4)
        slate = [(user, split, "slate", *rest) for user, split, _, *rest in lines]
        beam = [(user, split, "beam", *rest) for user, split, _, *rest in good()]
        write("popularity", seed, lines)
        write("text-sft", seed, slate + beam)
        for row in ("popularity", "text-sft"):
            evaluate.main("toy", row, seed)
        paths.run_metrics("toy", "text-sft", seed).write_text(json.dumps(run or NO_STEP))
        for curve, text in (
            (paths.curve, "step,cold_mass\n0,0.001\n"),
            (paths.heldout_curve, "step,heldout_reward\n0,0.25\n"),
        ):
            curve("toy", "text-sft", seed).parent.mkdir(parents=True, exist_ok=True)
            curve("toy", "text-sft", seed).write_text(text)
        columns = [[0, 0], [2, 2], ["sampled", "slate"], [0.5, 0.0], [0.25, 0.5]]
        write_table(paths.heldout("toy", "text-sft", seed), pa.table(columns, schema=HELD_OUT))


def test_table_of_one_seed(tree):
    make_cells(tree)
    tabulate.main("toy")
    found = json.loads(paths.summary("toy").read_text())
    assert list(found) == ["popularity", "provenance", "text-sft"]
    assert found["provenance"] == [["cell", "tabulate@toy"], *HASHES]
    assert found["text-sft"]["ndcg@10"] == 0.315465
    assert found["text-sft"]["beam.ndcg@10"] == 0.315465
    assert found["text-sft"]["intervals"] == metrics("text-sft")["intervals"]
    assert (found["text-sft"]["heldout"]["sampled"], found["text-sft"]["heldout"]["slate"]) == (0.25, 0.5)
    text = paths.report("toy").read_text()
    assert "| text-sft | 0.2500 [0.2500, 0.2500] (0.5) | - |" in text
    assert "| text-sft | slate | 0.5000 [0.0000, 1.0000] | 0.3155 [0.0000, 0.6309] |" in text
    assert text.index("| text-sft | slate") < text.index("| text-sft | beam") < text.index("| popularity | list")
    assert "The paper's Table 1 has no figures on this data set." in text
    assert "**" not in text


def test_table_of_two_seeds(tree):
    """Recall .5 and 0: mean .25; user 0's mean over seeds is .5, user 1's 0, so resamples reach from 0 to .5."""
    tree.seeds = [1, 2]
    make_cells(tree)
    tabulate.main("toy")
    found = json.loads(paths.summary("toy").read_text())["popularity"]
    assert found["recall@10"] == 0.25
    assert found["intervals"]["recall@10"] == [0, 0.5]
    assert found["spread"]["recall@10"] == [0, 0.5]
    assert "entropy_pooled@10" not in found["intervals"]  # no mean over users, so none over seeds
    assert "| popularity | 0.3155 | 0.0000 |" in paths.report("toy").read_text()


def test_what_rl_did(tree):
    """Means over seeds; a dash where an optimizer has no such bound; why a run compares nothing."""
    tree.seeds = [1, 2]
    make_cells(tree, {"at_upper_bound": 0.25, "no_signal_share": 0.75, "no_comparison": ["most groups"]})
    tabulate.main("toy")
    text = paths.report("toy").read_text()
    line = "| text-sft | 0.2500 | - | - | - | - | - | - | - | - | - | - | 0.7500 | no comparison: most groups |"
    assert line in text
    make_cells(tree)
    tabulate.main("toy")
    line = "| text-sft | - | - | - | - | - | - | - | - | 0.0000 | 0.2500 | - | - | no comparison: no step of RL |"
    assert line in paths.report("toy").read_text()


def test_a_missing_cell_is_named(tree):
    with pytest.raises(InputError, match=r"metrics/toy/text-sft/seed-1\.json: no such file"):
        tabulate.main("toy")
