"""The policy on a tiny random Qwen3 and a catalogue of 14 items: sampling, scoring, search, training, resuming."""

import copy
import importlib
import math
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from stages.action_spaces.base import Prompts, pad, prompts
from stages.action_spaces.semantic_id import Actions
from stages.core import params
from stages.core.checkpoints import Checkpoint, model_state
from stages.core.curves import Curve
from stages.core.errors import InputError
from stages.core.files import write_table
from stages.core.sections import Backbone
from stages.corpus.histories import Histories
from stages.objectives import gbpo, sage
from stages.objectives.terms import ScoredSlates, slate_ratio, token_ratio
from stages.policy import algorithm, backbone, device, heldout, sharing, supervised, training
from stages.policy.beam import beam_items
from stages.policy.constrained import entropy, log_softmax
from stages.policy.logprobs import slate_log_probs
from stages.policy.rollout import sample_slates
from stages.policy.run_state import RunState
from stages.policy.supervised import Example, SlateLabels, collate, history_examples, loss_sum, slate_examples
from stages.policy.task import Task
from stages.rewards.environment import LoggedFeedback
from stages.rewards.running_mean import RunningMean
from stages.semantic_ids.table import id_table

ITEMS, DEPTH, SIZE = 14, 2, 5
SAGE = sage.Params(
    form="surrogate",
    eps_boost=0.3,
    beta=0.5,
    eps_clip=0.2,
    dual_clip=None,
    ratio_norm="item",
    decouple=True,
    lr=None,
    kl=None,
)
TEMPERATURE = 0.7
CONTEXTS = [np.array([0]), np.array([3, 1, 4, 1, 5]), np.array([9, 2, 6]), np.empty(0, dtype=np.int64)]


def settings(dropout: float = 0.0) -> Backbone:
    return Backbone(
        hidden_size=16, layers=2, heads=2, feed_forward=32, dropout=dropout, precision="fp32", sft_lr=1e-2, rl_lr=1e-3
    )


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Actions:
    """14 of the 25 ids of two levels with five codes: prefixes with 5, 4, 3, 1 and 1 items, in mixed order."""
    folder = tmp_path_factory.mktemp("actions")
    ids = [(p, c) for p, count in enumerate((5, 4, 3, 1, 1)) for c in range(count)]
    order = np.random.default_rng(0).permutation(ITEMS)
    write_table(folder / "ids.parquet", id_table(np.array(ids)[order]))
    return Actions(folder, ITEMS)


