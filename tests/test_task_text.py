"""RecIF's tasks in native text: pools of a task's domain, prompts in words, lessons, and lists out of the pools."""

import json
from collections import Counter
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from stages import download, download_backbone, evaluate, prepare, recommend, render, sft
from stages.action_spaces import semantic_id
from stages.action_spaces.tasked import Question
from stages.core import params, paths
from stages.core.errors import InputError
from stages.core.files import write_table
from stages.core.spelling_sections import TaskPrompts
from stages.corpus.histories import load
from stages.corpus.recif_parts import BEHAVIOURS, JUDGING, PARTS
from stages.corpus.reserve import divide
from stages.corpus.task_samples import Sample, asked_samples, drawn_samples, pools_of
from stages.corpus.tasks import DOMAIN, RECOMMENDING, Tasks, split_of, tasks_of
from stages.policy.beam import next_items
from stages.policy.logprobs import answer_logits
from stages.policy.sharing import Reading
from stages.policy.task_lessons import TaskLessons
from stages.policy.task_lists import questions
from stages.rendering.task_prompts import TaskRenderer
from stages.semantic_ids import published
from tests import small_recif_run
from tests.small_recif_run import DATASET
from tests.small_text import TASKS, world
from tests.test_marked_ids import OFFICIAL, chatting

