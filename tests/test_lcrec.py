"""LC-Rec against plain passes of the same language model, task by task and item by item."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.baselines import lcrec
from stages.baselines.asked import Asked, of_users
from stages.baselines.lcrec_learner import LcRec
from stages.baselines.lcrec_tasks import Row
from tests import small_backbone, small_histories
from tests.small_generative import CODES, given, outcome, section, sharpen
from tests.small_histories import N

TASKS = ("seqrec", "item2index", "index2item", "fusion")


@pytest.fixture(autouse=True)
def _checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))


@pytest.fixture
def pretrained(tmp_path):
    """What `given` needs for a small pretrained backbone with adapters."""
    source = small_backbone.pretrained_folder(tmp_path)
    return {"backbone": source, "language_model": small_backbone.settings()}


@pytest.fixture
def make(tmp_path):
    """An untrained model with sharp weights."""

    def build(exclude_seen=True, models=None, **changes) -> LcRec:
        own = given(small_histories.log(), tmp_path, exclude_seen=exclude_seen, **(models or {}))
        params = lcrec.at_rate(
            section("lcrec", **{"beam_width": N, "list_length": N, "lr": None} | changes), own.language_model
        )
        learner = LcRec(own, params, CODES, own.language_model)
        sharpen(learner.model)
        return learner

    return build


def only(**weights: float) -> dict[str, float]:
    """Weights of the tasks; `seqrec` always has some."""
    return {**dict.fromkeys(TASKS, 0.0), "seqrec": 1.0, **weights}


def logits(learner: LcRec, tokens: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return learner.model(input_ids=torch.from_numpy(tokens)[None]).logits[0]


def every_score(learner: LcRec, items: np.ndarray) -> np.ndarray:
    """Score of each item by one plain pass per item: the softmax over its level's codes."""
    prompt = learner.spelling.history(items[-learner.params.history_items :])
    columns, scores = learner.columns, []
    for codes in CODES:
        own = [int(columns[level, code]) for level, code in enumerate(codes)]
        found = logits(learner, np.concatenate([prompt, own[:-1]]))[len(prompt) - 1 :]
        scores.append(sum(float(found[level, columns[level]].log_softmax(0)[code]) for level, code in enumerate(codes)))
    return np.array(scores)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("kind", ["scratch", "pretrained"])
def test_a_wide_beam_is_a_ranking_of_the_whole_catalogue(make, pretrained, kind, exclude_seen):
    learner = make(exclude_seen, pretrained if kind == "pretrained" else None)
    log, users = learner.given.histories, np.array([0, 3, 17, 39])
    for split in ("valid", "test"):
        items, scores = learner.ranked(of_users(log, split, users, exclude_seen, N))
        for row, user in enumerate(users):
            context = log.context(user, split)
            exact = every_score(learner, context)
            hidden = np.unique(context) if exclude_seen else context[:0]
            order = np.setdiff1d(np.argsort(-exact, kind="stable"), hidden, assume_unique=True)
            assert np.ptp(exact) > 1
            assert items[row, : len(order)].tolist() == order.tolist()
            assert scores[row, : len(order)] == pytest.approx(exact[order], abs=1e-4)
            assert (items[row, len(order) :] == -1).all()


def test_lists_of_some_items_are_the_ranking_of_these(make):
    learner, items = make(), np.array([0, 5, 6, 13])
    contexts = [np.array([3, 1, 4]), np.array([2])]
    asked = Asked("test_video", contexts, 3, among=items)
    found, scores = learner.ranked(asked)
    for row, context in enumerate(contexts):
        exact = every_score(learner, context)
        order = items[np.argsort(-exact[items], kind="stable")][:3]
        assert found[row].tolist() == order.tolist()
        assert scores[row] == pytest.approx(exact[order], abs=1e-4)
        judged = learner.judged(replace(asked, contexts=[context] * N, candidates=np.arange(N)))
        assert judged == pytest.approx(exact, abs=1e-4)


def test_an_empty_history_is_the_prompt_alone(make):
    learner = make()
    found = learner.ranked(Asked("test", [np.array([], dtype=np.int64)], N))
    exact = every_score(learner, np.array([], dtype=np.int64))
    assert found[0][0].tolist() == np.argsort(-exact, kind="stable").tolist()


