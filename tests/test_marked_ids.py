"""Published ids in marks, `<|sid_begin|>` and `<|sid_end|>`, and official prompts that name such ids."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.action_spaces.semantic_id import FIRST_CODE, Actions
from stages.action_spaces.shared_ids import marks_of
from stages.action_spaces.task_words import COUNT
from stages.action_spaces.tasked import Question
from stages.core.errors import InputError
from stages.core.files import write_table
from stages.core.spelling_sections import SemanticIdPolicy
from stages.corpus.recif_parts import BEHAVIOURS
from stages.policy.beam import beam_items
from stages.policy.history_label import Window, collate, loss_sum
from stages.policy.logprobs import answer_logits, spell, token_log_probs
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from stages.rendering import tokenizer
from stages.semantic_ids import published
from tests import small_policy
from tests.test_published_ids import log_of, sids

MARKED = SemanticIdPolicy(align_epochs=0, title_to_id=0.0, id_to_title=0.0, marks=True, prompts="own")
OFFICIAL = MARKED.model_copy(update={"prompts": "official"})
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
FIRST = "<|sid_begin|><s_a_7><s_b_0><s_c_5><|sid_end|>"
LAST = "<|sid_begin|><s_a_7><s_b_9><s_c_8191><|sid_end|>"


def space(folder: Path, policy: SemanticIdPolicy = MARKED, words=None) -> Actions:  # type: ignore[no-untyped-def]
    ids = published.brought(sids(folder))
    assert ids is not None
    write_table(folder / "ids.parquet", ids)
    return Actions(folder, log_of(small_policy.logged([0, 4, 2, 5], [0] * 4, [4], [4]), 6), words, policy)


def chatting(folder: Path, template: str | None = TEMPLATE):  # type: ignore[no-untyped-def]
    """A tokenizer of bytes with a chat template."""
    found = tokenizer.train(["what next"] * 3, 300, folder / "tokenizer")
    found.chat_template = template
    return found


def test_histories_have_marks_around_every_id(tmp_path: Path) -> None:
    plain, marked = space(tmp_path, MARKED.model_copy(update={"marks": False})), space(tmp_path)
    begin, end = marked.marks.tolist()
    assert [begin, end] == [FIRST_CODE + 9 + COUNT, FIRST_CODE + 9 + COUNT + 1]
    assert marked.new_tokens == plain.new_tokens + 2
    codes = plain.tokens[[1, 3]].tolist()
    assert marked.history(np.array([1, 3])).tolist() == [1, begin, *codes[0], end, begin, *codes[1], end]
    one = np.array([1])
    asked = marked.task_prompts([Question("video", "", one), Question("label_pred", "", one, 3)])
    assert asked.tokens[0][asked.mask[0] == 1][-1] == begin  # a code is next
    judged = [*marked.history(one).tolist(), marked.words.token("label_pred"), begin, *codes[1], end]
    assert asked.tokens[1].tolist() == judged  # a word is
    assert plain.fingerprint != marked.fingerprint


def test_what_was_done_with_items_stands_before_them(tmp_path: Path) -> None:
    """Once before several alike, and before none of which it is not told."""
    own = space(tmp_path, MARKED.model_copy(update={"marks": False}))
    like, forward = BEHAVIOURS.index("like"), BEHAVIOURS.index("forward")
    shown = np.array([1, 3, 1, 0])
    question = Question("label_cond", "follow", shown, behaviours=np.array([-1, like, like, forward]))
    word = {name: own.words.token(name) for name in ("like", "forward", "label_cond", "follow")}
    codes = own.tokens[shown].tolist()
    told = [*codes[0], word["like"], *codes[1], *codes[2], word["forward"], *codes[3]]
    assert own.task_prompts([question]).tokens[0].tolist() == [1, *told, word["label_cond"], word["follow"]]
    nothing = question._replace(shown=shown[:0], behaviours=shown[:0])
    assert own.task_prompts([nothing]).tokens[0].tolist() == [1, word["label_cond"], word["follow"]]
    untold = question._replace(behaviours=shown[:0])
    assert own.task_prompts([untold]).tokens[0].tolist()[:-2] == own.history(shown).tolist()


def test_marks_that_a_tokenizer_knows_are_its_own(tmp_path: Path) -> None:
    words = chatting(tmp_path)
    assert marks_of(words, 400).tolist() == [400, 401]
    words.add_tokens(["<|sid_end|>"])
    own = words.convert_tokens_to_ids("<|sid_end|>")
    assert marks_of(words, 400).tolist() == [400, own]
    assert space(tmp_path, words=words).marks.tolist()[1] == own


def test_slates_have_marks_between_their_items(tmp_path: Path) -> None:
    """All four ids in one slate, and the log-probabilities of plain passes over the tokens that were written."""
    own = space(tmp_path)
    model = small_policy.sharp_model(own)
    asked = own.prompts_of([np.array([0]), np.array([4, 2])], 4, "slate", False)
    slates = sample_slates(Reading(model, asked), own, [0.0, 1.0], 4, small_policy.keys(2))
    assert torch.sort(slates.items).values.tolist() == [[[1, 2, 3, 5]] * 2] * 2
    begin, end = own.marks.tolist()
    for user, row in enumerate(slates.items.tolist()):
        prompt = asked.tokens[user][asked.mask[user] == 1].tolist()
        assert prompt[-2:] == [2, begin]
        for slate, items in enumerate(row):
            spelled = [token for item in items for token in (*own.tokens[item].tolist(), end, begin)]
            tokens = slates.tokens[user, slate].tolist()
            assert tokens == spelled[:-2]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 :]
            first = torch.log_softmax(logits[0, own.columns[0]], -1)  # every code of the first level is open
            place = own.columns[0].tolist().index(tokens[0])
            assert float(slates.log_probs[user, slate, 0]) == pytest.approx(float(first[place]), abs=1e-4)
            assert slates.log_probs[user, slate, 3:5].tolist() == [0, 0]  # no choice
    scored, _ = token_log_probs(model, asked, own, slates._replace(items=slates.items), 1.0)
    assert torch.allclose(scored, slates.log_probs, atol=1e-4)
    again, possible = spell(asked, own, slates.items)
    assert possible.all()
    assert torch.equal(again.tokens, slates.tokens)


def test_lessons_on_histories_are_those_of_the_prompts(tmp_path: Path) -> None:
    """A window's loss is the sum over its items of what the prompt before each gives them."""
    own = space(tmp_path)
    model = small_policy.sharp_model(own)
    items = np.array([1, 5, 2, 1])
    with torch.no_grad():
        loss = float(loss_sum(model, collate([Window(items, None)], own), own))
        total = 0.0
        for place, item in enumerate(items):
            asked = own.prompts_of([items[:place]], 9, "history", False)
            found, scores = beam_items(Reading(model, asked), own, 9, 4)
            total -= float(scores[0, found[0].tolist().index(item)])
    assert loss == pytest.approx(total, abs=1e-3)


