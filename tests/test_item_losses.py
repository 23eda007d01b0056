"""Losses of sequence models against numbers worked out here, and that none of them holds all scores of a batch."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stages.baselines import item_losses, rearec, sasrec
from stages.baselines.item_losses import Unseen, binary_cross_entropy, cross_entropy, sampled_cross_entropy
from stages.baselines.rearec import Rearec
from stages.baselines.self_attention import LOSSES, Sasrec
from tests.small_histories import OWN, SCHEDULE, SIZE, given, histories

LOG3 = math.log(3)
EYE = torch.eye(3)
ONE = torch.ones(1)


def test_cross_entropy_by_hand():
    """Scores log 3, 0, 0 are probabilities 3/5, 1/5, 1/5; scores 0 are 1/3. Targets 0 and 2: log 5/3 + log 3."""
    states = torch.tensor([[LOG3, 0, 0], [0, 0, 0]])[:, None]
    assert cross_entropy(states, EYE, torch.tensor([0, 2]), ONE).item() == pytest.approx(math.log(5 / 3) + LOG3)


def test_divergence_by_hand():
    """p = 1/2, 1/2 and q = 3/4, 1/4. KL(p || q) = 1/2 log 2/3 + 1/2 log 2 = log(4/3) / 2; KL(q || p) = 3/4 log 3/2 +
    1/4 log 1/2. With kl .2 the mean of the two counts -.2; the cross-entropies of target 0 are log 2 and log 4/3.
    """
    states = torch.tensor([[[0.0, 0.0], [LOG3, 0.0]]])
    apart = (math.log(4 / 3) / 2 + 0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    found = cross_entropy(states, torch.eye(2), torch.tensor([0]), torch.tensor([0.5, 0.5]), 0.2)
    assert found.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2 - 0.2 * apart)


def plain(states, items, target, share, kl):
    """The same by autograd, with every score at once."""
    log_p = (states @ items.T).log_softmax(-1)
    count = states.shape[1]
    loss = -(log_p.gather(-1, target[:, None, None].expand(-1, count, 1))[..., 0] * share).sum()
    for one in range(count):
        for other in range(count):
            if one != other:
                apart = (log_p[:, one].exp() * (log_p[:, one] - log_p[:, other].detach())).sum()
                loss = loss - kl / (count * (count - 1)) * apart
    return loss


@pytest.mark.parametrize(("steps", "kl"), [(1, 0.0), (3, 0.0), (3, 0.3)])
@pytest.mark.parametrize("scores", [1, 200, 1 << 20])
def test_value_and_gradient_do_not_depend_on_the_chunks(steps, kl, scores, monkeypatch):
    monkeypatch.setattr(item_losses, "SCORES", scores)
    generator = torch.Generator().manual_seed(1)
    states, items = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((13, steps, 4), (17, 4))
    )
    target, share = torch.randint(17, (13,), generator=generator), torch.linspace(0.5, 1, steps, dtype=torch.float64)
    whole = plain(states, items, target, share, kl)
    expected = torch.autograd.grad(whole, (states, items))
    parts = cross_entropy(states, items, target, share, kl)
    found = torch.autograd.grad(2 * parts, (states, items))
    assert parts.item() == pytest.approx(whole.item(), rel=1e-12)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, 2 * other, rtol=1e-9, atol=1e-12)


def test_binary_cross_entropy_by_hand():
    """Target at log 3: sigmoid 3/4. Other at log 3: 1 - sigmoid = 1/4. Without an other: the first term alone."""
    states = torch.tensor([[LOG3, LOG3, 0], [LOG3, 0, 0]])
    found = binary_cross_entropy(states, EYE, torch.tensor([0, 0]), torch.tensor([1, -1]))
    assert found.item() == pytest.approx(2 * math.log(4 / 3) + math.log(4))


def test_sampled_cross_entropy_by_hand():
    """N = 3, M = 2 draws, both item 1, at score 0: weight 3/2 each. Target 0 at log 3: -log 3 / (3 + 3). Target 1 is
    what was drawn: nothing is against it.
    """
    states, drawn = torch.tensor([[LOG3, 0, 0]]), torch.tensor([1, 1])
    assert sampled_cross_entropy(states, EYE, torch.tensor([0]), drawn).item() == pytest.approx(math.log(2))
    assert sampled_cross_entropy(states, EYE, torch.tensor([1]), drawn).item() == 0


def test_the_sampled_denominator_is_the_full_one_in_expectation():
    generator = torch.Generator().manual_seed(1)
    states, items = torch.randn(1, 4, generator=generator), torch.randn(30, 4, generator=generator)
    target = torch.tensor([7])
    score = (states @ items.T)[0]
    draws = torch.randint(30, (20000, 10), generator=generator)
    losses = torch.stack([sampled_cross_entropy(states, items, target, drawn) for drawn in draws[:2000]])
    assert (losses + score[7]).exp().mean().item() == pytest.approx(score.exp().sum().item(), rel=0.03)


def test_items_are_drawn_evenly_from_the_unseen():
    """Of items 0..5 user 0 has seen 0, 3 and 4, user 1 none, user 2 all."""
    unseen = Unseen([np.array([0, 3, 4]), np.array([], dtype=np.int64), np.arange(6)], 6, torch.device("cpu"))
    torch.manual_seed(1)
    drawn = unseen.draw(torch.tensor([0, 1, 2]).repeat(6000)).view(-1, 3)
    assert set(drawn[:, 2].tolist()) == {-1}
    assert torch.bincount(drawn[:, 0]).tolist() == pytest.approx([0, 2000, 2000, 0, 0, 2000], abs=150)
    assert torch.bincount(drawn[:, 1]).tolist() == pytest.approx([1000] * 6, abs=120)


# ------------------------------------------------------------------------------------------------------- memory

BATCH, LENGTH, ITEMS = 70, 20, 2000


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return made


def learner(name, folder, monkeypatch):
    """Full windows of so many users, so that nothing is spared by padding."""
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(folder))
    corpus = histories([[(user + place) % ITEMS for place in range(LENGTH + 3)] for user in range(BATCH)], ITEMS)
    size, told = SIZE | {"length": LENGTH}, given(corpus, folder)
    if name.startswith("rearec"):
        own = OWN["rearec"] | {"variant": name.removeprefix("rearec-")}
        return Rearec(told, rearec.Params(**SCHEDULE | size | own))
    own = {"loss": name, "samples": 100 if name == "sampled" else None}
    return Sasrec(told, sasrec.Params(**SCHEDULE | size | own), LOSSES[name], "sasrec")


@pytest.mark.parametrize("name", ["ce", "bce", "sampled", "rearec-erl", "rearec-prl"])
def test_no_tensor_is_as_large_as_all_scores(name, tmp_path, monkeypatch):
    found = learner(name, tmp_path, monkeypatch)
    (batch,) = found.windows.batches(0, 10**9)
    with Largest() as largest:
        loss, count = found.loss(batch)
        loss.backward()
    assert count == BATCH * LENGTH
    assert largest.numel <= item_losses.SCORES
    assert largest.numel < BATCH * LENGTH * ITEMS / 2


def test_the_largest_tensor_is_noticed():
    with Largest() as largest:
        scores = torch.zeros(BATCH * LENGTH, 4, requires_grad=True) @ torch.zeros(4, ITEMS)
        scores.sum().backward()
    assert largest.numel == BATCH * LENGTH * ITEMS