@pytest.mark.parametrize("kind", ["scratch", "pretrained"])
def test_the_loss_is_transformers_own_over_responses(make, pretrained, monkeypatch, kind):
    """Of every example by itself, with labels at the response alone; in several passes of unlike lengths."""
    monkeypatch.setattr("stages.baselines.lcrec_learner.PASS", 200)
    learner = make(models=pretrained if kind == "pretrained" else None, batch_size=500, max_examples=500)
    (batch,) = learner.batches(0)
    assert {row.weight for row in batch} == {1.0, 0.5, 0.25}
    total, weight = learner.loss(batch)
    exact = 0.0
    for row in batch:
        tokens = torch.from_numpy(row.tokens)[None]
        labels = tokens.masked_fill(~torch.from_numpy(row.written)[None], -100)
        with torch.no_grad():
            exact += row.weight * int(row.written.sum()) * float(learner.model(input_ids=tokens, labels=labels).loss)
    assert float(total.detach()) == pytest.approx(exact, rel=1e-4)
    assert float(weight) == sum(row.weight * row.written.sum() for row in batch)


def test_all_prefixes_of_a_history_are_learnt_at_once(make):
    """One example of `seqrec` has the loss of an example for each of its prefixes."""
    learner = make()
    row = learner.lessons._seqrec(np.array([3, 1, 4, 1, 5]))
    parts = []
    for known in range(1, 5):
        prompt = learner.spelling.history(np.array([3, 1, 4, 1, 5])[:known])
        response = learner.spelling.ids[[3, 1, 4, 1, 5][known]]
        written = np.arange(len(prompt) + 3) >= len(prompt)
        parts.append(Row(np.concatenate([prompt, response]), written, 1.0))
    whole, apart = (learner.loss(rows) for rows in ([row], parts))
    assert float(whole[0].detach()) == pytest.approx(float(apart[0].detach()), rel=1e-5)
    assert float(whole[1]) == float(apart[1]) == 12


def words(learner: LcRec, tokens: np.ndarray) -> str:
    """Text, with ids as <level.code>."""
    parts = []
    for token in tokens:
        place = (learner.columns == int(token)).nonzero()
        parts.append(f"<{place[0, 0]}.{place[0, 1]}>" if len(place) else chr(0xE000 + int(token)))
    found = "".join(parts)
    tokenizer = learner.tokenizer
    for mark in {part for part in found if part >= "\ue000"}:
        found = found.replace(mark, tokenizer.decode([ord(mark) - 0xE000]))
    return found


def test_examples_in_words(make):
    """Each task as it is read; what is behind the bar is the response."""
    learner = make(title_items=2)
    lessons, seen = learner.lessons, np.array([0, 4, 13])

    def told(row: Row) -> str:
        return f"{words(learner, row.tokens[~row.written])}|{words(learner, row.tokens[row.written])}"

    ids = ["<0.0><1.0><2.0>", "<0.1><1.1><2.0>", "<0.1><1.0><2.1>"]
    assert told(lessons._seqrec(seen)) == f"What a user chose, in order: {ids[0]}|{ids[1]}{ids[2]}"
    assert told(lessons._item2index(4)) == f"The item of the title Item 4\n: |{ids[1]}"
    assert told(lessons._index2item(13)) == f"The title of the item {ids[2]}: |Item 13\n"
    titles = "Titles that a user chose, in order:\nItem 0\nItem 4\nThe item chosen next: "
    assert told(lessons._titles_to_id(seen)) == f"{titles}|{ids[2]}"
    title = f"Items that a user chose, in order: {ids[0]}{ids[1]}\nThe title chosen next: "
    assert told(lessons._ids_to_title(seen)) == f"{title}|Item 13\n"
    assert words(learner, learner.spelling.history(seen)) == f"What a user chose, in order: {''.join(ids)}"


def test_no_two_examples_contradict_each_other(make):
    """Over an epoch of the item tasks no prompt is answered in two ways, nor is one the beginning of another's."""
    learner = make(tasks=only(item2index=1.0, index2item=1.0, fusion=1.0), max_examples=None)
    rows = [row for batch in learner.batches(0) for row in batch]
    starts = {tuple(row.tokens[:4].tolist()) for row in rows}
    assert len(starts) == 5
    items = [*map(learner.lessons._item2index, range(N)), *map(learner.lessons._index2item, range(N))]
    prompts = [tuple(row.tokens[~row.written].tolist()) for row in items]
    assert len(set(prompts)) == 2 * N
    for prompt in prompts:
        assert not any(other[: len(prompt)] == prompt for other in prompts if other != prompt)


