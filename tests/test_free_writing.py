"""Slates of names that a model writes unaided, greedily and in RL, against plain loops over whole texts."""

from copy import copy, deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.action_spaces.base import Asking
from stages.core.errors import InputError
from stages.objectives import sage
from stages.policy import algorithm, backbone
from stages.policy.heldout import cold_mass, held_out_reward
from stages.policy.logprobs import token_log_probs
from stages.policy.noise import keys_of
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from stages.policy.task import Task, without_repeats
from stages.rewards.environment import LoggedFeedback
from stages.rewards.running_mean import RunningMean
from tests.small_text import TITLES, world
from tests.test_step import RECIPE, SAGE, Plain

CONTEXTS = np.array([[0, 4], [1, 3], [2, 5]])
ASKING = Asking("slate", 3, True, 4)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    found = world(tmp_path_factory.mktemp("free"))
    found.space = found.space.free()
    return found


@pytest.fixture
def asked(text):
    return text.space.prompts(CONTEXTS, ASKING)


def pool_of(asked, row: int) -> list[int]:
    return [item for item in asked.pool.items[row].tolist() if item >= 0]


def logits_behind(text, asked, row: int, written: list[int]) -> torch.Tensor:
    prompt = asked.tokens[row][asked.mask[row] == 1].tolist()
    with torch.no_grad():
        return text.model(input_ids=torch.tensor([prompt + written])).logits[0, -1]


def named(text, asked, row: int, written: list[int], length: int = 4) -> list[int]:
    """What a text's first lines name, by the whole text and the titles alone."""
    lines = text.space.tokenizer.decode(written, skip_special_tokens=True).split("\n")[:length]
    names = {TITLES[item]: item for item in pool_of(asked, row)}
    return [names.get(line.strip(), -1) for line in lines + [""] * (length - len(lines))]


def ended(text, written: list[int], most: int) -> bool:
    lines = text.space.tokenizer.decode(written).count("\n")
    return len(written) == most or lines >= 4 or written[-1:] == [text.space.end_of_turn]


def test_greedy_slates(text, asked):
    found = sample_slates(Reading(text.model, asked), text.space, [0.0], 4, None)
    most = 4 * asked.pool.spelled.shape[2]
    for row in range(3):
        written: list[int] = []
        while not ended(text, written, most):
            written.append(int(logits_behind(text, asked, row, written).argmax()))
        assert found.tokens[row, 0][found.real[row, 0]].tolist() == written
        assert found.items[row, 0].tolist() == named(text, asked, row, written)


def test_sampled_slates_are_scored_as_they_were_written(text, asked):
    """Over the whole vocabulary at the temperature of sampling; nothing behind a slate's end counts."""
    found = sample_slates(Reading(text.model, asked), text.space, [0.9] * 3, 4, keys_of(CONTEXTS, 1))
    scored, entropy = token_log_probs(text.model, asked, text.space, found, 0.9)
    assert torch.allclose(scored, found.log_probs, atol=1e-4)
    assert not scored[~found.real].any()
    assert not entropy[~found.real].any()
    assert torch.allclose(found.item_log_probs.sum(2), found.log_probs.sum(2), atol=1e-4)
    for row, slate in np.ndindex(3, 3):
        real = found.real[row, slate]
        written = found.tokens[row, slate][real].tolist()
        assert found.items[row, slate].tolist() == named(text, asked, row, written)
        total, place = 0.0, 0
        for at, token in enumerate(written):
            assert not ended(text, written[:at], 4 * asked.pool.spelled.shape[2])
            assert found.place[row, slate, at] == place
            total += float(torch.log_softmax(logits_behind(text, asked, row, written[:at]) / 0.9, -1)[token])
            place = min(3, text.space.tokenizer.decode(written[: at + 1]).count("\n"))
        assert float(found.log_probs[row, slate].sum()) == pytest.approx(total, abs=1e-3)


def test_the_turn_may_end_early(text, asked):
    """A model that ends its turn at once writes one token and names nothing."""
    stubborn = copy(text.space)
    stubborn.logits = lambda model, hidden, prompts, first=0: (
        torch.nn.functional.one_hot(torch.tensor(text.space.end_of_turn), text.model.config.vocab_size) * 100.0
    ).expand(*hidden.shape[:3], -1)
    found = sample_slates(Reading(text.model, asked), stubborn, [0.0], 4, None)
    assert found.tokens.shape == (3, 1, 1)
    assert (found.items == -1).all()


def test_lines_are_read_as_names(text, asked):
    """A candidate, the same again, an item of no pool, nothing, blanks around a name; what is behind the last line."""
    pool = pool_of(asked, 0)
    other = next(item for item in range(len(TITLES)) if item not in pool)
    lines = [TITLES[pool[0]], TITLES[pool[0]], TITLES[other], "", f"  {TITLES[pool[1]]} ", TITLES[pool[2]]]
    tokens = torch.tensor([[text.space.tokenizer.encode("\n".join(lines), add_special_tokens=False)]])
    found = text.space.parse(tokens, type(asked.pool)(*(part[:1] for part in asked.pool)), 5)
    assert found[0, 0].tolist() == [pool[0], pool[0], -1, -1, pool[1]]


