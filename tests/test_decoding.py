"""Prompts, sampling and beam search against full enumeration."""

import math

import numpy as np
import pytest
import torch

from stages.action_spaces.base import pad
from stages.core.errors import InputError
from stages.core.files import write_table
from stages.policy.beam import beam_items
from stages.policy.constrained import entropy, log_softmax
from stages.policy.logprobs import token_log_probs
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from stages.semantic_ids.table import id_table
from tests.small_policy import CONTEXTS, ITEMS, SIZE, TEMPERATURE, actions, enumerate_items, keys, part, sharp_model


def test_prompts(space, asked):
    """START, the last 4 items, the slate token; the whole context is banned, once each."""
    rows = [row[mask == 1].tolist() for row, mask in zip(asked.tokens, asked.mask, strict=True)]
    spelled = [space.tokens[context[-4:]].ravel().tolist() for context in CONTEXTS]
    assert rows == [[1, *row, 2] for row in spelled]
    assert asked.mask[:, 0].tolist() == [1] * 4  # padded on the right
    assert asked.mask.sum(1).tolist() == [4, 10, 8, 2]
    banned = [sorted(item for item in row.tolist() if item >= 0) for row in asked.banned]
    assert banned == [[0], [1, 3, 4, 5], [2, 6, 9], []]
    plain = space.prompts_of(CONTEXTS, 4, "history", False)
    assert (plain.tokens != 2).all()
    assert (plain.banned == -1).all()


def test_pad():
    tokens, mask = pad([np.array([5]), np.array([6, 7])], -1)
    assert tokens.tolist() == [[5, -1], [6, 7]]
    assert mask.tolist() == [[1, 0], [1, 1]]


def test_some_prompts_lose_the_padding_of_others(asked):
    """Users 0 and 2 of 4 and 8 tokens among one of 10."""
    some = asked.of(np.array([0, 2]))
    assert some.tokens.shape == (2, 8)
    assert torch.equal(some.tokens, asked.tokens[[0, 2], :8])
    assert torch.equal(some.banned, asked.banned[[0, 2]])


def test_constrained_softmax_by_hand():
    """Logits 0, log 3, 9 with the last masked: 1/4, 3/4, 0; entropy .562335 nats; temperature .5: 1/10, 9/10."""
    logits, allowed = torch.tensor([0.0, math.log(3), 9.0]), torch.tensor([True, True, False])
    found = log_softmax(logits, allowed)
    assert found.exp().tolist() == pytest.approx([0.25, 0.75, 0])
    assert float(entropy(found)) == pytest.approx(0.562335, abs=1e-6)
    assert log_softmax(logits, allowed, 0.5).exp().tolist() == pytest.approx([0.1, 0.9, 0])


# -------------------------------------------------------------------------------------------------- sampling


def test_slates_are_distinct_catalogue_items_and_never_banned(space, model, asked):
    """L = 10 of the 10 items that user 1 has left: the hardest case."""
    found = sample_slates(Reading(model, asked), space, [1.0] * 20, 10, keys(4))
    assert found.items.shape == (4, 20, 10)
    for user, slates in enumerate(found.items.tolist()):
        banned = set(asked.banned[user].tolist())
        for slate in slates:
            assert len(set(slate)) == 10
            assert set(slate) <= set(range(ITEMS)) - banned
    assert torch.equal(space.trie.codes[found.items], found.choice.unflatten(2, (10, 2)))
    assert torch.equal(torch.from_numpy(space.tokens)[found.items], found.tokens.unflatten(2, (10, 2)))
    assert torch.equal(found.item_log_probs, found.log_probs.unflatten(2, (10, 2)).sum(-1))
    assert found.real.all()
    assert len({tuple(slate) for slate in found.items[0].tolist()}) > 1


def test_too_few_items_left(space, model, asked):
    with pytest.raises(InputError, match=r"fewer than 11 items left .*shorten rl\.slate_length"):
        sample_slates(Reading(model, asked), space, [1.0] * 1, 11, keys(4))


