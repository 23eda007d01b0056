"""RecIF's tasks with a policy: what is planted in the drawn set is found, and what tasks ask and list is right."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.action_spaces import task_words
from stages.action_spaces.semantic_id import Actions
from stages.core import paths
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, load
from stages.corpus.task_samples import Logs
from stages.corpus.tasks import JUDGING, RECOMMENDING, Tasks, split_of, tasks_of
from stages.measures import bootstrap
from stages.policy.rollout import within_nucleus
from stages.policy.task_lists import merged, questions
from stages.reporting.task_tables import task_tables
from stages.tabulate import read_csv
from tests import small_recif_run
from tests.small_recif_run import DATASET


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 users, 8 epochs: 20 seconds of one core."""
    root = tmp_path_factory.mktemp("recif") / "project"
    small_recif_run.project(root, users=120, epochs=8)
    with small_recif_run.entered(root):
        small_recif_run.prepared()
        small_recif_run.trained()
    return root


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def asked() -> tuple[Histories, Tasks]:
    tasks = tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    return load(paths.corpus(DATASET)), tasks


def space(histories: Histories) -> Actions:
    return Actions(paths.actions(DATASET, "semantic_id"), histories)


@pytest.mark.parametrize("task", RECOMMENDING)
def test_sft_beats_popularity(inside: Path, task: str) -> None:
    """Recall@32 of the beam less that of the most popular items, sample by sample: the interval is above 0."""
    both = {}
    for row, decoder in (("semantic_id-sft", "beam"), ("popularity", "list")):
        table = pd.read_parquet(paths.per_user(DATASET, row, 1))
        own = table[(table["split"] == split_of(task)) & (table["decoder"] == decoder)]
        both[row] = own.set_index("user")["recall@32"]
    difference = (both["semantic_id-sft"] - both["popularity"]).to_numpy()
    low, _ = bootstrap.interval(difference, 1000, 0.95, numpy_generator("test"))
    assert low > 0


def test_every_task_and_decoder_is_measured(inside: Path) -> None:
    found: dict[str, Any] = json.loads(paths.metrics(DATASET, "semantic_id-sft", 1).read_text())["tasks"]
    for task in RECOMMENDING:
        assert set(found[task]) == {"slate", "sample", "beam"}
        assert {"pass@1", "pass@32", "position1_pass@32", "recall@32", "sid_entropy@10"} <= set(found[task]["beam"])
        assert "pass@32" not in found[task]["slate"]  # a slate of 10 has none
    assert found[JUDGING]["label"]["without_score"] == [0]
    assert 0 < found[JUDGING]["label"]["auc"][0] < 1


def test_lists_are_distinct_ids_of_the_catalogue(inside: Path) -> None:
    slates, space_of = pd.read_parquet(paths.slates(DATASET, "semantic_id-sft", 1)), space(asked()[0])
    for decoder, length in (("beam", 32), ("slate", 10), ("sample", 32)):
        own = slates[(slates["split"] == "test_video") & (slates["decoder"] == decoder)]
        assert (own.groupby("user").size() == length).all()
        named = own[own["item"] >= 0]
        assert (space_of.alike[named["item"]] == named["item"]).all()
        assert not named.duplicated(["user", "item"]).any()
        scores = own.sort_values(["user", "rank"]).groupby("user")["score"]
        assert decoder == "slate" or (scores.diff().dropna() <= 0).all()


def test_questions_show_what_official_prompts_name(inside: Path) -> None:
    """The Semantic IDs of the prompt, the last of them, as the items that stand for them."""
    histories, tasks = asked()
    space_of = space(histories)
    for task in (*RECOMMENDING, JUDGING):
        table = tasks.table(task)
        for row, own in enumerate(questions(space_of, tasks, task, None, 30)):
            assert (own.task, own.condition, own.pool) == (task, table["condition"][row].as_py(), None)
            assert tasks.ids.sid[own.shown].tolist() == table["shown"][row].as_py()[-30:]
    behaviours = set(tasks.table("label_cond")["condition"].to_pylist())
    assert behaviours == {"longview", "like", "follow", "forward"}


def test_lessons_are_of_what_may_be_seen(inside: Path) -> None:
    """No sample names an item that stands in its user's log behind `lengths` alone, or is of a held-out user."""
    histories, tasks = asked()
    log = space(histories).histories
    lengths = np.maximum(log.train_length - 10, 0)
    logs = Logs.of(log, tasks, lengths, space(histories).standing_for)
    kinds = set()
    for user in np.flatnonzero(lengths):
        seen = set(log.train(user)[: lengths[user]].tolist())
        for sample in logs.samples(user, np.random.default_rng(user)):
            assert set(sample.shown.tolist()) | set(sample.answer.tolist()) <= seen
            assert len(np.unique(sample.answer)) == len(sample.answer)
            assert (sample.label is None) == (sample.task != JUDGING)
            kinds.add(sample.task)
    assert kinds == {*RECOMMENDING, JUDGING}


