"""Native text with a model: prompts, sampling, scoring, ranking, SFT's loss, by enumeration."""

from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from stages.action_spaces.base import Asking
from stages.core.errors import InputError
from stages.corpus.histories import Histories
from stages.policy import heldout
from stages.policy.beam import next_items
from stages.policy.lessons import NextItems
from stages.policy.logprobs import token_log_probs
from stages.policy.noise import keys_of
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from stages.policy.slate_label import Example, SlateLessons
from stages.policy.task import Task
from tests.small_policy import scratch, settings
from tests.small_text import POLICY, SIZE, TITLES, world
from tests.test_step import Plain

CONTEXTS = np.array([[0, 4], [1, 3], [2, 5]])
ASKING = Asking("slate", 3, True, 4)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return world(tmp_path_factory.mktemp("text"))


def name_tokens(space, item: int) -> list[int]:
    return space.tokenizer.encode(TITLES[item] + "\n", add_special_tokens=False)


def log_prob(text, prompt: list[int], slate: list[int], pool: list[int], temperature: float = 1.0) -> float:
    """Of a slate, token by token with plain passes; the softmax over what the names that are left go on with."""
    total, written, left = 0.0, [], list(pool)
    for item in slate:
        own = name_tokens(text.space, item)
        for depth, token in enumerate(own):
            with torch.no_grad():
                logits = text.model(input_ids=torch.tensor([prompt + written + own[:depth]])).logits[0, -1]
            names = [name_tokens(text.space, other) for other in left]
            open_ = sorted({name[depth] for name in names if name[:depth] == own[:depth]})
            total += float(torch.log_softmax(logits[open_] / temperature, -1)[open_.index(token)])
        written += own
        left.remove(item)
    return total


def unpadded(asked, row: int) -> list[int]:
    return asked.tokens[row][asked.mask[row] == 1].tolist()


def pool_of(asked, row: int) -> list[int]:
    return [item for item in asked.pool.items[row].tolist() if item >= 0]


def test_a_prompt_shows_the_last_items_and_the_pool(text):
    asked = text.space.prompts(CONTEXTS, ASKING)
    shown = text.space.tokenizer.decode(unpadded(asked, 0))
    pool = "\n".join(TITLES[item] for item in pool_of(asked, 0))
    assert "History, oldest first:\nToy Box (liked)\nFargo\nStar (liked)\nCandidates:\n" + pool + "\n" in shown
    assert "Heat\nToy Box" not in shown  # the fourth last is left out
    assert shown.startswith("User: age 30\n")
    assert "The 4 best" in shown
    assert text.space.offered(CONTEXTS)[0].tolist() == asked.pool.items[0].tolist()
    assert (text.space.offered(CONTEXTS)[1] == -1).sum() == 1


def test_a_prompt_keeps_to_its_tokens(text):
    """Lines of the history are dropped oldest first; where nothing is left to drop, that is said."""
    long, short = (len(unpadded(text.space.prompts(CONTEXTS[:1], replace(ASKING, history_items=n)), 0)) for n in (3, 1))
    assert long > short
    tight = type(text.space).__new__(type(text.space))
    tight.__dict__.update(text.space.__dict__)
    tight.policy = POLICY.model_copy(update={"max_tokens": short})
    shown = tight.tokenizer.decode(unpadded(tight.prompts(CONTEXTS[:1], ASKING), 0))
    assert "oldest first:\nStar (liked)\nCandidates" in shown
    tight.policy = POLICY.model_copy(update={"max_tokens": 40})
    with pytest.raises(InputError, match=r"the prompt of user 0 has \d+ tokens without any history, more than"):
        tight.prompts(CONTEXTS[:1], ASKING)


def test_items_that_are_wanted_are_put_in(text):
    missing = np.setdiff1d(np.arange(len(TITLES)), [*text.space.offered(CONTEXTS)[0], *text.histories.train(0)])[:1]
    wanted = np.array([[missing[0]], [-1], [-1]])
    asked = text.space.prompts(CONTEXTS, ASKING, wanted)
    assert missing[0] in asked.pool.items[0].tolist()
    plain = text.space.prompts(CONTEXTS, ASKING)
    assert torch.equal(asked.pool.items[1:], plain.pool.items[1:])
    assert TITLES[missing[0]] in text.space.tokenizer.decode(unpadded(asked, 0))
    again = text.space.prompts(CONTEXTS, ASKING, wanted)
    assert torch.equal(asked.pool.items, again.pool.items)


