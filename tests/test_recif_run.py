"""RecIF's tasks with a policy: what is planted in the drawn set is found, and what tasks ask and list is right."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stages.action_spaces import task_words
from stages.action_spaces.semantic_id import Actions
from stages.action_spaces.tasked import Question
from stages.core import params, paths
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, load
from stages.corpus.recif_parts import BEHAVIOURS, BY_BEHAVIOUR, JUDGING
from stages.corpus.task_samples import Logs
from stages.corpus.tasks import RECOMMENDING, Tasks, split_of, tasks_of
from stages.measures import bootstrap
from stages.policy.beam import next_items
from stages.policy.rollout import within_nucleus
from stages.policy.sharing import Reading
from stages.policy.task_lists import judged, merged, questions, task_lists
from stages.reporting.task_tables import task_tables
from stages.tabulate import read_csv
from tests import small_policy, small_recif_run
from tests.small_recif_run import DATASET


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 users, 10 epochs: half a minute of one core."""
    root = tmp_path_factory.mktemp("recif") / "project"
    small_recif_run.project(root, users=160, epochs=10)
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
            shown = table["shown"][row].as_py()
            if task == JUDGING:
                assert tasks.ids.sid[own.candidate] == shown.pop()
            assert tasks.ids.sid[own.shown].tolist() == (shown if task in BY_BEHAVIOUR else shown[-30:])
            assert own.behaviours.tolist() == table["behaviours"][row].as_py()[: len(shown)]
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
            assert {*sample.shown.tolist(), *sample.answer.tolist()} <= seen
            assert (sample.candidate in seen) == (sample.task == JUDGING)
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
                labels = histories.feedback["longview"][own][items == sample.candidate]
                assert sample.label in labels.astype(bool).tolist()
            if sample.task == "label_cond":
                right = items[histories.feedback[sample.condition][own] == 1]
                assert np.isin(sample.answer, right).all()


def test_lists_by_behaviour_are_those_of_the_log(inside: Path) -> None:
    """Each item shown bears the behaviour that it stands under; a place of unknown behaviours is no candidate."""
    histories, tasks = asked()
    logs = Logs.of(histories, tasks, histories.train_length, lambda items: items)
    places = np.arange(len(histories.item))
    nobody = replace(logs, known=places < 0)
    owner = np.repeat(np.arange(histories.user_count), np.diff(histories.offsets))
    some = replace(logs, known=owner % 2 == 0)
    judged_users = set()
    for user in np.flatnonzero(histories.train_length)[:30]:
        own = slice(histories.offsets[user], histories.offsets[user] + histories.train_length[user])
        done = {name: set(histories.item[own][histories.feedback[name][own] == 1].tolist()) for name in BEHAVIOURS}
        for sample in logs.samples(user, np.random.default_rng(2)):
            assert len(sample.behaviours) == (len(sample.shown) if sample.task in BY_BEHAVIOUR else 0)
            for item, behaviour in zip(sample.shown.tolist(), sample.behaviours.tolist(), strict=False):
                assert item in done[BEHAVIOURS[behaviour]]
        assert JUDGING not in {sample.task for sample in nobody.samples(user, np.random.default_rng(2))}
        judged_users |= {user for sample in some.samples(user, np.random.default_rng(2)) if sample.task == JUDGING}
    assert judged_users
    assert all(user % 2 == 0 for user in judged_users)


def test_what_nobody_knows_teaches_no_answer(inside: Path) -> None:
    """The drawn set has users whose behaviours are null in the history, in the targets or in both."""
    histories, tasks = asked()
    known, unknown_users = tasks.longviews_known(), 0
    logs = Logs.of(histories, tasks, histories.train_length, lambda items: items)
    for user in np.flatnonzero(histories.train_length):
        own = slice(histories.offsets[user], histories.offsets[user] + histories.train_length[user])
        unknown_users += not known[own].all()
        for seed in range(3):
            for sample in logs.samples(user, np.random.default_rng(seed)):
                if sample.task == JUDGING:
                    assert known[own][histories.item[own] == sample.candidate].any()
    assert unknown_users > 3


