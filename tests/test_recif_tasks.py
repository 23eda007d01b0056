"""RecIF's tasks from the corpus to the metrics file: what is written for them is measured, sample by sample."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from stages import baseline, evaluate
from stages.baselines import popularity
from stages.baselines.asked import Asked
from stages.baselines.task_asked import domain_items, of_tasks, slates
from stages.core import params, paths
from stages.core.errors import InputError
from stages.core.files import write_table
from stages.core.schema import slate_table
from stages.corpus import recif_fixture
from stages.corpus.histories import Shares, load
from stages.corpus.recif_parts import BEHAVIOURS, JUDGING, PARTS
from stages.corpus.task_samples import Sample, asked_samples, in_order
from stages.corpus.tasks import RECOMMENDING, SPLITS, split_of, tasks_of
from stages.measures import accuracy, diversity
from tests import small_policy, small_recif
from tests.small_recif import settings
from tests.test_recif import made

ROOT = Path(__file__).parents[1]
DATASET = "recif-fixture"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params.yaml and the corpus of a drawn set, in the stages' places."""
    root = tmp_path_factory.mktemp("project")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["evaluate"]["resamples"] = 200
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    (root / "stages").symlink_to(ROOT / "stages", target_is_directory=True)
    (root / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    raw = root / "data" / DATASET / "raw"
    raw.mkdir(parents=True)
    recif_fixture.draw(80, raw)
    made(raw)
    return root


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def measured(row: str) -> dict[str, Any]:
    evaluate.main(DATASET, row, 1)
    return json.loads(paths.metrics(DATASET, row, 1).read_text())


def others(corpus: Any) -> list[pa.Table]:
    """Lists of the splits that every corpus has."""
    return [
        slate_table(users, split, "slate", np.tile(np.arange(10), (len(users), 1)), np.zeros((len(users), 10)))
        for split in ("valid", "test")
        for users in [np.flatnonzero(corpus.target(split) >= 0)]
    ]


def write(tables: list[pa.Table], row: str) -> None:
    """Slates of these lists, and of empty ones for the tasks that have none among them."""
    tasks, given = tasks_of(paths.corpus(DATASET)), {own["split"][0].as_py() for own in tables}
    assert tasks is not None
    for task in RECOMMENDING:
        if split_of(task) not in given:
            count = tasks.table(task).num_rows
            none = np.full((count, 10), -1)
            tables = [*tables, slate_table(np.arange(count), split_of(task), "slate", none, np.zeros(none.shape))]
    write_table(paths.slates(DATASET, row, 1), pa.concat_tables(tables))


def test_parts_of_logs(inside: Path) -> None:
    """Every part of every user is as long as domains.parquet says, and known are histories alone."""
    tasks = tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    log = pd.read_parquet(paths.corpus(DATASET) / "interactions.parquet").assign(part=tasks.parts())
    told = pd.read_parquet(paths.corpus(DATASET) / "domains.parquet").set_index("user")
    for place, name in enumerate(PARTS):
        found = log[log["part"] == place].groupby("user").size().reindex(told.index, fill_value=0)
        assert (found == told[name]).all(), name
    held_out = log["user"].map(told["held_out"])
    history = log["part"].map(dict(enumerate(PARTS))).str.startswith("hist")
    assert (history[held_out] == (log["split"][held_out] == "known")).all()


def test_answers_as_predictions_are_all_right(inside: Path) -> None:
    """A row that lists the answers' items: everything is 1, in both modes where the id stands for the item."""
    corpus, tasks = load(paths.corpus(DATASET)), tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    tables = others(corpus)
    for task in RECOMMENDING:
        answers = tasks.table(task)["answer"].to_pylist()
        items = np.full((len(answers), 32), -1)
        for row, own in enumerate(answers):
            items[row, : len(own)] = tasks.ids.some_item(np.array(own))
        tables.append(slate_table(np.arange(len(items)), split_of(task), "beam", items, np.zeros(items.shape)))
    write(tables, "semantic_id-sft")
    found = measured("semantic_id-sft")["tasks"]
    for task in RECOMMENDING:
        own = found[task]["beam"]
        for name in ("pass@1", "pass@32", "position1_pass@1", "recall@32"):
            assert own[name] == [1, 1, 1], (task, name)
    assert "pid.pass@1" not in found["interactive"]["beam"]  # its answers name no pids
    # one video in ten has the id of the one before it, and then an answer may be the one that does not stand for it
    assert 0.85 < found["video"]["beam"]["pid.recall@32"][0] < 1
    assert found["ad"]["beam"]["pid.recall@32"][0] == 1


@pytest.mark.parametrize("row", ["semantic_id-sft", "text-sft"])
def test_items_are_what_the_published_counts_name(inside: Path, row: str) -> None:
    """Lists of the answers' own items: of an id that two videos share, the one that it does not stand for is none."""
    corpus, tasks = load(paths.corpus(DATASET)), tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    answers = tasks.table("video")["answer_item"].to_pylist()
    items = np.full((len(answers), 32), -1)
    for sample, own in enumerate(answers):
        items[sample, : len(own)] = own
    write(
        [*others(corpus), slate_table(np.arange(len(items)), "test_video", "beam", items, np.zeros(items.shape))], row
    )
    own = measured(row)["tasks"]["video"]["beam"]
    stands = [tasks.ids.stands[np.array(own)] for own in answers]
    assert own["recall@32"] == [1, 1, 1]
    assert own["pid.recall@32"][0] == pytest.approx(np.mean([own.mean() for own in stands]), abs=1e-6)
    assert own["pid.recall@32"][0] < 1


def test_empty_lists_count_as_misses_and_short_ones_have_no_large_cut(inside: Path) -> None:
    corpus, tasks = load(paths.corpus(DATASET)), tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    samples = tasks.table("ad").num_rows
    nothing = np.full((samples, 10), -1)
    write([*others(corpus), slate_table(np.arange(samples), "test_ad", "slate", nothing, np.zeros(nothing.shape))],
          "semantic_id-sft")  # fmt: skip
    own = measured("semantic_id-sft")["tasks"]["ad"]["slate"]
    assert own["domain_share"] == [None] * 3
    assert (own["pass@1"], own["recall@1"], own["sid_entropy@10"]) == ([0, 0, 0],) * 3
    assert own["samples"] == [samples]
    assert "pass@32" not in own


def test_a_task_without_lists_is_refused_and_one_without_scores_is_counted(inside: Path) -> None:
    corpus, tasks = load(paths.corpus(DATASET)), tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    write(others(corpus), "semantic_id-sft")
    rows = tasks.table(JUDGING).num_rows
    nothing = {"auc": [None] * 3, "samples": [rows], "without_score": [rows]}
    assert measured("semantic_id-sft")["tasks"][JUDGING]["label"] == nothing
    write_table(paths.slates(DATASET, "semantic_id-sft", 1), pa.concat_tables(others(corpus)))
    with pytest.raises(InputError, match="no lists of split test_video"):
        measured("semantic_id-sft")


def test_a_sample_without_a_list_is_refused(inside: Path) -> None:
    corpus, tasks = load(paths.corpus(DATASET)), tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    samples = tasks.table("ad").num_rows
    items = np.zeros((samples - 1, 10), dtype=int)
    write([*others(corpus), slate_table(np.arange(1, samples), "test_ad", "slate", items, items)], "semantic_id-sft")
    with pytest.raises(
        InputError, match=f"split test_ad, decoder slate: 1 of {samples} users .* have no list, first 0"
    ):
        measured("semantic_id-sft")


def test_label_predictions_that_are_missing_are_counted(inside: Path) -> None:
    """Scores that are the labels: AUC 1, of those that have one."""
    corpus, tasks = load(paths.corpus(DATASET)), tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    label = tasks.table("label_pred")["label"].to_numpy(zero_copy_only=False).astype(float)
    scored = np.arange(3, len(label))[::-1]
    lists = slate_table(scored, "test_label_pred", "label", np.zeros((len(scored), 1)), label[scored, None])
    write([*others(corpus), lists], "semantic_id-sft")
    own = measured("semantic_id-sft")["tasks"]["label_pred"]["label"]
    assert own == {"auc": [1.0, 1.0, 1.0], "samples": [len(label)], "without_score": [3]}


def test_popularity_has_every_task(inside: Path) -> None:
    """Its lists are the domain's most popular items."""
    baseline.main(DATASET, "popularity", 1)
    found = measured("popularity")
    assert set(found["tasks"]) == {split.removeprefix("test_") for split in SPLITS}
    corpus, slates = load(paths.corpus(DATASET)), pd.read_parquet(paths.slates(DATASET, "popularity", 1))
    names = corpus.items["item_id"].to_pylist()
    products = slates[slates["split"] == "test_product"]["item"].unique()
    assert len(products) == 32
    assert all(names[item].startswith("product") for item in products)
    assert all(found["tasks"][task]["list"]["domain_share"] == [1, 1, 1] for task in RECOMMENDING)
    recall = found["tasks"]["video"]["list"]["recall@32"]
    assert recall[1] <= recall[0] <= recall[2] < 0.3
    auc, low, high = found["tasks"]["label_pred"]["label"]["auc"]
    assert low < auc < high < low + 0.4
    rows = pd.read_parquet(paths.per_user(DATASET, "popularity", 1))
    video = rows[rows["split"] == "test_video"]
    assert video["recall@32"].mean() == pytest.approx(recall[0], rel=1e-5)
    assert len(video) == found["tasks"]["video"]["list"]["samples"][0]


def test_popularity_judges_by_views_of_known_behaviour(inside: Path) -> None:
    """Every 17th user of the drawn set has no behaviours, which says nothing of the items: their views are left out."""
    baseline.main(DATASET, "popularity", 1)
    tasks, corpus = tasks_of(paths.corpus(DATASET)), load(paths.corpus(DATASET))
    assert tasks is not None
    known = tasks.longviews_known() & corpus.in_training()
    assert 0 < known.sum() < corpus.in_training().sum()
    views = pd.DataFrame({"item": corpus.item, "long": corpus.feedback["longview"]})[known].groupby("item")["long"]
    about = domain_items(corpus, tasks)["video"]
    counted = views.agg(["sum", "size"]).reindex(range(corpus.item_count), fill_value=0)
    mean = counted["sum"][about].sum() / counted["size"][about].sum()
    slates = pd.read_parquet(paths.slates(DATASET, "popularity", 1))
    own = slates[slates["split"] == split_of(JUDGING)]
    share = (counted["sum"] + mean) / (counted["size"] + 1)
    assert own["score"].tolist() == pytest.approx(share[own["item"]].tolist(), rel=1e-6)


def test_what_is_asked_is_what_prompts_name(inside: Path) -> None:
    """The Semantic IDs of the prompt in their order; of label_pred, less the last, which is the candidate's."""
    tasks = tasks_of(paths.corpus(DATASET))
    assert tasks is not None
    for task in (*RECOMMENDING, JUDGING):
        told = tasks.table(task)["shown"].to_pylist()
        for shown, own in zip(told, asked_samples(tasks, task), strict=True):
            assert tasks.ids.sid[own.shown].tolist() == (shown[:-1] if task == JUDGING else shown)
            assert tasks.ids.stands[own.shown].all()
            assert task != JUDGING or tasks.ids.sid[own.candidate] == shown[-1]


def test_labels_hang_on_user_and_item_together(tmp_path: Path) -> None:
    """Of the items that were watched for long most often, and of the others alike, some are watched and some are not.
    Counting longviews tells little; how many of the items shown are of the candidate's topic tells nearly all.
    """
    raw = tmp_path / "raw"
    raw.mkdir()
    recif_fixture.draw(240, raw)
    folder, _ = made(raw)
    tasks, corpus = tasks_of(folder), load(folder)
    assert tasks is not None
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
    assert [own.shown.tolist() for own in asked_samples(tasks, "video")] == [[5, 1, 3, 1]]  # nobody has 9, 9, 9
    assert [(own.shown.tolist(), own.candidate) for own in asked_samples(tasks, JUDGING)] == [([5, 1, 3], 1)]
    sids = {domain: own.tolist() for domain, own in tasks.domain_sids(load(folder)).items()}
    alone, ad, last = (0 * 8192 + 2) * 8192 + 3, (5 * 8192 + 2) * 8192 + 3, 8192**3 - 1  # of 13, 14 and 15
    assert sids == {"goods": [1, 7 * 8192**2], "video": [1, alone, last], "ad": [alone, ad, last]}
    about = domain_items(load(folder), tasks)
    assert {domain: items.tolist() for domain, items in about.items()} == {"goods": [5, 6], "video": [1, 2], "ad": [2]}
    whole = of_tasks(load(folder), tasks)
    assert [own.split for own in whole] == [split_of(task) for task in (*RECOMMENDING, JUDGING)]
    assert [own.length for own in whole] == [32] * 5 + [1]


def test_what_was_done_with_what_is_shown_is_read_off_the_headings(tmp_path: Path) -> None:
    """Of label_cond and label_pred alone; the candidate, which a question names behind the lists, is not shown."""
    raw = small_recif.write(tmp_path / "raw")
    a, b, c = (small_recif.sid(*codes) for codes in ((0, 2, 3), (7, 0, 0), (5, 2, 3)))
    lists = f"{a} 点赞：{a}{b}\n转发：{c} {a}"
    small_recif.write_test(raw, "video", [small_recif.row_with(a, lists)])
    small_recif.write_test(raw, "label_cond", [small_recif.row_with(a, lists)])
    judged = small_recif.row_with("no", f"{lists}\n会长播{a}吗？") | {"candidate_pid": 13}
    small_recif.write_test(raw, "label_pred", [judged])
    tasks = tasks_of(made(raw)[0])
    assert tasks is not None
    like, forward = BEHAVIOURS.index("like"), BEHAVIOURS.index("forward")
    for task in ("label_cond", JUDGING):
        (own,) = asked_samples(tasks, task)
        assert len(own.shown) == 5
        assert own.behaviours.tolist() == [-1, like, like, forward, forward]
    assert not len(asked_samples(tasks, "video")[0].behaviours)


def test_baselines_take_longviews_for_the_newest_and_pass_over_what_was_not_wanted() -> None:
    """The prompt has longview, like, not_interested; the order of the lists says nothing of time."""
    longview, like, dislike = map(BEHAVIOURS.index, ("longview", "like", "not_interested"))
    shown, behaviours = np.array([4, 5, 6, 7, 8]), np.array([longview, longview, like, dislike, dislike])
    own = Sample("label_cond", "like", shown, shown[:0], behaviours=behaviours)
    assert in_order(own).tolist() == [6, 4, 5]
    assert in_order(own._replace(behaviours=behaviours[:0])).tolist() == shown.tolist()


def test_popularity_without_any_known_longview_has_even_scores(tmp_path: Path) -> None:
    """Numbers, not NaN: the AUC is then .5."""
    people = [row | {"hist_video_longview": None, "target_video_longview": None} for row in small_recif.USERS]
    folder, _ = made(small_recif.write(tmp_path / "raw", people))
    tasks, corpus = tasks_of(folder), load(folder)
    assert tasks is not None
    assert not tasks.longviews_known().all()
    corpus = replace(corpus, feedback_known=tasks.longviews_known())
    ranker = popularity.ranker(corpus, popularity.Params(list_length=10))
    _, scores = of_tasks(corpus, tasks)[-1].answered(ranker)
    assert len(scores)
    assert (scores == 0).all()


@pytest.mark.parametrize("name", ["popularity", "transitions"])
def test_a_task_without_rows_has_no_lists(tmp_path: Path, name: str) -> None:
    """Every row lacks its messages, which `prepare` counts."""
    raw = small_recif.write(tmp_path / "raw")
    for task in ("video", JUDGING):
        small_recif.write_test(raw, task, [small_recif.row_of(task) | {"messages": None}])
    folder, _ = made(raw)
    tasks, corpus = tasks_of(folder), load(folder)
    assert tasks is not None
    module = params.load_module("baselines", name, "baselines")
    ranker = module.ranker(corpus, params.load().own[name])
    for own in of_tasks(corpus, tasks):
        items, scores = own.answered(ranker)
        assert items.shape == scores.shape == (len(own.contexts), own.length)
    assert not len(asked_samples(tasks, "video"))


def test_a_domain_without_items_has_empty_lists() -> None:
    """As where the published counts name no item of it."""
    nothing = np.empty(0, np.int64)
    asked = Asked("test_product", [np.array([3]), nothing], 4, among=nothing)
    items, scores = asked.answered(popularity.ranker(small_policy.logged([0, 1, 2, 3], [0] * 4, [4], [4]),
                                                     popularity.Params(list_length=10)))  # fmt: skip
    assert items.tolist() == [[-1] * 4] * 2
    assert scores.tolist() == [[0.0] * 4] * 2


def test_candidates_without_a_score_are_no_rows() -> None:
    """A list with a score that is no number stays, for `evaluate` to refuse; samples are numbered, users are not."""
    scores = np.array([[0.5], [np.nan], [0.25]])
    lists = {"test": (np.array([[3]] * 3), scores), "test_label_pred": (np.array([[4], [5], [6]]), scores)}
    found = slates(lists, {"test": np.array([2, 7, 9])})
    told = zip(*(found[name].to_pylist() for name in ("split", "decoder", "user", "item")), strict=True)
    assert list(told) == [
        *(("test", "list", user, 3) for user in (2, 7, 9)),
        *(("test_label_pred", "label", user, item) for user, item in ((0, 4), (2, 6))),
    ]


def test_settings_hold_recif_to_how_it_is_published() -> None:
    shipped = settings().model_dump()
    with pytest.raises(ValueError, match="RecIF is measured as it is published"):
        type(settings()).model_validate(shipped | {"k_core": 5})
    with pytest.raises(ValueError, match="needs the keys of `recif`"):
        type(settings()).model_validate(shipped | {"recif": None})


def test_categories_of_many_items_are_looked_up(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table by its entries gives the measures that the whole table gives, to the bit; items without any as well."""
    corpus = load(paths.corpus(DATASET))
    lists = corpus.items["categories"].to_pylist()
    lists[3], lists[5] = [], ["b", "a"]
    place = corpus.items.schema.get_field_index("categories")
    field = corpus.items.schema.field(place)
    corpus = replace(corpus, items=corpus.items.set_column(place, field, pa.array(lists, field.type)))
    dense = corpus.category_shares()
    monkeypatch.setattr("stages.corpus.histories.DENSE", 0)
    looked_up = corpus.category_shares()
    assert isinstance(looked_up, Shares)
    assert (looked_up.shape, len(looked_up), looked_up.any()) == (dense.shape, len(dense), True)
    items = np.random.default_rng(1).integers(-1, corpus.item_count, size=(50, 10))
    items[0, :3] = [3, 5, 5]
    assert np.array_equal(diversity.slate_entropy(items, looked_up), diversity.slate_entropy(items, dense))
    assert diversity.pooled_entropy(items, looked_up) == pytest.approx(diversity.pooled_entropy(items, dense))
