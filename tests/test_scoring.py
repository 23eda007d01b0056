"""Log-probabilities of slates with a shared prompt, and what is looked at beside the reward."""

import copy
import math
from itertools import product

import numpy as np
import pytest
import torch

from stages.core.errors import InputError
from stages.objectives.terms import ScoredSlates, slate_ratio, token_ratio
from stages.policy import backbone, heldout, sharing
from stages.policy.logprobs import token_log_probs
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from tests.small_policy import CONTEXTS, DEPTH, ITEMS, SIZE, TEMPERATURE, enumerate_items, keys, part, scratch


def test_the_sampler_scores_as_the_scorer_does(space, model, asked):
    found = sample_slates(Reading(model, asked), space, [TEMPERATURE] * 3, 6, keys(4))
    scored, choice = token_log_probs(model, asked, space, found, TEMPERATURE)
    assert torch.allclose(scored, found.log_probs, atol=1e-5)
    assert scored.min() < -0.5
    assert (choice >= 0).all()
    assert (choice <= math.log(SIZE) + 1e-6).all()
    assert not choice.requires_grad
    single = found.open.sum(-1) == 1  # no choice: log-probability and entropy are 0
    assert single.any()
    assert scored[single].abs().max() == 0
    assert choice[single].abs().max() == 0


def test_scores_and_gradients_are_those_of_a_plain_forward_pass(space, model, asked):
    """Prompt and slate in one sequence without padding or cache, each slate alone."""
    model = copy.deepcopy(model).double().float()
    found = sample_slates(Reading(model, asked), space, [TEMPERATURE] * 2, 4, keys(4))
    weight = torch.randn(found.tokens.shape, generator=torch.Generator().manual_seed(1))
    scored, _ = token_log_probs(model, asked, space, found, TEMPERATURE)
    (scored * weight).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    total = 0.0
    for user, slate in product(range(4), range(2)):
        start = asked.tokens[user][asked.mask[user] == 1]
        own = torch.from_numpy(space.tokens)[found.items[user, slate]].flatten()
        logits = model(input_ids=torch.cat([start, own])[None]).logits[0, len(start) - 1 : -1]
        allowed = torch.zeros_like(logits, dtype=torch.bool)
        allowed.scatter_(1, space.columns.repeat(4, 1), found.open[user, slate])
        masked = (logits / TEMPERATURE).masked_fill(~allowed, -torch.inf)
        plain = torch.log_softmax(masked, -1).gather(1, own[:, None])[:, 0]
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
    config = scratch(space.new_tokens, 3).config
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 8
    grouped = backbone.Qwen3ForCausalLM(config).eval()
    found = sample_slates(Reading(grouped, asked), space, [TEMPERATURE] * 2, 3, keys(4))
    scored, _ = token_log_probs(grouped, asked, space, found, TEMPERATURE)
    assert torch.allclose(scored, found.log_probs, atol=1e-5)
    for user, context in enumerate(CONTEXTS):
        exact = enumerate_items(space, grouped, context[-4:], set(context.tolist()), TEMPERATURE)
        first = found.items[user, :, 0]
        assert torch.allclose(scored[user, :, :DEPTH].sum(-1), exact[first], atol=1e-5)


@pytest.mark.parametrize("option", ["sliding_window", "softcap", "s_aux"])
def test_other_attention_is_refused(option):
    query = torch.randn(1, 2, 3, 4)
    with pytest.raises(InputError, match=f"attention with {option} is not supported"):
        sharing.attend(torch.nn.Linear(1, 1), query, query, query, None, 1.0, **{option: 4})


def test_the_order_of_the_batch_does_not_matter(space, model, asked):
    """The longest prompt alone, without padding of others, scores as in the batch."""
    found = sample_slates(Reading(model, asked), space, [TEMPERATURE] * 2, 4, keys(4))
    whole, _ = token_log_probs(model, asked, space, found, TEMPERATURE)
    for user in range(4):
        own = np.array([user])
        alone, _ = token_log_probs(model, asked.of(own), space, found.of(own), TEMPERATURE)
        assert torch.allclose(alone, whole[own], atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_ratio_is_exactly_one_at_the_first_update(space, model, asked, precision):
    found = sample_slates(Reading(model, asked), space, [TEMPERATURE] * 3, 5, keys(4))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        log_probs, _ = token_log_probs(model, asked, space, found, TEMPERATURE)
        second, _ = token_log_probs(model, asked, space, found, TEMPERATURE)
    assert log_probs.dtype == torch.float32
    for other in (log_probs, second):  # the same kernels in the same order give the same bits
        scored = ScoredSlates(
            other, log_probs.detach(), found.real, found.place, 5, torch.zeros(4, 3), torch.tensor(0.0)
        )
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
