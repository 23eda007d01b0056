"""RecIF's tasks with the baselines: each of them through the one interface, small."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages import baseline, download_backbone, evaluate, generative, sequential
from stages.baselines.task_asked import domain_items
from stages.core import paths
from stages.core.seeding import numpy_generator
from stages.corpus.histories import load
from stages.corpus.recif_parts import JUDGING
from stages.corpus.tasks import DOMAIN, RECOMMENDING, Tasks, split_of, tasks_of
from stages.measures import accuracy, bootstrap
from tests import small_recif_run
from tests.small_recif_run import DATASET

COUNTED = ("popularity", "transitions")
LEARNT = {
    "sasrec": sequential,
    "sasrec_bce": sequential,
    "rearec": sequential,
    "tiger": generative,
    "lcrec": generative,
}
every_baseline = pytest.mark.parametrize("name", [*COUNTED, *LEARNT])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 users, each baseline trained for some epochs and measured."""
    root = tmp_path_factory.mktemp("recif") / "project"
    small_recif_run.project(root, users=120, epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGE_CHECKPOINTS", str(root.parent / "checkpoints"))
        patch.chdir(root)
        small_recif_run.prepared()
        download_backbone.main("tiny")
        baseline.main(DATASET, "transitions", 1)
        for name, stage in LEARNT.items():
            stage.main(DATASET, name, 1)
        for name in ("transitions", *LEARNT):
            evaluate.main(DATASET, name, 1)
    return root


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def asked() -> Tasks:
    tasks = tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    return tasks


def figures(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(paths.metrics(DATASET, name, 1).read_text())["tasks"]
    return found


@every_baseline
def test_lists_are_distinct_items_of_the_tasks_domain(inside: Path, name: str) -> None:
    """Of every sample 32 of them, each standing for its Semantic ID: of ad, what no list of videos has, and so on."""
    tasks, corpus = asked(), load(paths.corpus(DATASET))
    about = domain_items(corpus, tasks)
    slates = pd.read_parquet(paths.slates(DATASET, name, 1))
    for task in RECOMMENDING:
        own = slates[slates["split"] == split_of(task)]
        assert (own["decoder"] == "list").all()
        assert (own.groupby("user").size() == 32).all()
        assert own["user"].nunique() == tasks.table(task).num_rows
        assert not own.duplicated(["user", "item"]).any()
        assert np.isin(own["item"], about[DOMAIN[task]]).all()
        assert tasks.ids.stands[own["item"]].all()
        assert (own.sort_values(["user", "rank"]).groupby("user")["score"].diff().dropna() <= 0).all()


@every_baseline
def test_every_sample_of_label_pred_has_a_score(inside: Path, name: str) -> None:
    table = asked().table(JUDGING)
    slates = pd.read_parquet(paths.slates(DATASET, name, 1))
    own = slates[slates["split"] == split_of(JUDGING)].sort_values("user")
    assert own["user"].tolist() == list(range(table.num_rows))
    assert own["item"].tolist() == table["candidate"].to_pylist()
    label = table["label"].to_numpy(zero_copy_only=False).astype(bool)
    auc, low, high = figures(name)[JUDGING]["label"]["auc"]
    assert figures(name)[JUDGING]["label"]["without_score"] == [0]
    assert auc == pytest.approx(accuracy.auc(own["score"].to_numpy().astype(float), label), abs=1e-6)
    assert low < auc < high


@pytest.mark.parametrize("task", ["ad", "product", "label_cond"])
def test_sasrec_beats_popularity(inside: Path, task: str) -> None:
    """Recall@32 less that of the most popular items, sample by sample: the interval is above 0."""
    both = []
    for name in ("sasrec", "popularity"):
        table = pd.read_parquet(paths.per_user(DATASET, name, 1))
        both.append(table[table["split"] == split_of(task)].set_index("user")["recall@32"])
    low, _ = bootstrap.interval((both[0] - both[1]).to_numpy(), 1000, 0.95, numpy_generator("test"))
    assert low > 0