POOL = 32


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users, 60 examples: 7 seconds of one core."""
    root = tmp_path_factory.mktemp("recif") / "project"
    small_recif_run.project(root, users=40, epochs=1)
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["backbones"]["tiny"]["spaces"]["text"]["sft"] |= {"epochs": 1, "max_examples": 60}
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    with small_recif_run.entered(root):
        for stage in (download, prepare, render):
            stage.main(DATASET)
        download_backbone.main("tiny")
        sft.main(DATASET, "text", 1)
        Path("models", DATASET, "text", "sft").symlink_to("warmup")
        recommend.main(DATASET, "text", "sft", 1)
        evaluate.main(DATASET, "text-sft", 1)
    return root


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return paths.actions(DATASET, "text")


def asked() -> Tasks:
    found = tasks_of(paths.corpus(DATASET))
    assert found is not None
    return found


def test_pools_are_of_the_tasks_domain(inside: Path) -> None:
    """Items that their ids stand for, each once, that the log which SFT may see has in the domain."""
    tasks, log, kept = asked(), load(paths.corpus(DATASET)), params.load().sft
    part = np.array(PARTS)[tasks.parts()]
    visible = divide(log, kept.holdback, kept.reserve, kept.min_items, seed=0).sft_length
    place = np.arange(len(log.item)) - np.repeat(log.offsets[:-1], np.diff(log.offsets))
    may_be_seen = place < np.repeat(visible, np.diff(log.offsets))
    lessons = drawn_samples(inside)
    assert lessons is not None
    first, second, third = (next(iter(lessons(epoch))).shown for epoch in range(3))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)  # two draws
    for task in RECOMMENDING:
        of_domain = np.array([name.endswith(DOMAIN[task]) for name in part])
        seen = tasks.ids.alike[log.item[of_domain & may_be_seen]]
        pools = pools_of(inside, task)
        assert pools is not None
        assert len(pools) == tasks.table(task).num_rows
        for pool in [*pools, *(own.pool for own in lessons(0) if own.task == task)]:
            assert len(set(pool.tolist())) == len(pool) == POOL
            assert np.isin(pool, seen).all()
            assert (tasks.ids.alike[pool] == pool).all()


def test_keywords_bring_what_others_did_under_them(inside: Path) -> None:
    """First in a pool: the items that most did under the keyword, as far as SFT may see; more popular ones first."""
    tasks, log, pools = asked(), load(paths.corpus(DATASET)), pools_of(inside, "interactive")
    assert pools is not None
    kept, alike = params.load().sft, tasks.ids.alike
    visible = divide(log, kept.holdback, kept.reserve, kept.min_items, seed=0).sft_length
    seen = [alike[log.item[start:][:length]] for start, length in zip(log.offsets, visible, strict=False)]
    popularity = Counter(np.concatenate(seen).tolist())
    counts: dict[str, Counter[int]] = {}
    for user, words in tasks.keywords().items():
        for word, items in words:
            counts.setdefault(word, Counter()).update(set(alike[items].tolist()) & set(seen[user].tolist()))
    found = 0
    for word, pool in zip(tasks.table("interactive")["condition"].to_pylist(), pools, strict=True):
        count = counts.get(word, Counter())
        first = sorted(count, key=lambda item: (-count[item], -popularity[item], item))[: POOL // 2]
        assert pool[: len(first)].tolist() == first
        found += len(first)
    assert found > 10


def test_what_pools_hold_is_counted(inside: Path) -> None:
    """As a loop over the test rows has it."""
    tasks, told = asked(), json.loads(paths.stage_metrics(DATASET, "text").read_text())
    for task, *counts in told["task_pools"]:
        answers, pools = tasks.table(task)["answer"].to_pylist(), pools_of(inside, task)
        assert pools is not None
        held = [len(set(own) & set(tasks.ids.sid[pool].tolist())) for own, pool in zip(answers, pools, strict=True)]
        assert counts == [
            ["samples", len(answers)],
            ["with an answer in the pool", sum(map(bool, held))],
            ["answers", sum(map(len, answers))],
            ["answers in the pool", sum(held)],
        ]


def test_every_task_and_decoder_is_measured(inside: Path) -> None:
    """A beam of 32 over pools of 32 holds what the pools hold; slates and samples are out of the pools."""
    found: dict[str, Any] = json.loads(paths.metrics(DATASET, "text-sft", 1).read_text())["tasks"]
    slates, tasks = pd.read_parquet(paths.slates(DATASET, "text-sft", 1)), asked()
    for task in RECOMMENDING:
        assert set(found[task]) == {"slate", "sample", "beam"}
        pools = pools_of(inside, task)
        assert pools is not None
        own = slates[slates["split"] == split_of(task)]
        for (row, _), items in own[own["item"] >= 0].groupby(["user", "decoder"])["item"]:
            assert not items.duplicated().any()
            assert np.isin(items, pools[row]).all()
        answers = [set(row) for row in tasks.table(task)["answer"].to_pylist()]
        held = [
            len(set(tasks.ids.sid[pool].tolist()) & right) / len(right)
            for pool, right in zip(pools, answers, strict=True)
        ]
        assert found[task]["beam"]["recall@32"][0] == pytest.approx(np.mean(held), abs=1e-5)
    assert found[JUDGING]["label"]["without_score"] == [0]
    assert 0 < found[JUDGING]["label"]["auc"][0] < 1


def test_the_curve_tells_what_was_taught(inside: Path) -> None:
    curve = pd.read_csv(paths.curve(DATASET, "text-warmup", 1))
    lessons = drawn_samples(inside)
    assert lessons is not None
    for task in RECOMMENDING:
        right = [np.isin(own.answer, own.pool).any() for own in lessons(1) if own.task == task]
        assert sum(right) > 0
        assert f"samples_{task}" in curve
    assert (curve["answers_left_out"] > 0).all()


def test_official_rows_are_read_as_they_are(inside: Path, tmp_path: Path) -> None:
    """Of every task: the ids of the prompt in order, as tokens."""
    tasks, log = asked(), load(paths.corpus(DATASET))
    ids = published.brought(paths.corpus(DATASET))
    assert ids is not None
    write_table(tmp_path / "ids.parquet", ids)
    space = semantic_id.Actions(tmp_path, log, chatting(tmp_path), OFFICIAL)
    for task in (*RECOMMENDING, JUDGING):
        table = tasks.table(task).slice(0, 5)
        rows = questions(space, tasks, task, None, 30)[:5]
        assert [own.messages for own in rows] == table["messages"].to_pylist()
        prompts = space.task_prompts(rows)
        begin, end = space.marks
        for row, shown in enumerate(table["shown"].to_pylist()):
            tokens = prompts.tokens[row][prompts.mask[row] == 1].numpy()
            found = [tokens[place + 1 : place + 4].tolist() for place in np.flatnonzero(tokens == begin)[: len(shown)]]
            known = tasks.ids.some_item(np.array(shown))
            assert found == space.tokens[known].tolist()
            assert (tokens == end).sum() == len(shown)
            assert (tokens == begin).sum() == len(shown) + (task != JUDGING)


NAMES = ["Heat", "Up", "Fargo", "Alien"]


def test_prompts_of_tasks() -> None:
    prompts = {task: f"{task} {{domain}}\n" + text for task, text in TASKS.items()}
    render_task = TaskRenderer(TaskPrompts(**prompts), NAMES, [f"{name} | film" for name in NAMES]).parts
    shown, pool = np.array([2, 0]), np.array([3, 1])
    candidates = "Alien | film\nUp | film\n"
    assert render_task("video", "", shown, pool).whole == "video video\nFargo\nHeat\n" + candidates
    assert render_task("ad", "", shown, pool).head == "ad advertisement\n"
    assert render_task("product", "", shown[:0], pool).whole == "product product\n-\n" + candidates
    assert render_task("label_cond", "like", shown, pool).tail == candidates + "likes\n"
    assert render_task("interactive", "a {keyword}", shown, pool).tail == candidates + "a {keyword}\n"
    done = render_task("label_cond", "like", shown, pool, behaviours=[BEHAVIOURS.index("like"), -1])
    assert done.history == ["Fargo (liked)\n", "Heat\n"]
    both = render_task(
        "label_cond", "like", shown, pool, behaviours=[BEHAVIOURS.index("longview"), BEHAVIOURS.index("like")]
    )
    assert both.history == ["Heat (liked)\n", "Fargo (watched)\n"]  # what does not fit goes from the front
    judged = render_task("label_pred", "", shown[:1], None, int(shown[1]))
    assert judged.history == ["Fargo\n"]
    assert judged.tail == "Heat\n"


@pytest.mark.parametrize(
    ("task", "prompt"),
    [
        ("video", "{pool}"),
        ("video", "so {history}\n{pool}"),
        ("video", "{history}\n{pool} {keyword}"),
        ("label_cond", "{history}\n{pool}"),
        ("label_pred", "{history}\n{pool}"),
    ],
)
def test_prompts_that_lack_something_are_refused(task: str, prompt: str) -> None:
    with pytest.raises(ValueError, match="on its own line"):
        TaskPrompts(**(TASKS | {task: prompt}))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Any:
    found = world(tmp_path_factory.mktemp("text"))
    found.space = copy(found.space)
    found.space.has_tasks = True
    return found


def test_lessons_teach_what_is_right_as_the_first_item(text: Any) -> None:
    """Two samples, the first with two right items in its pool and one outside, the second with one."""
    drawn = [
        Sample("video", "", np.array([0, 1, 2]), np.array([4, 7, 9]), -1, None, 0, np.array([4, 5, 6, 7])),
        Sample("ad", "", np.array([3]), np.array([10]), -1, None, 0, np.array([8, 10])),
        Sample("ad", "", np.array([3]), np.array([1]), -1, None, 0, np.array([8, 10])),
    ]
    lessons = TaskLessons(text.space, lambda number: drawn, 2)
    samples = lessons.epoch(1)
    assert lessons.counts == {"answers_left_out": 2, "samples_video": 1, "samples_ad": 1}
    assert samples[0].shown.tolist() == [1, 2]
    with torch.no_grad():
        nats, weight = lessons.loss(text.model, samples)
        total = tokens = 0.0
        for own in samples:
            prompts = text.space.task_prompts([Question(own.task, own.condition, own.shown, pool=own.pool)])
            items, scores = next_items(Reading(text.model, prompts), text.space, 4, 4)
            for right in own.answer.tolist():
                total -= float(scores[0, items[0].tolist().index(right)]) / len(own.answer)
                tokens += int((text.space.names[right] >= 0).sum()) / len(own.answer)
    assert float(nats) == pytest.approx(total, abs=1e-3)
    assert float(weight) == pytest.approx(tokens)


def test_yes_and_no_are_tokens_of_the_text(text: Any) -> None:
    """The logits of a plain pass behind the prompt; a lesson of one answer is as heavy as a name."""
    asking = [Question(JUDGING, "", np.array([0]), 4), Question(JUDGING, "", np.array([1, 2]), 3)]
    with torch.no_grad():
        found = answer_logits(text.model, text.space, asking)
        for row, own in enumerate(asking):
            prompt = text.space.task_prompts([own]).tokens[0]
            plain = text.model(input_ids=prompt[None]).logits[0, -1]
            assert torch.allclose(found[row], plain[text.space.answers], atol=1e-4)
        yes = Sample(JUDGING, "", np.array([0]), np.empty(0, np.int64), 4, True)
        nats, weight = TaskLessons(text.space, lambda number: [yes], 9).loss(text.model, [yes])
    heavy = float((text.space.names >= 0).sum(1).mean())
    assert float(weight) == pytest.approx(heavy)
    assert float(nats) == pytest.approx(-heavy * float(torch.log_softmax(found[0], 0)[0]), abs=1e-3)
    assert text.space.tokenizer.decode(text.space.answers.tolist()) == "yn"


def test_a_prompt_without_room_is_refused(text: Any) -> None:
    tight = copy(text.space)
    tight.policy = text.space.policy.model_copy(update={"max_tokens": 5})
    with pytest.raises(InputError, match=r"a sample of video has .* lower text.pool_size .of a task, text.tasks"):
        tight.task_prompts([Question("video", "", np.array([0]), pool=np.arange(6))])


def test_rows_show_what_ids_stand_for(inside: Path) -> None:
    tasks = asked()
    for task in (*RECOMMENDING, JUDGING):
        for own, shown in zip(asked_samples(tasks, task), tasks.table(task)["shown"].to_pylist(), strict=True):
            assert tasks.ids.sid[own.shown].tolist() == (shown[:-1] if task == JUDGING else shown)
            assert (tasks.ids.alike[own.shown] == own.shown).all()