def test_the_generator_decides(space, model, asked):
    first, again, other = (
        sample_slates(Reading(model, asked), space, [1.0] * 4, 5, keys(4, s)).items for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_first_item_frequencies_match_its_probabilities(space, model):
    """3,000 draws; chi-square over the items with 5 or more expected: below its mean + 4 standard deviations."""
    context = [np.array([3, 1])]
    asked = space.prompts_of(context, 4, "slate", True)
    found = sample_slates(Reading(model, asked), space, [TEMPERATURE] * 3000, 1, keys(1, 3)).items.flatten()
    expected = 3000 * enumerate_items(space, model, context[0], {1, 3}, TEMPERATURE).exp()
    assert float(expected.sum()) == pytest.approx(3000, rel=1e-5)
    observed = torch.bincount(found, minlength=ITEMS)
    enough = expected >= 5
    freedom = int(enough.sum()) - 1
    assert freedom >= 3
    statistic = float(((observed - expected) ** 2 / expected)[enough].sum())
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)
    # the test has power: uniform draws would be far off
    assert float(((3000 / 12 - expected) ** 2 / expected)[enough].sum()) > 3 * (freedom + 4 * math.sqrt(2 * freedom))


def test_greedy_takes_the_likeliest_token(space, model, asked):
    """Temperature 0: each token is the argmax over what is allowed, and K slates are the same."""
    found = sample_slates(Reading(model, asked), space, [0.0] * 2, 5, None)
    assert torch.equal(found.items[:, 0], found.items[:, 1])
    for user, context in enumerate(CONTEXTS):
        left = [item for item in range(ITEMS) if item not in set(context.tolist())]
        start = [1, *space.tokens[context[-4:]].ravel().tolist(), 2]
        with torch.no_grad():
            first = model(input_ids=torch.tensor([start])).logits[0, -1]
            token = max({int(space.tokens[item][0]) for item in left}, key=lambda t: float(first[t]))
            second = model(input_ids=torch.tensor([[*start, token]])).logits[0, -1]
        behind = [item for item in left if space.tokens[item][0] == token]
        assert int(found.items[user, 0, 0]) == max(behind, key=lambda item: float(second[space.tokens[item][1]]))


def test_a_temperature_per_slate(space, model, asked):
    """Greedy beside sampled: as each alone, whatever the other does, with log-probabilities of its own temperature."""
    both = sample_slates(Reading(model, asked), space, [1.0, 0.0, 0.5], 5, keys(4, 1))
    greedy = sample_slates(Reading(model, asked), space, [0.0], 5, None)
    assert torch.equal(both.items[:, 1], greedy.items[:, 0])
    assert torch.allclose(both.log_probs[:, 1], greedy.log_probs[:, 0], atol=1e-6)
    for slate, temperature in ((0, 1.0), (2, 0.5)):
        scored, _ = token_log_probs(model, asked, space, both, temperature)
        assert torch.allclose(scored[:, slate], both.log_probs[:, slate], atol=1e-5)


# ------------------------------------------------------------------------------------------------------ beam


@pytest.mark.parametrize("width", [ITEMS, 50])
def test_a_wide_beam_is_full_enumeration(space, model, asked, width):
    """As many beams as items: all that may be named, best first; -1 with -inf behind them, never a banned item."""
    items, scores = beam_items(Reading(model, asked), space, width, ITEMS)
    assert items.shape == scores.shape == (4, ITEMS)
    for user, context in enumerate(CONTEXTS):
        exact = enumerate_items(space, model, context[-4:], set(context.tolist()))
        best = exact.sort(descending=True)
        left = ITEMS - len(set(context.tolist()))
        assert items[user, :left].tolist() == best.indices[:left].tolist()
        assert torch.allclose(scores[user, :left], best.values[:left], atol=1e-5)
        assert items[user, left:].tolist() == [-1] * (ITEMS - left)
        assert scores[user, left:].tolist() == [-math.inf] * (ITEMS - left)


def test_more_items_than_the_catalogue_has(space, model, asked):
    """20 asked of 14: the rest is -1 with -inf, for a user without banned items as well."""
    items, scores = beam_items(Reading(model, part(asked, 3, 4)), space, 20, 20)
    assert sorted(items[0, :ITEMS].tolist()) == list(range(ITEMS))
    assert items[0, ITEMS:].tolist() == [-1] * 6
    assert scores[0, ITEMS:].tolist() == [-math.inf] * 6