def test_sampled_slates_and_their_log_probabilities(text):
    asked = text.space.prompts(CONTEXTS, ASKING)
    found = sample_slates(Reading(text.model, asked), text.space, [0.7, 0.0, 0.7], 4, keys_of(CONTEXTS, 3))
    for row in range(3):
        for slate in range(3):
            items = found.items[row, slate].tolist()
            assert len(set(items)) == 4
            assert set(items) <= set(pool_of(asked, row))
            temperature = 1.0 if slate == 1 else 0.7
            exact = log_prob(text, unpadded(asked, row), items, pool_of(asked, row), temperature)
            assert float(found.log_probs[row, slate].sum()) == pytest.approx(exact, abs=1e-4)
            assert float(found.item_log_probs[row, slate].sum()) == pytest.approx(exact, abs=1e-4)
    scored, entropy = token_log_probs(text.model, asked, text.space, found, 0.7)
    for slate in (0, 2):
        assert torch.allclose(scored[:, slate], found.log_probs[:, slate], atol=1e-4)
    assert (scored[~found.real] == 0).all()
    assert (entropy[~found.real] == 0).all()


def test_a_users_slates_are_the_same_in_any_batch(text):
    """Alone or among others: the draws hang on the user, not on the place in the batch."""
    asked = text.space.prompts(CONTEXTS, ASKING)
    together = sample_slates(Reading(text.model, asked), text.space, [1.0] * 4, 4, keys_of(CONTEXTS, 3)).items
    for row in range(3):
        alone = text.space.prompts(CONTEXTS[row : row + 1], ASKING)
        own = sample_slates(Reading(text.model, alone), text.space, [1.0] * 4, 4, keys_of(CONTEXTS[row : row + 1], 3))
        assert torch.equal(own.items[0], together[row])


def test_prompts_read_in_passes(text, monkeypatch):
    asked = text.space.prompts(CONTEXTS, ASKING)
    whole = Reading(text.model, asked)
    slates, ranked = sample_slates(whole, text.space, [0.0], 4, None), next_items(whole, text.space, 1, SIZE)
    monkeypatch.setattr("stages.policy.sharing.PASS", 2 * asked.tokens.shape[1])  # two users, then one
    parts = Reading(text.model, asked)
    torch.testing.assert_close(sample_slates(parts, text.space, [0.0], 4, None), slates)
    torch.testing.assert_close(next_items(parts, text.space, 1, SIZE), ranked)
    assert all(side.is_contiguous() for pair in (*whole.prompt, *parts.prompt) for side in pair)


def test_the_pool_is_ranked_whole(text):
    asked, reading = text.space.prompts(CONTEXTS, ASKING), None
    reading = Reading(text.model, asked)
    sample_slates(reading, text.space, [0.0], 4, None)  # the same prompts, read once
    items, scores = next_items(reading, text.space, 50, 8)
    for row in range(3):
        pool = pool_of(asked, row)
        exact = {item: log_prob(text, unpadded(asked, row), [item], pool) for item in pool}
        best = sorted(pool, key=lambda item: -exact[item])
        assert items[row, : len(best)].tolist() == best
        assert scores[row, : len(best)].tolist() == pytest.approx([exact[item] for item in best], abs=1e-4)
        assert items[row, len(best) :].tolist() == [-1] * (8 - len(best))
        assert (scores[row, len(best) :] == -torch.inf).all()
        assert sum(np.exp(list(exact.values()))) == pytest.approx(1, abs=1e-4)


def test_items_outside_the_pool_have_no_mass(text):
    asked = text.space.prompts(CONTEXTS, ASKING)
    assert heldout.cold_mass(text.model, asked, text.space, np.arange(len(TITLES)), 1.0) == pytest.approx(1, abs=1e-4)
    outside = np.setdiff1d(np.arange(len(TITLES)), asked.pool.items.numpy())
    assert heldout.cold_mass(text.model, asked, text.space, outside, 1.0) == 0


def lessons(text, **changes) -> SlateLessons:
    space = copy(text.space)
    vars(space).update(changes)
    lengths, objectives = text.histories.train_length, dict.fromkeys(text.histories.feedback, 1.0)
    return SlateLessons(
        space, ASKING, text.histories, lengths, horizon=2, fill_weight=0.5, fill=None, objectives=objectives, seed=0
    )


def test_labels_are_filled_from_the_pool_in_its_order(text):
    """Logged items that the pool holds, then the pool's best others, at half the weight."""
    own = lessons(text)
    for example in own.epoch(0):
        pool = [item for item in text.space.offered(example.context[None])[0].tolist() if item >= 0]
        user, position = example.context.tolist()
        following = text.histories.train(user)[position : position + 2].tolist()
        logged = [item for item in example.items.tolist() if item in following]
        assert example.items.tolist()[: len(logged)] == logged
        rest = [item for item in pool if item not in logged]
        assert example.items.tolist()[len(logged) :] == rest[: 4 - len(logged)]
        assert example.weights.tolist() == [1] * len(logged) + [0.5] * (4 - len(logged))
    assert own.counts["left_out"] > 0
    assert own.counts["put_in"] == 0
    put = lessons(text, put_target=True)
    put.epoch(0)
    assert put.counts["put_in"] == own.counts["left_out"]


