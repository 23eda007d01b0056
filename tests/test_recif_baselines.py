"""RecIF's tasks with the baselines: each of them through the one interface, small, and what is asked of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages import baseline, download_backbone, evaluate, generative, sequential
from stages.baselines import popularity
from stages.baselines.task_asked import domain_items, of_tasks, shown_items
from stages.core import paths
from stages.core.seeding import numpy_generator
from stages.corpus.histories import load
from stages.corpus.tasks import DOMAIN, JUDGING, RECOMMENDING, Tasks, split_of, tasks_of
from stages.measures import accuracy, bootstrap
from tests import small_recif, small_recif_run
from tests.small_recif_run import DATASET
from tests.test_recif import made

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


def test_what_is_asked_is_what_prompts_name(inside: Path) -> None:
    """The Semantic IDs of the prompt in their order; of label_pred, less the last, which is the candidate's."""
    tasks = asked()
    for task in (*RECOMMENDING, JUDGING):
        told = tasks.table(task)["shown"].to_pylist()
        for shown, items in zip(told, shown_items(tasks, task), strict=True):
            assert tasks.ids.sid[items].tolist() == (shown[:-1] if task == JUDGING else shown)
            assert tasks.ids.stands[items].all()


def test_labels_hang_on_user_and_item_together(inside: Path) -> None:
    """Of the items that were watched for long most often, and of the others alike, some are watched and some are not.
    Counting longviews tells little; how many of the items shown are of the candidate's topic tells nearly all.
    """
    tasks, corpus = asked(), load(paths.corpus(DATASET))
    label = tasks.table(JUDGING)["label"].to_numpy(zero_copy_only=False).astype(bool)
    own = of_tasks(corpus, tasks)[-1]
    candidates, scores = own.answered(popularity.ranker(corpus, popularity.Params(list_length=10)))
    assert candidates[:, 0].tolist() == tasks.table(JUDGING)["candidate"].to_pylist()
    liked = scores[:, 0] > np.median(scores)
    for half in (liked, ~liked):
        assert 0.2 < label[half].mean() < 0.8
    assert accuracy.auc(scores[:, 0], label) < 0.7
    topic = tasks.ids.sid // 8192**2  # and domain
    alike = [(topic[shown] == topic[item]).mean() for shown, item in zip(own.contexts, candidates[:, 0], strict=True)]
    assert accuracy.auc(np.array(alike), label) > 0.9


def test_contexts_and_domains_by_hand(tmp_path: Path) -> None:
    """Photos 11 to 15 are the items 0 to 4, products 11 and 22 the items 5 and 6. 11 and 12 share an id, which 12
    stands for, and as a product 22; for those of 14 and 15 none does. Of training parts 11 and 12 are videos.
    """
    raw = small_recif.write(tmp_path / "raw")
    shared = small_recif.sid(0, 0, 1)
    said = f"{small_recif.sid(7, 0, 0)} {small_recif.sid(9, 9, 9)} {shared} {small_recif.sid(5, 2, 3)} {shared}?"
    small_recif.write_test(raw, "video", [small_recif.row_with(small_recif.sid(0, 2, 3), said, answer_pid=[13])])
    small_recif.write_test(raw, "label_pred", [small_recif.row_with("no", said) | {"candidate_pid": 12}])
    folder, _ = made(raw)
    tasks = tasks_of(folder)
    assert tasks is not None
    assert [own.tolist() for own in shown_items(tasks, "video")] == [[5, 1, 3, 1]]  # nobody has 9, 9, 9
    assert [own.tolist() for own in shown_items(tasks, JUDGING)] == [[5, 1, 3]]
    about = domain_items(load(folder), tasks)
    assert {domain: items.tolist() for domain, items in about.items()} == {"goods": [5, 6], "video": [1, 2], "ad": [2]}
    whole = of_tasks(load(folder), tasks)
    assert [own.split for own in whole] == [split_of(task) for task in (*RECOMMENDING, JUDGING)]
    assert [own.length for own in whole] == [32] * 5 + [1]