def sharp_model(space: Actions, seed: int = 0, dropout: float = 0.0):
    """Weights 5 times the initial ones, so that probabilities differ by more than a little."""
    model = backbone.create(settings(dropout), space.vocabulary, seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(5)
    return model.eval()


@pytest.fixture(scope="module")
def model(space):
    return sharp_model(space)


@pytest.fixture(scope="module")
def asked(space) -> Prompts:
    """Contexts of 1, 5, 3 and 0 items, seen items banned: padding, and lists of different lengths."""
    return prompts(space, CONTEXTS, 4, "slate", True)


def part(asked: Prompts, start: int, stop: int) -> Prompts:
    return Prompts(*(tensor[start:stop] for tensor in asked))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --------------------------------------------------------------------------------------------------- prompts


def test_prompts(space, asked):
    """START, the last 4 items, the slate token; the whole context is banned, once each."""
    rows = [row[mask == 1].tolist() for row, mask in zip(asked.tokens, asked.mask, strict=True)]
    spelled = [space.tokens[context[-4:]].ravel().tolist() for context in CONTEXTS]
    assert rows == [[1, *row, 2] for row in spelled]
    assert asked.mask[:, 0].tolist() == [1] * 4  # padded on the right
    assert asked.mask.sum(1).tolist() == [4, 10, 8, 2]
    banned = [sorted(item for item in row.tolist() if item >= 0) for row in asked.banned]
    assert banned == [[0], [1, 3, 4, 5], [2, 6, 9], []]
    plain = prompts(space, CONTEXTS, 4, "history", False)
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
    found = sample_slates(model, asked, space, [1.0] * 20, 10, seeded())
    assert found.items.shape == (4, 20, 10)
    for user, slates in enumerate(found.items.tolist()):
        banned = set(asked.banned[user].tolist())
        for slate in slates:
            assert len(set(slate)) == 10
            assert set(slate) <= set(range(ITEMS)) - banned
    assert torch.equal(space.trie.codes[found.items], found.codes)
    assert torch.equal(found.item_log_probs, found.log_probs[..., 0] + found.log_probs[..., 1])
    assert len({tuple(slate) for slate in found.items[0].tolist()}) > 1


def test_too_few_items_left(space, model, asked):
    with pytest.raises(InputError, match=r"fewer than 11 items left .*shorten rl\.slate_length"):
        sample_slates(model, asked, space, [1.0] * 1, 11, seeded())


def test_the_generator_decides(space, model, asked):
    first, again, other = (sample_slates(model, asked, space, [1.0] * 4, 5, seeded(s)).items for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def enumerate_items(space, model, context: np.ndarray, banned: set[int], temperature: float = 1.0, label="slate"):
    """Log-probability of each item as the first, by one plain forward pass per item; -inf for banned ones."""
    left = [item for item in range(ITEMS) if item not in banned]
    result = torch.full((ITEMS,), -torch.inf)
    for item in left:
        start = [*space.history(context).tolist(), *([2] if label == "slate" else [])]
        own = space.tokens[item].tolist()
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([start + own[:-1]])).logits[0, len(start) - 1 :]
        total = 0.0
        for level, token in enumerate(own):
            open_ = sorted(
                {int(space.tokens[i][level]) for i in left if space.tokens[i][:level].tolist() == own[:level]}
            )
            total += float(torch.log_softmax(logits[level, open_] / temperature, -1)[open_.index(token)])
        result[item] = total
    return result


def test_first_item_frequencies_match_its_probabilities(space, model):
    """3,000 draws; chi-square over the items with 5 or more expected: below its mean + 4 standard deviations."""
    context = [np.array([3, 1])]
    asked = prompts(space, context, 4, "slate", True)
    found = sample_slates(model, asked, space, [TEMPERATURE] * 3000, 1, seeded(3)).items.flatten()
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
    found = sample_slates(model, asked, space, [0.0] * 2, 5, None)
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
    both = sample_slates(model, asked, space, [1.0, 0.0, 0.5], 5, seeded(1))
    greedy = sample_slates(model, asked, space, [0.0], 5, None)
    assert torch.equal(both.items[:, 1], greedy.items[:, 0])
    assert torch.allclose(both.log_probs[:, 1], greedy.log_probs[:, 0], atol=1e-6)
    for slate, temperature in ((0, 1.0), (2, 0.5)):
        own = slice(slate, slate + 1)
        scored, _ = slate_log_probs(model, asked, space.columns, both.codes[:, own], both.allowed[:, own], temperature)
        assert torch.allclose(scored, both.log_probs[:, own], atol=1e-5)


# --------------------------------------------------------------------------------------------------- scoring


def test_the_sampler_scores_as_the_scorer_does(space, model, asked):
    found = sample_slates(model, asked, space, [TEMPERATURE] * 3, 6, seeded())
    scored, choice = slate_log_probs(model, asked, space.columns, found.codes, found.allowed, TEMPERATURE)
    assert torch.allclose(scored, found.log_probs, atol=1e-5)
    assert scored.min() < -0.5
    assert (choice >= 0).all()
    assert (choice <= math.log(SIZE) + 1e-6).all()
    assert not choice.requires_grad
    single = found.allowed.sum(-1) == 1  # no choice: log-probability and entropy are 0
    assert single.any()
    assert scored[single].abs().max() == 0
    assert choice[single].abs().max() == 0


def test_scores_and_gradients_are_those_of_a_plain_forward_pass(space, model, asked):
    """Prompt and slate in one sequence without padding or cache, each slate alone."""
    model = copy.deepcopy(model).double().float()
    found = sample_slates(model, asked, space, [TEMPERATURE] * 2, 4, seeded())
    weight = torch.randn(found.codes.shape, generator=seeded(1))
    scored, _ = slate_log_probs(model, asked, space.columns, found.codes, found.allowed, TEMPERATURE)
    (scored * weight).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    total = 0.0
    for user, slate in product(range(4), range(2)):
        start = asked.tokens[user][asked.mask[user] == 1]
        own = torch.from_numpy(space.tokens)[found.items[user, slate]].flatten()
        logits = model(input_ids=torch.cat([start, own])[None]).logits[0, len(start) - 1 : -1]
        allowed = torch.zeros_like(logits, dtype=torch.bool)
        allowed.scatter_(1, space.columns.repeat(4, 1), found.allowed[user, slate].flatten(0, 1))
        masked = (logits / TEMPERATURE).masked_fill(~allowed, -torch.inf)
        plain = torch.log_softmax(masked, -1).gather(1, own[:, None]).view(4, DEPTH)
        assert torch.allclose(plain, scored[user, slate], atol=1e-5)
        total = total + (plain * weight[user, slate]).sum()
    total.backward()
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        scale = max(1.0, float(parameter.grad.abs().max()))
        assert torch.allclose(gradient, parameter.grad, atol=1e-5 * scale)
        assert gradient.isfinite().all()
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-2


def test_keys_that_heads_share(space, asked):
    """Four heads, two pairs of keys: the shared prompt gives what a plain forward pass gives."""
    config = backbone.create(settings(), space.vocabulary, 3).config
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 8
    grouped = backbone.Qwen3ForCausalLM(config).eval()
    found = sample_slates(grouped, asked, space, [TEMPERATURE] * 2, 3, seeded())
    scored, _ = slate_log_probs(grouped, asked, space.columns, found.codes, found.allowed, TEMPERATURE)
    assert torch.allclose(scored, found.log_probs, atol=1e-5)
    for user, context in enumerate(CONTEXTS):
        exact = enumerate_items(space, grouped, context[-4:], set(context.tolist()), TEMPERATURE)
        first = found.items[user, :, 0]
        assert torch.allclose(scored[user, :, 0].sum(-1), exact[first], atol=1e-5)


@pytest.mark.parametrize("option", ["sliding_window", "softcap", "s_aux"])
def test_other_attention_is_refused(option):
    query = torch.randn(1, 2, 3, 4)
    with pytest.raises(InputError, match=f"attention with {option} is not supported"):
        sharing.attend(torch.nn.Linear(1, 1), query, query, query, None, 1.0, **{option: 4})


def test_the_order_of_the_batch_does_not_matter(space, model, asked):
    """The longest prompt alone, without padding of others, scores as in the batch."""
    found = sample_slates(model, asked, space, [TEMPERATURE] * 2, 4, seeded())
    whole, _ = slate_log_probs(model, asked, space.columns, found.codes, found.allowed, TEMPERATURE)
    for user in range(4):
        own = slice(user, user + 1)
        alone, _ = slate_log_probs(
            model, asked.of(np.array([user])), space.columns, found.codes[own], found.allowed[own], TEMPERATURE
        )
        assert torch.allclose(alone, whole[own], atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_ratio_is_exactly_one_at_the_first_update(space, model, asked, precision):
    found = sample_slates(model, asked, space, [TEMPERATURE] * 3, 5, seeded())
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        log_probs, _ = slate_log_probs(model, asked, space.columns, found.codes, found.allowed, TEMPERATURE)
        second, _ = slate_log_probs(model, asked, space.columns, found.codes, found.allowed, TEMPERATURE)
    assert log_probs.dtype == torch.float32
    log_probs, second = log_probs.flatten(2), second.flatten(2)
    mask, item = torch.ones_like(log_probs, dtype=torch.bool), torch.arange(5 * DEPTH) // DEPTH
    for other in (log_probs, second):  # the same kernels in the same order give the same bits
        scored = ScoredSlates(other, log_probs.detach(), mask, item, 5, torch.zeros(4, 3), torch.tensor(0.0))
        assert (token_ratio(scored) == 1.0).all()
        assert (slate_ratio(scored) == 1.0).all()
        assert (slate_ratio(scored, "token") == 1.0).all()


def test_every_item_probability_sums_to_one(space, model, asked):
    """All items but the banned ones, whose share is 0; a set and the rest share the mass."""
    items = np.arange(ITEMS)
    assert heldout.cold_mass(model, asked, space, items, 1.0) == pytest.approx(1, abs=1e-5)
    some = np.array([0, 3, 9])
    rest = np.setdiff1d(items, some)
    shares = [heldout.cold_mass(model, asked, space, chosen, TEMPERATURE) for chosen in (some, rest)]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    exact = [
        enumerate_items(space, model, context[-4:], set(context.tolist()), TEMPERATURE)[some].exp().sum()
        for context in CONTEXTS
    ]
    assert shares[0] == pytest.approx(float(sum(exact)) / 4, abs=1e-5)
    assert heldout.cold_mass(model, part(asked, 2, 3), space, np.array([2, 6, 9]), 1.0) == 0


def test_cold_mass_in_chunks(space, model, asked, monkeypatch):
    whole = heldout.cold_mass(model, asked, space, np.arange(9), 1.0)
    monkeypatch.setattr(heldout, "COLD_ITEMS", 4)
    assert heldout.cold_mass(model, asked, space, np.arange(9), 1.0) == pytest.approx(whole, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ beam


@pytest.mark.parametrize("width", [ITEMS, 50])
def test_a_wide_beam_is_full_enumeration(space, model, asked, width):
    """As many beams as items: all that may be named, best first; -1 with -inf behind them, never a banned item."""
    items, scores = beam_items(model, asked, space, width, ITEMS)
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
    items, scores = beam_items(model, part(asked, 3, 4), space, 20, 20)
    assert sorted(items[0, :ITEMS].tolist()) == list(range(ITEMS))
    assert items[0, ITEMS:].tolist() == [-1] * 6
    assert scores[0, ITEMS:].tolist() == [-math.inf] * 6


def test_a_narrow_beam_finds_items_at_their_own_score(space, model, asked):
    """Width 2: the best of the items behind the two best first tokens."""
    items, scores = beam_items(model, asked, space, 2, 3)
    for user, context in enumerate(CONTEXTS):
        exact = enumerate_items(space, model, context[-4:], set(context.tolist()))
        first = torch.stack([exact[torch.from_numpy(space.tokens[:, 0] == 3 + p)].exp().sum() for p in range(SIZE)])
        behind = np.isin(space.tokens[:, 0] - 3, first.topk(2).indices.numpy())
        best = torch.where(torch.from_numpy(behind), exact, -torch.inf).topk(3)
        real = best.values > -math.inf
        assert items[user][real].tolist() == best.indices[real].tolist()
        assert torch.allclose(scores[user][real], best.values[real], atol=1e-5)


# ------------------------------------------------------------------------------------------------ supervised


def one(context: list[int], targets: list[int], *weights: float) -> Example:
    return Example(np.array(context, dtype=np.int64), np.array(targets), np.array(weights, dtype=np.float32))


def test_collate(space):
    """Padded on the right. Targets carry their weight on both tokens; START, context, slate token and padding none."""
    examples = [one([3, 1], [4, 5], 1.0, 0.25), one([], [2], 1.0)]
    batch = collate(examples, space, "slate")
    spelled = space.tokens.tolist()
    assert batch.tokens.tolist() == [
        [1, *spelled[3], *spelled[1], 2, *spelled[4], *spelled[5]],
        [1, 2, *spelled[2], 0, 0, 0, 0, 0, 0],
    ]
    assert batch.weights.tolist() == [[0, 0, 0, 0, 0, 1, 1, 0.25, 0.25], [0, 1, 1, 0, 0, 0, 0, 0, 0]]
    assert batch.level.tolist() == [[-1, -1, -1, -1, -1, 0, 1, 0, 1], [-1, 0, 1, -1, -1, -1, -1, -1, -1]]
    assert batch.code[0, 5:].tolist() == space.trie.codes[[4, 5]].flatten().tolist()
    plain = collate(examples, space, "history")
    assert plain.tokens[0].tolist() == [1, *spelled[3], *spelled[1], *spelled[4], *spelled[5]]
    assert plain.weights.tolist() == [[0, 0, 0, 0, 1, 1, 0.25, 0.25], [1, 1, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("label", ["slate", "history"])
def test_loss_is_the_constrained_negative_log_probability(space, model, label):
    """One item behind a context: its probability by enumeration; in a batch with a longer one, the sum."""
    first, second = one([3, 1], [4], 1.0), one([5, 2, 6, 7], [8], 0.5)
    exact = [
        -float(enumerate_items(space, model, np.array(context), set(), label=label)[item])
        for context, item in (([3, 1], 4), ([5, 2, 6, 7], 8))
    ]
    with torch.no_grad():
        alone = float(loss_sum(model, collate([first], space, label), space))
        together = float(loss_sum(model, collate([first, second], space, label), space))
    assert alone == pytest.approx(exact[0], abs=1e-5)
    assert together == pytest.approx(exact[0] + 0.5 * exact[1], abs=1e-5)


def test_two_targets_are_predicted_one_by_one(space, model):
    """-log p(4 | 3) - .5 log p(5 | 3 4): the label `history` reads on."""
    exact = [
        -float(enumerate_items(space, model, np.array(context), set(), label="history")[item])
        for context, item in (([3], 4), ([3, 4], 5))
    ]
    with torch.no_grad():
        found = float(loss_sum(model, collate([one([3], [4, 5], 1.0, 0.5)], space, "history"), space))
    assert found == pytest.approx(exact[0] + 0.5 * exact[1], abs=1e-5)


def test_evaluate_is_a_mean_over_examples(space, model):
    examples = training.next_item_examples([np.array([3, 1]), np.array([5, 2, 6, 7])], np.array([4, 8]), 2)
    assert [example.context.tolist() for example in examples] == [[3, 1], [6, 7]]
    exact = [
        -float(enumerate_items(space, model, np.array(context), set(), label="history")[item])
        for context, item in (([3, 1], 4), ([6, 7], 8))
    ]
    assert training.evaluate(model, space, examples, "history") == pytest.approx(sum(exact) / 2, abs=1e-5)


@pytest.mark.parametrize("window", [1, 3, 50])
def test_history_windows_hold_every_item_once_and_in_order(window):
    sequences = [np.arange(10, 17), np.arange(20, 21), np.arange(30, 42)]
    offsets = set()
    for seed in range(8):
        examples = list(history_examples(sequences, None, window, 0.0, np.random.default_rng(seed)))
        assert np.concatenate([example.targets for example in examples]).tolist() == np.concatenate(sequences).tolist()
        assert all(1 <= len(example.targets) <= window and not len(example.context) for example in examples)
        assert all(
            (example.weights == 1).all() and len(example.weights) == len(example.targets) for example in examples
        )
        assert all(len({target // 10 for target in example.targets} & {1, 2}) < 2 for example in examples)
        offsets.add(len(examples[0].targets))
    assert len(offsets) == min(window, 3) or window == 50


def test_item_dropout_leaves_a_part_of_the_history_in_order():
    """2,000 items, a quarter left out: 1,500 +- 4 standard deviations of 19.4."""
    examples = list(history_examples([np.arange(2000)], None, 50, 0.25, np.random.default_rng(0)))
    kept = np.concatenate([example.targets for example in examples])
    assert (np.diff(kept) > 0).all()
    assert abs(len(kept) - 1500) < 78


def test_tied_items_change_places():
    """Ties of 1, 3 and 2 items: every order within them comes up, 1 * 6 * 2 = 12 of them, and no other."""
    sequence, tie = np.array([7, 3, 9, 4, 1, 8]), np.array([0, 1, 1, 1, 2, 2])
    found = set()
    for seed in range(200):
        examples = history_examples([sequence], [tie], 50, 0.0, np.random.default_rng(seed))
        found.add(tuple(np.concatenate([example.targets for example in examples]).tolist()))
    assert len(found) == 12
    assert {(order[0], *sorted(order[1:4]), *sorted(order[4:])) for order in found} == {(7, 3, 4, 9, 1, 8)}


def logged(item: list[int], like: list[int], train: list[int], length: list[int]) -> Histories:
    return Histories(
        item=np.array(item),
        tie=np.arange(len(item)),
        offsets=np.concatenate([[0], np.cumsum(length)]),
        train_length=np.array(train),
        valid=np.full(len(train), -1),
        test=np.full(len(train), -1),
        feedback={"click": np.ones(len(item), dtype=np.int8), "like": np.array(like, dtype=np.int8)},
        items=SimpleNamespace(num_rows=ITEMS),
        users=None,
    )


def plan(**changes) -> SlateLabels:
    fill = changes.pop("fill", lambda contexts, logged_: [np.array([13, -1, 12, 11, 10])] * len(contexts))
    values = {"length": 4, "horizon": 3, "history_items": 2, "fill_weight": 0.0}
    return SlateLabels(**{**values, **changes}, fill=fill)


def test_slate_labels_by_hand():
    """One user of 4 items, horizon 3: the only context is item 0. Log 1 2 3 with likes on 2 and 3: 2, 3, then 1."""
    histories = logged([0, 1, 2, 3, 9], [0, 0, 1, 1, 1], [5], [5])
    (found,) = slate_examples(histories, np.array([4]), plan(), np.random.default_rng(0))
    assert (found.context.tolist(), found.targets.tolist(), found.weights.tolist()) == ([0], [2, 3, 1], [1, 1, 1])
    (found,) = slate_examples(histories, np.array([4]), plan(fill_weight=0.25), np.random.default_rng(0))
    assert found.targets.tolist() == [2, 3, 1, 13]
    assert found.weights.tolist() == [1, 1, 1, 0.25]
    cut = list(slate_examples(histories, np.array([4]), plan(length=2), np.random.default_rng(0)))
    assert [found.targets.tolist() for found in cut] == [[2, 3], [2, 3]]  # one context per 2 of the 4 items


def test_more_kinds_of_feedback_come_first_and_twins_count_once():
    """Log 1 2 3 with clicks on all, a like on 2 and 3, a share on 3: 1, 2, 3 kinds. Log 1 2 2, a like on the second 2:
    1, 1, 2 kinds, and 2 stands where its better twin does."""
    histories = logged([0, 1, 2, 3], [0, 0, 1, 1], [4], [4])
    histories.feedback["share"] = np.array([0, 0, 0, 1], dtype=np.int8)
    (found,) = slate_examples(histories, np.array([4]), plan(), np.random.default_rng(0))
    assert found.targets.tolist() == [3, 2, 1]
    twins = logged([0, 1, 2, 2], [0, 0, 0, 1], [4], [4])
    (found,) = slate_examples(twins, np.array([4]), plan(fill_weight=0.5), np.random.default_rng(0))
    assert found.targets.tolist() == [2, 1, 13, 12]
    assert found.weights.tolist() == [1, 1, 0.5, 0.5]


def test_histories_too_short_for_a_slate_label():
    """3 items of the log make a label and one has to stand before them; the horizon is sft.label_horizon."""
    histories = logged([0, 1, 2, 3], [0] * 4, [4], [4])
    with pytest.raises(InputError, match=r"no user has more than 3 items \(sft\.label_horizon\)"):
        list(slate_examples(histories, np.array([3]), plan(), np.random.default_rng(0)))


def test_slate_labels_stay_within_the_lengths():
    """Items tell their place: targets are the next 3 of the context, within the first `lengths` items of the user."""
    lengths = np.array([9, 3, 12, 4])
    histories = logged(list(range(60)), [item % 3 == 0 for item in range(60)], [15] * 4, [15] * 4)
    users, cuts = [], set()
    for seed in range(20):
        for example in slate_examples(histories, lengths, plan(history_items=50), np.random.default_rng(seed)):
            user = int(example.targets[0]) // 15
            start, cut = user * 15, len(example.context)
            assert example.context.tolist() == list(range(start, start + cut))
            assert sorted(example.targets.tolist()) == list(range(start + cut, start + cut + 3))
            assert 1 <= cut <= lengths[user] - 3
            liked = [item % 3 == 0 for item in example.targets.tolist()]
            assert liked == sorted(liked, reverse=True)
            users.append(user)
            cuts.add((user, cut))
    assert np.bincount(users, minlength=4).tolist() == [40, 0, 60, 20]  # lengths 9, 12, 4 over 4 items a slate
    assert {(0, 1), (0, 6), (2, 1), (2, 9), (3, 1)} <= cuts  # both ends occur


# ----------------------------------------------------------------------------------- folders and checkpoints


def test_a_policy_folder_round_trip(space, model, asked, tmp_path):
    card = backbone.Card("slate", space.fingerprint, "sft@test 0")
    backbone.save(model, card, tmp_path / "policy")
    loaded, found = backbone.load(tmp_path / "policy", space.fingerprint)
    assert found == card
    assert not loaded.training
    before, after = model_state("x", model), model_state("x", loaded)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    greedy = [sample_slates(each, asked, space, [0.0] * 1, 5, None).items for each in (model, loaded)]
    assert torch.equal(*greedy)


def test_another_action_space_is_refused(space, model, tmp_path):
    backbone.save(model, backbone.Card("slate", "0123456789abcdef", "sft@test 0"), tmp_path / "policy")
    with pytest.raises(InputError, match=rf"0123456789abcdef, but the ids at hand are {space.fingerprint}; rerun sft"):
        backbone.load(tmp_path / "policy", space.fingerprint)


@pytest.mark.parametrize("file", ["policy.json", "config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_policy_folder_is_refused(space, model, tmp_path, monkeypatch, file, damage):
    """Never by building the library's default model in its place, whose weights take 30 GB."""
    build = backbone.Qwen3ForCausalLM.__init__

    def only_small(self, config, *rest, **named):
        assert config.hidden_size == 16, "a model of the default size was about to be built"
        build(self, config, *rest, **named)

    monkeypatch.setattr(backbone.Qwen3ForCausalLM, "__init__", only_small)
    backbone.save(model, backbone.Card("slate", space.fingerprint, "sft@test 0"), tmp_path / "policy")
    path = tmp_path / "policy" / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="not a policy that can be loaded"):
        backbone.load(tmp_path / "policy", space.fingerprint)


def test_the_seed_draws_the_weights(space):
    first, again, other = (model_state("x", backbone.create(settings(), space.vocabulary, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> Checkpoint:
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return Checkpoint("sft-test", "f00d")


def test_checkpoint_round_trip(checkpoint):
    assert checkpoint.load() is None
    tensors = {"a": torch.randn(3, 2), "step": torch.tensor(7.0)}
    values = {"epoch": 3, "best_loss": 0.1 + 0.2, "curve": [{"epoch": 1}], "none": None}
    checkpoint.save({"a": torch.zeros(3, 2)}, {})
    checkpoint.save(tensors, values)
    found, also = checkpoint.load()
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert also == values
    assert [path.name for path in checkpoint.folder.iterdir()] == ["state.safetensors"]
    assert Checkpoint("sft-test", "beef").load() is None
    checkpoint.drop()
    assert checkpoint.load() is None
    checkpoint.drop()  # dropping nothing is no fault


@pytest.mark.parametrize("damage", [b"", b"no safetensors", None])
def test_a_damaged_checkpoint_counts_as_none(checkpoint, damage):
    checkpoint.save({"a": torch.randn(30)}, {"epoch": 1})
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(whole[:-20] if damage is None else damage)
    assert checkpoint.load() is None


# -------------------------------------------------------------------------------------------------- training


class InterruptionError(Exception):
    """Stands for a machine that is taken away."""


def tiny_recipe(epochs: int = 4, patience: int = 9) -> training.Recipe:
    return training.Recipe(
        label="history",
        epochs=epochs,
        batch_items=16,
        lr=1e-2,
        warmup=0.3,
        weight_decay=0.01,
        max_grad_norm=1.0,
        patience=patience,
        seed=7,
    )


def fit(space, checkpoint: Checkpoint, folder, stop_at: tuple[int, int] | None = None, epochs: int = 4, patience=9):
    """A tiny run with dropout, warm-up and changing examples; `stop_at` (epoch, step) raises in the middle of one."""
    model = backbone.create(settings(dropout=0.2), space.vocabulary, 5)
    sequences = [np.random.default_rng(user).permutation(ITEMS)[:8] for user in range(9)]

    def examples(epoch: int) -> list[Example]:
        return list(history_examples(sequences, None, 20, 0.0, np.random.default_rng(epoch)))

    def progress(batches, what: str):
        epoch = int(what.removeprefix("epoch ").split("/")[0])
        for step, batch in enumerate(batches):
            if (epoch, step) == stop_at:
                raise InterruptionError
            yield batch

    validation = training.next_item_examples(sequences[:3], np.array([1, 2, 3]), 5)
    curve, recipe = Curve(folder / "curve.csv"), tiny_recipe(epochs, patience)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "progress", progress)
        best = training.fit(model, space, examples, validation, recipe, Accelerator(cpu=True), checkpoint, curve)
    return model_state("x", model), best, (folder / "curve.csv").read_bytes()


def test_a_resumed_run_ends_with_the_same_weights(space, tmp_path, monkeypatch):
    """Stopped in epoch 3 at step 1, taken up again: weights, best epoch and curve are those of an undisturbed run."""
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    weights, best, curve = fit(space, Checkpoint("whole", "0"), tmp_path / "whole")
    broken = Checkpoint("broken", "0")
    with pytest.raises(InterruptionError):
        fit(space, broken, tmp_path / "broken", stop_at=(3, 1))
    _, values = broken.load()
    assert values["epoch"] == 1  # two epochs done, counted from 0
    again, best_again, curve_again = fit(space, broken, tmp_path / "broken")
    assert (best_again, curve_again) == (best, curve)
    assert all(again[name].detach().numpy().tobytes() == weights[name].detach().numpy().tobytes() for name in weights)
    start = model_state("x", backbone.create(settings(), space.vocabulary, 5))
    assert not all(torch.equal(start[name], weights[name]) for name in weights)


@pytest.mark.parametrize("patience", [9, 1])
def test_a_run_resumed_after_its_last_epoch_writes_its_curve_again(space, checkpoint, tmp_path, monkeypatch, patience):
    """Stopped between its last epoch and its model, with DVC having deleted the curve: nothing is trained again. Losses
    1, 2, 3, 4: with patience 1 the last epoch is the second."""
    losses = iter([1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(training, "evaluate", lambda *_: next(losses))
    weights, best, curve = fit(space, checkpoint, tmp_path, patience=patience)
    assert len(curve.splitlines()) == 1 + (4 if patience == 9 else 2)
    (tmp_path / "curve.csv").unlink()
    monkeypatch.setattr(training, "_one_epoch", lambda *_: pytest.fail("an epoch was trained again"))
    again, best_again, curve_again = fit(space, checkpoint, tmp_path, patience=patience)
    assert (best_again, curve_again) == (best, curve) == (1, curve)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_curve_goes_on_from_its_rows(tmp_path):
    """Columns may come later; a restored curve is written at once, and its rows are its own."""
    curve = Curve(tmp_path / "curves" / "curve.csv")
    curve.add(step=1, loss=1 / 3)
    curve.add(step=2, loss=0.25, kl=0.0)
    text = curve.path.read_text()
    assert text == "step,loss,kl\n1,0.333333,\n2,0.25,0.0\n"
    curve.path.unlink()
    again = Curve(curve.path)
    again.restore(curve.rows)
    assert again.path.read_text() == text
    again.add(step=3, loss=0.125)
    assert again.path.read_text() == text + "3,0.125,\n"
    assert len(curve.rows) == 2


def test_epoch_batches():
    """Lengths 9, 7, 4, 4, 3, 1 at 16 items a batch: 9 (2 x 9 > 16), then 7 and 4 (2 x 7), then 4, 3, 1 (3 x 4)."""
    examples = [one([], list(range(length)), 1.0) for length in (4, 9, 1, 7, 3, 4)]

    def drawn(epoch: int) -> list[list[int]]:
        return [[len(row.targets) for row in batch] for batch in training.epoch_batches(examples, tiny_recipe(), epoch)]

    assert sorted(drawn(0)) == [[4, 3, 1], [7, 4], [9]]
    assert drawn(0) == drawn(0)
    assert any(drawn(0) != drawn(epoch) for epoch in range(1, 6))


def test_no_example_at_all(space, model, checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"no training sequence.*sft\.holdback"):
        training.fit(
            model,
            space,
            lambda epoch: [],
            [one([], [2], 1.0)],
            tiny_recipe(),
            Accelerator(cpu=True),
            checkpoint,
            Curve(tmp_path / "curve.csv"),
        )


@pytest.mark.parametrize(("gpu", "precision", "mixed"), [(False, "fp32", "no"), (True, "bf16", "bf16")])
def test_accelerator(monkeypatch, gpu, precision, mixed):
    """One process, on a GPU where there is one; `accelerate launch` with two is refused."""
    asked = []

    def started(processes: int):
        return lambda **options: asked.append(options) or SimpleNamespace(num_processes=processes)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(device, "Accelerator", started(1))
    assert device.accelerator(precision).num_processes == 1
    assert asked == [{"cpu": not gpu, "mixed_precision": mixed}]
    monkeypatch.setattr(device, "Accelerator", started(2))
    with pytest.raises(InputError, match="2 processes were started; training runs in one"):
        device.accelerator(precision)


def test_the_best_epoch_is_kept_and_patience_ends_the_run(space, checkpoint, tmp_path, monkeypatch):
    """Validation losses 3, 1, 2, 4 and patience 2: two epochs without gain after the second end the run, and the
    weights are the second's."""
    losses = iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])
    seen = []

    def evaluate(model, *_):
        seen.append({name: weight.detach().clone() for name, weight in model_state("x", model).items()})
        return next(losses)

    monkeypatch.setattr(training, "evaluate", evaluate)
    weights, best, _ = fit(space, checkpoint, tmp_path, epochs=9, patience=2)
    assert best == 2
    assert len(seen) == 4
    assert all(torch.equal(weights[name], seen[1][name]) for name in weights)


# --------------------------------------------------------------------------------------- one step of the paper


class Plain:
    """What the algorithm asks of accelerate, in one process."""

    device = torch.device("cpu")

    def __init__(self, precision: str = "fp32") -> None:
        self.precision = precision

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16")

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()


RECIPE = algorithm.Recipe(updates=1, minibatches=1, users_per_pass=None, divide_by_std=True, kl=0.1, max_grad_norm=1.0)
CONTEXT_PAIRS = np.array([[0, 2], [1, 4]])


def learner(space, precision: str = "fp32", lr: float = 0.05, **recipe) -> algorithm.Learner:
    model = sharp_model(space)
    histories = logged([*range(12), 13, *range(11)], [0, 1] * 12, [10, 10], [12, 12])
    shares = np.eye(4)[np.arange(ITEMS) % 4]
    return algorithm.Learner(
        model=model,
        reference=sharp_model(space),
        optimizer=torch.optim.SGD(model.parameters(), lr),
        objective=sage,
        objective_params=SAGE,
        task=Task(
            space=space,
            environment=LoggedFeedback(histories, {"click": 1.0, "like": 0.5}, 5, shares),
            label="slate",
            history_items=4,
            exclude_seen=True,
            slate_length=3,
            group_size=8,
            temperature=TEMPERATURE,
            device=torch.device("cpu"),
        ),
        recipe=replace(RECIPE, **recipe),
        entropy_mean=RunningMean(0.1),
        accelerator=Plain(precision),
    )


def one_step(own: algorithm.Learner, seed: int = 0, compare: bool = False) -> dict[str, float]:
    return own.step(CONTEXT_PAIRS, CONTEXT_PAIRS[:0], seeded(seed), compare)


@pytest.mark.parametrize("recipe", [{}, {"users_per_pass": 1}, {"minibatches": 2, "users_per_pass": 1}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_first_update_of_a_step(space, precision, recipe):
    """r is exactly 1, nothing has moved away from the SFT policy, Hbar starts at the batch's mean; then it moves."""
    own = learner(space, precision, **recipe)
    before = copy.deepcopy(own.model.state_dict())
    firsts = []
    descend = own._descend

    def watched(batch, part, compare):
        found, log_probs = descend(batch, part, compare)
        firsts.append(found)
        return found, log_probs

    own._descend = watched
    found = one_step(own, compare=True)
    first = firsts[0]
    assert float(first["ratio_min"]) == float(first["ratio_mean"]) == float(first["ratio_max"]) == 1.0
    assert float(first["kl"]) == 0.0
    assert float(first["at_upper_bound"]) == float(first["at_lower_bound"]) == 0.0
    assert found["entropy_mean"] == pytest.approx(found["entropy"])
    assert found["sampler_mismatch"] < (1e-5 if precision == "fp32" else 0.5)
    assert found["invalid_share"] == 0
    assert found["reward_click"] > 0
    assert found["reward"] == pytest.approx((found["reward_click"] + 0.5 * found["reward_like"]) / 1.5)
    assert found["gradient_norm"] > 0
    assert -1 <= found["gbpo_cosine"] <= 1
    after = own.model.state_dict()
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_later_updates_move_the_ratio(space):
    found = one_step(learner(space, updates=3))
    assert found["ratio_min"] < 1 < found["ratio_max"]
    assert found["kl"] > 0


def weights_after(own: algorithm.Learner, steps: int = 2) -> torch.Tensor:
    for step in range(steps):
        one_step(own, step)
    return torch.cat([weight.detach().flatten() for weight in own.model.parameters()])


@pytest.mark.parametrize("objective", ["sage", "grpo", "dapo", "bapo"])
def test_passes_change_nothing(space, objective):
    """Users one by one or together: the same weights, also where the loss is no mean over slates."""
    whole, split = learner(space, updates=2), learner(space, updates=2, users_per_pass=1)
    for own in (whole, split):
        own.objective = importlib.import_module(f"stages.objectives.{objective}")
        own.objective_params = params.load().own[objective]
    start = weights_after(learner(space), 0)
    moved = weights_after(whole)
    assert (moved - start).abs().max() > 1e-3
    assert torch.allclose(weights_after(split), moved, atol=1e-5)


def test_looking_on_changes_nothing(space):
    """The cosine is taken between the gradient and its step, and leaves both alone."""
    plain, watched = learner(space, updates=2), learner(space, updates=2)
    one_step(plain)
    found = one_step(watched, compare=True)
    assert 0 < found["gbpo_cosine"] < 1
    pairs = zip(plain.model.parameters(), watched.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_gbpo_lies_along_itself(space):
    own = learner(space, updates=2)
    own.objective, own.objective_params = gbpo, gbpo.Params(level="token", lr=None, kl=None)
    assert one_step(own, compare=True)["gbpo_cosine"] == pytest.approx(1, abs=1e-5)


def test_each_minibatch_is_a_step(space):
    """Two minibatches of one user each are two steps; pi_old is the policy's before the first of them."""
    own, steps = learner(space, minibatches=2), []
    own.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    found = one_step(own)
    assert len(steps) == 2
    assert found["ratio_mean"] != 1.0  # the second minibatch comes after a step


def test_groups_without_signal_make_way(space):
    """User 0 at position 9 has one logged item left of 5, user 1 ..; spare contexts stand in as often as asked."""
    own = learner(space)
    task = replace(own.task, group_size=2)
    contexts, spare = np.array([[0, 2], [1, 1], [0, 3]]), np.array([[1, 2], [1, 3], [1, 4], [0, 4]])
    plain = task.rollout(own.model, contexts, spare, 0, seeded(5))
    assert plain.silent.size
    assert np.array_equal(plain.contexts, contexts)
    filled = task.rollout(own.model, contexts, spare, 4, seeded(5))
    kept = np.setdiff1d(np.arange(3), plain.silent)
    assert np.array_equal(filled.contexts[kept], contexts[kept])
    assert torch.equal(filled.slates.items[kept], plain.slates.items[kept])
    assert filled.silent.size < plain.silent.size
    changed = (filled.contexts != contexts).any(1)
    assert changed.any()
    assert all(context.tolist() in spare.tolist() for context in filled.contexts[changed])
    items = filled.slates.items.numpy()
    assert np.array_equal(filled.rewards, task.environment.rewards(filled.contexts, items))
    again, _ = slate_log_probs(
        own.model, filled.prompts, space.columns, filled.slates.codes, filled.slates.allowed, TEMPERATURE
    )
    assert torch.allclose(again, filled.slates.log_probs, atol=1e-5)  # every group stands by its own prompt


def test_a_loss_is_told_whose_token_each_is(space):
    """Slates of 3 items of 2 codes: 0 0 1 1 2 2; and advantages whether to divide by the group's std."""
    own, seen = learner(space), {}

    class Watched:
        @staticmethod
        def advantages(*arguments):
            seen["divide"] = arguments[-1]
            return sage.advantages(*arguments)

        @staticmethod
        def loss(slates, *arguments):
            seen["item"] = slates.item
            return sage.loss(slates, *arguments)

    own.objective = Watched
    one_step(own)
    assert seen["divide"] is True
    assert seen["item"].shape == (2, 8, 3 * DEPTH)
    assert (seen["item"] == torch.tensor([0, 0, 1, 1, 2, 2])).all()


def test_the_reference_gets_no_gradient(space):
    own = learner(space, updates=2)
    one_step(own, compare=True)
    assert all(parameter.grad is None for parameter in own.reference.parameters())
    untouched = sharp_model(space).state_dict()
    assert all(torch.equal(weight, untouched[name]) for name, weight in own.reference.state_dict().items())


def test_a_repeated_step_is_the_same(space):
    first, again = (learner(space, updates=2) for _ in range(2))
    assert one_step(first, 4) == one_step(again, 4)
    before, after = (model_state("x", each.model) for each in (first, again))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_rate_is_a_share_of_the_optimizers_own(space):
    own = learner(space, lr=0.5)
    own.set_rate(0.25)
    assert own.optimizer.param_groups[0]["lr"] == 0.125
    own.set_rate(1.0)
    assert own.optimizer.param_groups[0]["lr"] == 0.5


class Looks:
    """A watch whose rewards are given: step 0, 1, 2, ..."""

    def __init__(self, *rewards: float) -> None:
        self.rewards = rewards

    def look(self, learner: algorithm.Learner, step: int) -> dict[str, float]:
        return {"selection_reward": self.rewards[step]}


def test_a_run_resumed_after_its_last_look_writes_its_curves_again(space, checkpoint, tmp_path):
    """Rewards 9, 1, 2, 1.5: the best look after the first step is the second, whatever the start was. Taken up again
    without its curves, the run has all of it and ends with the same policy."""

    def start(folder: str) -> RunState:
        own = learner(space)
        own.optimizer = torch.optim.AdamW(own.model.parameters(), 1e-3)
        curves = (Curve(tmp_path / folder / name) for name in ("steps.csv", "heldout.csv"))
        return RunState(own, checkpoint, *curves)

    state, watch, weights = start("first"), Looks(9.0, 1.0, 2.0, 1.5), []
    state.resume()
    assert (state.step, state.heldout.rows) == (0, [])
    state.look(watch, 0)
    for step in (1, 2, 3):
        state.curve.add(step=step, **one_step(state.learner, step))
        state.look(watch, step)
        weights.append({name: weight.clone() for name, weight in model_state("x", state.learner.model).items()})
    again = start("second")
    again.resume()
    assert (again.step, again.best_reward) == (3, 2.0)
    assert again.learner.entropy_mean.value == state.learner.entropy_mean.value
    for name in ("steps.csv", "heldout.csv"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    after = model_state("x", again.learner.model)
    assert all(torch.equal(after[name], weights[2][name]) for name in after)
    moments = again.learner.optimizer.state_dict()["state"], state.learner.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[0][i][key], value) for i, own in moments[1].items() for key, value in own.items())
    for each in (state, again):
        each.restore_best()
        best = model_state("x", each.learner.model)
        assert all(torch.equal(best[name], weights[1][name]) for name in best)
    assert not all(torch.equal(weights[1][name], weights[2][name]) for name in best)


def test_a_run_without_a_step_keeps_its_policy(space, checkpoint, tmp_path):
    """The optimizer `sft`: one look before the first step, which is never the best."""
    for _ in range(2):
        state = RunState(learner(space), checkpoint, Curve(tmp_path / "steps.csv"), Curve(tmp_path / "heldout.csv"))
        state.resume()
        if not state.heldout.rows:
            state.look(Looks(9.0), 0)
        state.restore_best()
        assert (state.step, state.best) == (0, {})
        before, after = (model_state("x", each) for each in (sharp_model(space), state.learner.model))
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_steps_raise_the_reward_that_can_be_raised(space):
    """Ten steps at lr .05 on one context with 8 slates: the sampled click reward of 400 fresh slates goes up."""
    trained = learner(space, updates=2)

    def expected() -> float:
        return float(trained.task.sample(trained.model, CONTEXT_PAIRS, [TEMPERATURE] * 400, seeded(99)).total.mean())

    start = expected()
    for step in range(10):
        one_step(trained, step)
    assert expected() > start + 0.02


def test_supervised_and_rl_share_the_policy(space, model):
    """-loss_sum of a target behind a slate token is slate_log_probs of it as a slate of one, without banned items."""
    asked = prompts(space, [np.array([3, 1])], 4, "slate", False)
    codes = space.trie.codes[7][None, None, None].long()
    node = space.trie.node[7].long()
    allowed = torch.stack([space.trie.as_mask(space.trie.children(node[level], level)) for level in range(DEPTH)])[
        None, None, None
    ]
    scored, _ = slate_log_probs(model, asked, space.columns, codes, allowed, 1.0)
    with torch.no_grad():
        loss = supervised.loss_sum(model, collate([one([3, 1], [7], 1.0)], space, "slate"), space)
    assert float(scored.detach().sum()) == pytest.approx(-float(loss), abs=1e-5)