def test_labels_of_lessons_are_those_of_the_log(inside: Path) -> None:
    """A candidate's label, and the videos that label_cond calls right, by the behaviours in the log."""
    histories, tasks = asked()
    logs = Logs.of(histories, tasks, histories.train_length, lambda items: items)
    for user in np.flatnonzero(histories.train_length)[:20]:
        start = histories.offsets[user]
        own = slice(start, start + histories.train_length[user])
        items = histories.item[own]
        for sample in logs.samples(user, np.random.default_rng(1)):
            if sample.task == JUDGING:
                labels = histories.feedback["longview"][own][items == sample.shown[-1]]
                assert sample.label in labels.astype(bool).tolist()
            if sample.task == "label_cond":
                right = items[histories.feedback[sample.condition][own] == 1]
                assert np.isin(sample.answer, right).all()


def test_slates_are_merged_by_likelihood() -> None:
    """5 stands in both slates and counts once, where it is likelier; an empty place is none; the rest is filled up."""
    items = torch.tensor([[[5, 7], [9, 5]], [[1, -1], [2, 3]]])
    scores = torch.tensor([[[-3.0, -1.0], [-2.0, -0.5]], [[-4.0, 0.0], [-2.0, -2.0]]])
    found, score = merged(items, scores, 5)
    assert found.tolist() == [[5, 7, 9, -1, -1], [2, 3, 1, -1, -1]]
    assert score[0, :3].tolist() == [-0.5, -1.0, -2.0]
    assert merged(items, scores, 2)[0].tolist() == [[5, 7], [2, 3]]


def test_nucleus() -> None:
    """.5, .3, .15, .05: .49 is reached by the first alone, .79 by two, .96 by all four."""
    log_probs = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()
    for share, kept in ((0.49, [1]), (0.51, [1, 3]), (0.79, [1, 3]), (0.81, [0, 1, 3]), (0.96, [0, 1, 2, 3])):
        assert torch.isfinite(within_nucleus(log_probs, share))[0].nonzero()[:, 0].tolist() == kept
    with_closed = torch.tensor([[0.0, -torch.inf]])
    assert within_nucleus(with_closed, 0.9).tolist() == [[0.0, -torch.inf]]


def test_words_are_tokens_of_their_own() -> None:
    words = task_words.Words(100)
    tokens = [words.token(word) for word in task_words.WORDS]
    assert tokens == list(range(100, 100 + len(task_words.WORDS)))
    asked = words.asking("label_cond", "like")
    assert asked.tolist() == [words.token("label_cond"), words.token("like")]
    keyword = words.asking("interactive", "snow")
    assert keyword[1] == words.keyword("snow") != words.keyword("rain")
    assert max(tokens) < keyword[1] < 100 + task_words.COUNT
    assert words.asking("video", "").tolist() == [words.token("video")]


def test_tables_of_the_tasks(inside: Path) -> None:
    """Every row and decoder, and the paper's lines below, in italics."""
    cells = {
        row: {1: json.loads(paths.metrics(DATASET, row, 1).read_text())} for row in ("semantic_id-sft", "popularity")
    }
    published = read_csv(small_recif_run.ROOT / "data" / "published.csv")
    tables = task_tables(cells, published, ["a remark"])
    assert [table.title for table in tables[:-1]] == [f"RecIF: {task}" for task in (*RECOMMENDING, JUDGING)]
    last = tables[-1].markdown()
    assert "| _paper: OneRec-SAGE_ | _copied, Table 4_ | _4.455_ | _0.637_ |" in last
    assert last.endswith("a remark")
    video = tables[0].markdown()
    for start in ("| semantic_id-sft | beam |", "| semantic_id-sft | sample |", "| popularity | list |"):
        assert start in video
    assert "| _paper: SASRec_ | _copied, Table 3_ | _0.0045_ | _0.1003_ | _-_ | _-_ | _0.0119_ |" in video
    assert "_0.6244_" in tables[-2].markdown()
    recall = cells["popularity"][1]["tasks"]["video"]["list"]["recall@32"]
    assert f"{recall[0]:.4f} [{recall[1]:.4f}, {recall[2]:.4f}]" in video
    assert task_tables({"popularity": {1: {}}}, published, []) == []