def test_a_pretrained_model_reads_the_official_messages(tmp_path: Path) -> None:
    """The text as it is, but for what the assistant says and an id that no item has a code of; ids are their tokens."""
    words = chatting(tmp_path)
    own = space(tmp_path, OFFICIAL, words)
    turns = [
        {"role": "system", "content": "你是推荐系统。"},
        {"role": "user", "content": f"看过：{FIRST}<|sid_begin|><s_a_6><s_b_0><s_c_5><|sid_end|>{LAST} /no_think"},
        {"role": "assistant", "content": LAST},
    ]
    question = Question("video", "", np.array([1]), messages=json.dumps(turns, ensure_ascii=False))
    tokens = own.task_prompts([question]).tokens[0].tolist()
    begin, end = own.marks.tolist()
    assert tokens[-1] == begin
    ids = [[begin, *own.tokens[item].tolist(), end] for item in (0, 2)]
    text = "<system>你是推荐系统。\n<user>看过：", " /no_think\n<assistant>"
    spelled = [words.encode(part, add_special_tokens=False) for part in text]
    assert tokens == [*spelled[0], *ids[0], *ids[1], *spelled[1], begin]
    judged = own.task_prompts([question._replace(task="label_pred")]).tokens[0].tolist()
    assert judged == tokens[:-1]
    assert own.answers.tolist() == [words.encode(word)[0] for word in ("是", "否")]
    assert len(words) == own.first_token  # the backbone's tokenizer is as it was


def test_lists_behind_official_messages(tmp_path: Path) -> None:
    own = space(tmp_path, OFFICIAL, chatting(tmp_path))
    model = small_policy.scratch(own.first_token + own.new_tokens, 0).eval()
    said = [json.dumps([{"role": "user", "content": text}]) for text in (FIRST, LAST + FIRST)]
    asked = [Question("video", "", np.array([1]), messages=text) for text in said]
    items, _ = beam_items(Reading(model, own.task_prompts(asked)), own, 9, 4)
    assert torch.sort(items).values.tolist() == [[1, 2, 3, 5]] * 2
    logits = answer_logits(model, own, [own_question._replace(task="label_pred") for own_question in asked])
    plain = model(input_ids=torch.from_numpy(own.messages.read(said[0]))[None]).logits[0, -1]
    assert torch.allclose(logits[0], plain[own.answers], atol=1e-4)


def test_what_official_prompts_and_marks_need(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="backbones with a chat template"):
        space(tmp_path, OFFICIAL, chatting(tmp_path, None))
    with pytest.raises(ValueError, match="set marks to true"):
        SemanticIdPolicy(align_epochs=0, title_to_id=0.0, id_to_title=0.0, marks=False, prompts="official")
    log = small_policy.catalogue(tmp_path).histories
    with pytest.raises(InputError, match="marks is for ids that a corpus brings"):
        Actions(tmp_path, log, None, MARKED)
