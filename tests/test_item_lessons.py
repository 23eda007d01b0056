"""Titles to ids and back, by plain passes of a small pretrained model."""

import numpy as np
import pytest
import torch

from stages import sft
from stages.core.errors import InputError
from stages.core.spelling_sections import SemanticIdPolicy
from stages.policy import backbone
from stages.policy.history_label import HistoryLessons, Window
from stages.policy.item_lessons import ItemLessons, MixedLessons, Pair
from tests import small_backbone
from tests.small_policy import ITEMS, catalogue

TITLES = [" ".join(f"w{word}" for word in range(item % 4 + 1)) for item in range(ITEMS)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    source = small_backbone.pretrained_folder(folder)
    tokenizer = backbone.tokenizer(source)
    space = catalogue(folder, tokenizer)
    model = backbone.create(small_backbone.settings(), source, space.new_tokens, 1).eval()
    return space, model, tokenizer


def logits(model, tokens: list[int]) -> torch.Tensor:
    """Of the whole vocabulary, behind each token."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0]


def title(tokenizer, item: int) -> list[int]:
    return [
        *tokenizer.encode(TITLES[item], add_special_tokens=False),
        *tokenizer.encode("\n", add_special_tokens=False),
    ]


@pytest.mark.parametrize("items", [[3], [2, 5, 3]])
def test_ids_behind_titles(world, items):
    """The codes' log-probabilities among those of the catalogue that begin alike."""
    space, model, tokenizer = world
    own = ItemLessons.of(space, tokenizer, TITLES, 0.5, 0.0)
    exact = 0.0
    for item in items:
        start = [*title(tokenizer, item), space.first_token + 1]
        codes = space.tokens[item].tolist()
        found = logits(model, start + codes)
        for level, token in enumerate(codes):
            alike = [other for other in space.tokens.tolist() if other[:level] == codes[:level]]
            open_ = sorted({other[level] for other in alike})
            scores = torch.log_softmax(found[len(start) - 1 + level, open_], 0)
            exact -= float(scores[open_.index(token)])
    total, weight = own.loss(model, [Pair(item, True) for item in items])
    assert float(total.detach()) == pytest.approx(0.5 * exact, abs=1e-4)
    assert float(weight) == 0.5 * 2 * len(items)


@pytest.mark.parametrize("items", [[3], [2, 5, 3]])
def test_titles_behind_ids(world, items):
    space, model, tokenizer = world
    own = ItemLessons.of(space, tokenizer, TITLES, 0.0, 2.0)
    exact, count = 0.0, 0
    for item in items:
        start, written = space.history(np.array([item])).tolist(), title(tokenizer, item)
        scores = torch.log_softmax(logits(model, start + written)[len(start) - 1 : -1], -1)
        exact -= float(scores.gather(1, torch.tensor(written)[:, None]).sum())
        count += len(written)
    total, weight = own.loss(model, [Pair(item, False) for item in items])
    assert float(total.detach()) == pytest.approx(2 * exact, rel=1e-5)
    assert float(weight) == 2 * count


def test_ways_of_no_weight_are_left_out(world):
    space, _, tokenizer = world
    assert ItemLessons.of(space, tokenizer, TITLES, 1.0, 0.0).epoch(0) == [Pair(item, True) for item in range(ITEMS)]
    assert len(ItemLessons.of(space, tokenizer, TITLES, 1.0, 0.5).epoch(0)) == 2 * ITEMS


def test_a_mixed_batch_is_the_sum_of_its_parts(world):
    space, model, tokenizer = world
    items = ItemLessons.of(space, tokenizer, TITLES, 1.0, 0.5)
    histories = HistoryLessons(space, [np.arange(6)], None, 9, 0.0, True, 0)
    mixed = MixedLessons([histories, items])
    window = Window(np.array([3, 1]), np.array([], dtype=np.int64))
    examples = [(1, Pair(2, True)), (0, window), (1, Pair(4, False))]
    parts = [histories.loss(model, [window]), items.loss(model, [Pair(2, True), Pair(4, False)])]
    total, weight = mixed.loss(model, examples)
    assert float(total.detach()) == pytest.approx(sum(float(own.detach()) for own, _ in parts), rel=1e-5)
    assert float(weight) == sum(float(own) for _, own in parts)
    assert len(mixed.epoch(0)) == 2 * ITEMS + len(histories.epoch(0))
    assert [mixed.size(example) for example in examples] == [3, 2, 2]


def test_titles_need_a_pretrained_model():
    policy = SemanticIdPolicy(align_epochs=0, title_to_id=1.0, id_to_title=0.0, marks=False, prompts="own")
    with pytest.raises(InputError, match="title_to_id and id_to_title need a pretrained backbone"):
        sft.with_items(None, policy, None, None)