def test_names_are_read_as_the_tokenizer_writes_them(text, asked, monkeypatch):
    """A tokenizer that composes letters, or like this one writes capitals alone, gives back another spelling."""
    pool = pool_of(asked, 0)
    space, decode = copy(text.space), text.space.tokenizer.batch_decode
    monkeypatch.setattr(
        space.tokenizer, "batch_decode", lambda *rows, **keys: [line.upper() for line in decode(*rows, **keys)]
    )
    space.__dict__.pop("read_back", None)
    tokens = torch.tensor(
        [[space.tokenizer.encode(f"{TITLES[pool[1]]}\n{TITLES[pool[0]]}\n", add_special_tokens=False)]]
    )
    found = space.parse(tokens, type(asked.pool)(*(part[:1] for part in asked.pool)), 2)
    assert found[0, 0].tolist() == [pool[1], pool[0]]


def test_a_look_counts_no_repeat_twice(text):
    """A model that names the next item on every line: its greedy slate has an NDCG of 1, and shows one item."""
    machine, log = Plain("fp32"), text.histories
    environment = LoggedFeedback(log, {"like": 1.0}, 1, np.eye(4)[np.arange(len(TITLES)) % 4])
    context = next(c for c in CONTEXTS if log.item[log.offsets[c[0]] + c[1]] in text.space.offered(c[None])[0])
    item = int(log.item[log.offsets[context[0]] + context[1]])
    line = text.space.tokenizer.encode(TITLES[item] + "\n", add_special_tokens=False)
    stubborn = copy(text.space)

    def logits(model, hidden, prompts, first=0):
        token = torch.tensor(line[first % len(line)])
        one = torch.nn.functional.one_hot(token, text.model.config.vocab_size) * 100.0
        return one.expand(*hidden.shape[:3], -1)

    stubborn.logits = logits
    task = Task(stubborn, environment, ASKING, 2, 1.0, machine)
    found = held_out_reward(text.model, task, context[None], 1)
    assert found.items.tolist() == [[item, -1, -1, -1]]
    assert found.ndcg.tolist() == [1.0]


def test_repeats_are_null():
    assert without_repeats(np.array([[[3, 3, -1, 5, 3, -1]]])).tolist() == [[[3, -1, -1, 5, -1, -1]]]


def test_mass_of_cold_items(text, asked):
    """The probability that the first line is a cold item's name, over the whole vocabulary."""
    cold, exact = np.arange(0, len(TITLES), 2), 0.0
    for row in range(3):
        for item in set(pool_of(asked, row)) & set(cold.tolist()):
            spelled = text.space.tokenizer.encode(TITLES[item] + "\n", add_special_tokens=False)
            steps = [
                torch.log_softmax(logits_behind(text, asked, row, spelled[:at]) / 0.7, -1)[token]
                for at, token in enumerate(spelled)
            ]
            exact += float(torch.stack(steps).sum().exp())
    assert cold_mass(text.model, asked, text.space, cold, 0.7) == pytest.approx(exact / 3, rel=1e-3)


def test_a_step_and_what_it_learns_from(text):
    """RL on free slates: r is 1 at first, refilled groups are scored right, and lines that name nothing are counted."""
    machine, shares = Plain("fp32"), np.eye(4)[np.arange(len(TITLES)) % 4]
    log = LoggedFeedback(text.histories, {"like": 1.0}, 1, shares)
    task = Task(text.space, log, ASKING, 6, 1.0, machine)
    spare = np.array([[0, 2], [0, 3], [1, 4], [1, 2], [2, 3], [2, 4]])
    found = task.rollout(text.model, CONTEXTS, spare, 2, 5)
    scored, _ = token_log_probs(text.model, found.prompts, text.space, found.slates, 1.0)
    assert torch.allclose(scored, found.slates.log_probs, atol=1e-4)
    items = without_repeats(found.slates.items.numpy())
    assert np.array_equal(found.items, items)
    assert task.described(found)["invalid_share"] == pytest.approx((items < 0).mean())
    assert np.array_equal(found.rewards, log.rewards(found.contexts, items))
    model = deepcopy(text.model)
    own = algorithm.Learner(
        model, backbone.reference_of(model), torch.optim.SGD(model.parameters(), 0.01), sage, SAGE, task,
        replace(RECIPE, updates=2), RunningMean(0.1), machine,
    )  # fmt: skip
    step = own.step(CONTEXTS, spare, True, 3)
    assert step["sampler_mismatch"] < 1e-3
    assert 0 < step["invalid_share"] <= 1
    assert np.isfinite(step["gradient_norm"])


def test_ids_cannot_be_written_freely(space):
    with pytest.raises(InputError, match=r"rl.free is for native text.*backbones\.<name>\.spaces\.text\.rl\.free"):
        space.free()