def test_an_epoch_holds_every_task_that_has_weight(make):
    """Users with two training items or more; windows of 4 items and the next; items both ways."""
    log = small_histories.log()
    users = int((log.train_length > 1).sum())

    def counts(**changes) -> tuple[int, list[float]]:
        rows = [row for batch in make(max_examples=None, **changes).batches(0) for row in batch]
        return len(rows), sorted(row.weight for row in rows)

    plain, _ = counts(tasks=only())
    assert plain == sum(len(batch) for batch in make().lessons.windows.batches(0, 1))
    assert counts(tasks=only(item2index=2.0))[1][-N:] == [2.0] * N
    assert counts(tasks=only(index2item=2.0))[0] == plain + N
    assert counts(tasks=only(fusion=2.0))[1][-2 * users :] == [2.0] * 2 * users


def test_an_epoch_draws_its_own_examples(make):
    def drawn(learner: LcRec, epoch: int) -> list[bytes]:
        return [row.tokens.tobytes() for batch in learner.batches(epoch) for row in batch]

    learner = make(max_examples=50, batch_size=20)
    assert [len(batch) for batch in learner.batches(0)] == [20, 20, 10]
    assert drawn(learner, 0) == drawn(learner, 0) != drawn(learner, 1)
    whole = set(drawn(make(max_examples=None), 1))
    assert set(drawn(learner, 1)) <= whole


def test_titles_are_cut_and_told_apart(make):
    """The tokenizer that is trained on titles reads them back; long ones keep their end, and what tells them apart."""
    learner = make(title_tokens=1)
    titles = [words(learner, title) for title in learner.spelling.titles]
    assert len(set(titles)) == N
    assert all(title.endswith("\n") and len(title) < len("Item 1 [x] 24\n") for title in titles)
    assert titles[0] != "Item 0\n"
    whole = make(title_tokens=30)
    assert [words(whole, title) for title in whole.spelling.titles] == [f"Item {item}\n" for item in range(N)]


def test_a_pretrained_model_trains_adapters_and_ids(tmp_path, pretrained):
    """Nothing of the base changes or is saved; its tokens stay below those of ids."""
    own = given(small_histories.log(), tmp_path, **pretrained)
    params = section("lcrec", epochs=1, lr=None)
    start = LcRec(own, lcrec.at_rate(params, own.language_model), CODES, own.language_model)
    assert int(start.columns.min()) == small_backbone.WORDS
    found = outcome("lcrec", own, params)
    names = set(found.weights) - {"codes"}
    assert names
    assert all("lora" in name or "trainable_tokens" in name for name in names)
    moved = [name for name in names if not torch.equal(found.weights[name], backbone_weight(start, name))]
    assert any("lora_B" in name for name in moved)
    assert any("trainable_tokens" in name for name in moved)
    assert found.lists["test"][0].shape == (40, 5)


def backbone_weight(learner: LcRec, name: str) -> torch.Tensor:
    return dict(learner.model.named_parameters())[name.removeprefix("model.")]


def test_bf16_is_autocast_of_the_loss(make, pretrained):
    models = {**pretrained, "language_model": small_backbone.settings(precision="bf16")}
    learner, exact = make(models=models), make(models=pretrained)
    batch = exact.batches(0)[0]
    total, plain = (float(own.loss(batch)[0].detach()) for own in (learner, exact))
    assert total != plain
    assert total == pytest.approx(plain, rel=0.05)


def test_a_frozen_bf16_model_with_layers_computed_again_trains(tmp_path, pretrained):
    """As the backbone of 8 billion weights is set: lists come out, and adapters have moved in fp32."""
    body = small_backbone.settings(weights="bf16", precision="bf16", gradient_checkpointing=True)
    own = given(small_histories.log(), tmp_path, **{**pretrained, "language_model": body})
    found = outcome("lcrec", own, section("lcrec", epochs=1, max_examples=32))
    adapters = [weight for name, weight in found.weights.items() if "lora_B" in name]
    assert adapters
    assert all(weight.dtype == torch.float32 for weight in adapters)
    assert any(weight.any() for weight in adapters)
    assert (found.lists["test"][0] >= 0).all()


def test_the_learning_rate_is_the_backbones_where_the_section_has_none():
    body = small_backbone.settings(sft_lr=0.125)
    assert lcrec.at_rate(section("lcrec", lr=None), body).lr == 0.125
    assert lcrec.at_rate(section("lcrec", lr=0.25), body).lr == 0.25