def test_the_constrained_loss(text):
    asked = text.space.prompts(CONTEXTS[:2], ASKING)
    slates = [pool_of(asked, row)[:count] for row, count in ((0, 4), (1, 2))]
    examples = [
        Example(context, np.array(slate), np.full(len(slate), weight, np.float32))
        for context, slate, weight in zip(CONTEXTS, slates, (1.0, 0.25), strict=False)
    ]
    total, weight = lessons(text).loss(text.model, examples)
    exact = [log_prob(text, unpadded(asked, row), slate, pool_of(asked, row)) for row, slate in enumerate(slates)]
    assert float(total.detach()) == pytest.approx(-(exact[0] + 0.25 * exact[1]), abs=1e-3)
    tokens = [sum(len(name_tokens(text.space, item)) for item in slate) for slate in slates]
    assert float(weight) == tokens[0] + 0.25 * tokens[1]


def test_the_full_loss_is_that_of_a_plain_language_model(text):
    asked = text.space.prompts(CONTEXTS[:1], ASKING)
    slate = pool_of(asked, 0)[:4]
    own = [token for item in slate for token in name_tokens(text.space, item)]
    prompt = unpadded(asked, 0)
    with torch.no_grad():
        logits = text.model(input_ids=torch.tensor([prompt + own])).logits[0, len(prompt) - 1 : -1]
        exact = -torch.log_softmax(logits, -1).gather(1, torch.tensor(own)[:, None]).sum()
        total, _ = lessons(text, unaided=True).loss(
            text.model, [Example(CONTEXTS[0], np.array(slate), np.ones(4, np.float32))]
        )
    assert float(total) == pytest.approx(float(exact), rel=1e-4)


def test_validation_counts_the_users_whose_pool_holds_the_item(text):
    """Of three users: the next item of the first is put into no pool, the others' are in theirs."""
    log = text.histories
    contexts = np.stack([np.arange(3), log.train_length], 1)
    asked = text.space.prompts(contexts, ASKING)
    valid = np.array([next(i for i in range(11) if i not in [*pool_of(asked, 0), *log.train(0)]), 0, 0])
    valid[1:] = [pool_of(asked, row)[2] for row in (1, 2)]
    changed = replace(log, valid=valid)
    exact = [-log_prob(text, unpadded(asked, row), [valid[row]], pool_of(asked, row)) for row in (1, 2)]
    found = NextItems(text.space, ASKING, changed).loss(text.model, Accelerator(cpu=True))
    assert found == pytest.approx(np.mean(exact), abs=1e-4)


def test_too_small_a_pool(text):
    asked = text.space.prompts(CONTEXTS, ASKING)
    with pytest.raises(InputError, match=rf"a pool holds {SIZE - 1} candidates, fewer than the {SIZE} of a slate"):
        sample_slates(Reading(text.model, asked), text.space, [1.0], SIZE, None)


def test_groups_of_other_users_stand_by_their_own_prompts(text):
    """Refilled groups have other pools, with more or fewer tokens: every slate is scored as it was sampled."""
    ones = Ones(text.histories)
    task = Task(text.space, ones, ASKING, 3, 0.7, Plain())
    spare = np.array([[0, 2], [0, 3], [1, 4], [1, 2], [2, 3], [2, 4]])
    for first in range(3):
        ones.silent = set(map(tuple, CONTEXTS[[first]].tolist()))
        found = task.rollout(text.model, CONTEXTS, np.roll(spare, first, 0), 2, 5)
        assert found.contexts[first].tolist() == np.roll(spare, first, 0)[0].tolist()
        scored, _ = token_log_probs(text.model, found.prompts, text.space, found.slates, 0.7)
        assert torch.allclose(scored, found.slates.log_probs, atol=1e-4)
        for row in range(3):
            held = text.space.offered(found.contexts[row : row + 1])[0].tolist()
            assert set(found.slates.items[row].flatten().tolist()) <= set(held)


def test_dropout_reaches_slates(text):
    """In training mode two passes differ, in evaluation they do not."""
    model = scratch(text.space.new_tokens, 0, settings(dropout=0.5))
    asked = text.space.prompts(CONTEXTS, ASKING)
    found = sample_slates(Reading(text.model, asked), text.space, [1.0], 4, keys_of(CONTEXTS, 3))
    for training in (True, False):
        first, again = (token_log_probs(model.train(training), asked, text.space, found, 1.0)[0] for _ in range(2))
        assert torch.equal(first, again) is not training


@dataclass
class Ones:
    """Rewards that differ between the slates of all but the silent contexts."""

    histories: Histories
    silent: set = field(default_factory=set)
    weights = {"one": 1.0}  # noqa: RUF012 - a constant
    horizon = 1

    def rewards(self, contexts, items):
        loud = np.array([tuple(context) not in self.silent for context in contexts.tolist()])
        return (np.arange(items.shape[1]) * loud[:, None])[..., None].astype(float)

    def weighted(self, rewards):
        return rewards[..., 0]

    def entropy(self, items):
        return np.zeros(items.shape[:2])