def test_a_narrow_beam_finds_items_at_their_own_score(space, model, asked):
    """Width 2: the best of the items behind the two best first tokens."""
    items, scores = beam_items(Reading(model, asked), space, 2, 3)
    for user, context in enumerate(CONTEXTS):
        exact = enumerate_items(space, model, context[-4:], set(context.tolist()))
        first = torch.stack([exact[torch.from_numpy(space.tokens[:, 0] == 3 + p)].exp().sum() for p in range(SIZE)])
        behind = np.isin(space.tokens[:, 0] - 3, first.topk(2).indices.numpy())
        best = torch.where(torch.from_numpy(behind), exact, -torch.inf).topk(3)
        real = best.values > -math.inf
        assert items[user][real].tolist() == best.indices[real].tolist()
        assert torch.allclose(scores[user][real], best.values[real], atol=1e-5)


# ------------------------------------------------------------------------------- any number of levels, any subset


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_any_number_of_levels(tmp_path, depth):
    """12 items of 1 to 5 codes: a wide beam is full enumeration, and a slate of all that is left is a permutation."""
    drawn = np.random.default_rng(depth).choice(max(12, 3**depth), 12, replace=False)
    size = 12 if depth == 1 else 4
    ids = np.stack([drawn // size**level % size for level in range(depth)], 1)
    write_table(tmp_path / "ids.parquet", id_table(ids))
    space = actions(tmp_path, 12)
    own = sharp_model(space, seed=depth)
    context = np.array([3, 7])
    asked = space.prompts_of([context], 4, "history", True)
    exact = enumerate_items(space, own, context, {3, 7}, label="history").sort(descending=True)
    items, scores = beam_items(Reading(own, asked), space, 12, 10)
    assert items[0].tolist() == exact.indices[:10].tolist()
    assert torch.allclose(scores[0], exact.values[:10], atol=1e-5)
    assert float(exact.values[:10].exp().sum()) == pytest.approx(1, abs=1e-5)
    slates = sample_slates(Reading(own, asked), space, [1.0] * 8, 10, keys(1)).items[0]
    assert slates.sort(1).values.tolist() == [sorted(set(range(12)) - {3, 7})] * 8


def test_only_some_items_may_be_recommended(space, model):
    """As with all others banned: the same items and log-probabilities, in search and sampling; seen ones stay out."""
    listed = [np.array([2, 3, 4, 8, 9, 11]), np.array([0, 1, 12, 13, 6])]
    contexts = [np.array([3, 1, 8]), np.empty(0, dtype=np.int64)]
    asked = space.prompts_of(contexts, 4, "slate", True, listed)
    left = [[2, 4, 9, 11], [0, 1, 6, 12, 13]]
    items, scores = beam_items(Reading(model, asked), space, ITEMS, 6)
    for user, context in enumerate(contexts):
        exact = enumerate_items(space, model, context, set(range(ITEMS)) - set(left[user])).sort(descending=True)
        count = len(left[user])
        assert items[user, :count].tolist() == exact.indices[:count].tolist()
        assert items[user, count:].tolist() == [-1] * (6 - count)
        assert torch.allclose(scores[user, :count], exact.values[:count], atol=1e-5)
    slates = sample_slates(Reading(model, asked), space, [1.0] * 6, 4, keys(2)).items
    assert slates[0].sort(1).values.tolist() == [left[0]] * 6
    assert set(slates[1].flatten().tolist()) == set(left[1])
    with pytest.raises(InputError, match="fewer than 5 items left"):
        sample_slates(Reading(model, asked), space, [1.0], 5, keys(2))


def test_prompts_keep_their_lists(space):
    asked = space.prompts_of(CONTEXTS, 4, "slate", True, [np.array([2, 1, 0])] * 4)
    assert asked.only.tolist() == [[0, 1, 2]] * 4
    assert asked.banned.tolist() == [[0], [1], [2], [-1]]
    assert asked.of(np.array([2])).only.tolist() == [[0, 1, 2]]