def test_what_is_right_comes_behind_what_is_shown(inside: Path) -> None:
    """Of every task: items that the prompt shows, then those that are right, stand so in the log. One that is right is
    shown only where the user had it twice.
    """
    histories, tasks = asked()
    logs = Logs.of(histories, tasks, histories.train_length, lambda items: items)
    words = 0
    for user in np.flatnonzero(histories.train_length)[:40]:
        log = histories.train(user)
        last = {item: place for place, item in enumerate(log.tolist())}
        first = {item: place for place, item in reversed(list(enumerate(log.tolist())))}
        for sample in logs.samples(user, np.random.default_rng(user)):
            later = [*sample.answer.tolist(), sample.candidate] if sample.task == JUDGING else sample.answer.tolist()
            shown_here = [item for item in sample.shown.tolist() if sample.task in ("video", "interactive")]
            for item in shown_here:
                assert all(first[item] < last[right] for right in later if right >= 0)
            once = [item for item in later if item >= 0 and first[item] == last[item]]
            assert not set(once) & set(sample.shown.tolist())
            words += sample.task == "interactive"
    assert words > 20


@torch.no_grad()
def test_a_candidate_that_the_corpus_lacks_has_no_row(inside: Path, tmp_path: Path) -> None:
    """Not the last item shown in its place: every third candidate is taken away."""
    histories, tasks = asked()
    (tmp_path / "tasks").mkdir()
    for task in (*RECOMMENDING, JUDGING):
        table = tasks.table(task).slice(0, 10)
        lacking = np.where(np.arange(len(table)) % 3 == 1, -1, table["candidate"].to_numpy())
        place = table.schema.get_field_index("candidate")
        table = table.set_column(place, table.schema.field(place), pa.array(lacking, pa.int32()))
        pq.write_table(table, tmp_path / "tasks" / f"{task}.parquet")
    space_of = space(histories)
    model = small_policy.scratch(space_of.first_token + space_of.new_tokens, 0).eval()
    decoding, folder = params.load().on("semantic_id").recommend, paths.actions(DATASET, "semantic_id")
    tables = task_lists(model, space_of, replace(tasks, folder=tmp_path), folder, decoding, 30, 10, 1)
    rows = pa.concat_tables(tables).to_pandas()
    for decoder in ("label", "likelihood"):
        own = rows[rows["decoder"] == decoder]
        assert own["user"].tolist() == [0, 2, 3, 5, 6, 8, 9]
        assert own["item"].tolist() == lacking[lacking >= 0].tolist()


@torch.no_grad()
def test_the_likelihood_of_a_candidate_is_that_of_a_list(inside: Path) -> None:
    """Of a beam as wide as the catalogue, asked for what will be watched for long."""
    histories, _ = asked()
    space_of = space(histories)
    model = small_policy.scratch(space_of.first_token + space_of.new_tokens, 0).eval()
    shown, candidate = np.array([1, 2]), int(space_of.standing_for(np.array([3]))[0])
    found = judged(model, space_of, [Question(JUDGING, "", shown, candidate)], True)["likelihood"]
    prompts = space_of.task_prompts([Question("label_cond", "longview", shown)])
    width = histories.item_count
    items, scores = next_items(Reading(model, prompts), space_of, width, width)
    assert float(found[0]) == pytest.approx(float(scores[0][items[0] == candidate][0]), abs=1e-4)


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
    assert "| _paper: SASRec_ | _copied, Table 3_ | _0.0045_ | _0.1003_ | _-_ | _-_ | _-_ | _0.0119_ |" in video
    assert "_0.6244_" in tables[-2].markdown()
    recall = cells["popularity"][1]["tasks"]["video"]["list"]["recall@32"]
    assert f"{recall[0]:.4f} [{recall[1]:.4f}, {recall[2]:.4f}]" in video
    assert task_tables({"popularity": {1: {}}}, published, []) == []
