"""Noise by hashing: Gumbel distributed, and the same for a user wherever he stands."""

import numpy as np
import pytest
import torch
from scipy import stats

from stages.policy.noise import gumbel, keys_of


def contexts(users: int) -> np.ndarray:
    return np.stack([np.arange(users), np.arange(users) % 3], 1)


def test_it_is_gumbel_noise():
    """40,000 numbers: Kolmogorov-Smirnov, and no correlation between slates, steps, choices or users."""
    keys = keys_of(contexts(20), 1, "slates", 0)
    noise = gumbel(keys, 20, 3, 100)
    assert noise.shape == (20, 20, 100)
    assert stats.kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 1e-3
    other = gumbel(keys, 20, 4, 100)
    pairs = [(noise, other), (noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1])]
    for first, second in pairs:
        found = np.corrcoef(first.flatten(), second.flatten())[0, 1]
        assert abs(found) < 4 / np.sqrt(first.numel())


def test_a_users_noise_is_his_own():
    """Alone, or among others in another order: the same bits."""
    all_keys = keys_of(contexts(9), 1, "slates", 7)
    order = np.array([4, 0, 8])
    assert torch.equal(all_keys[order], keys_of(contexts(9)[order], 1, "slates", 7))
    assert torch.equal(gumbel(all_keys, 2, 1, 5)[order], gumbel(all_keys[order], 2, 1, 5))


@pytest.mark.parametrize("purpose", [(1, "slates", 8), (2, "slates", 7), (1, "reserve")])
def test_another_purpose_is_other_noise(purpose):
    assert not (keys_of(contexts(9), 1, "slates", 7) == keys_of(contexts(9), *purpose)).any()


def test_positions_of_a_user_differ():
    pairs = np.array([[3, 0], [3, 1], [0, 3], [1, 3]])
    assert len(set(keys_of(pairs, 1).tolist())) == 4


def test_the_finaliser_is_splitmix64():
    """The first outputs of SplitMix64 from seed 0, as its authors' C code gives them."""
    from stages.policy.noise import _mixed

    step = 0x9E3779B97F4A7C15
    states = [(step * n) % 2**64 for n in range(3)]
    signed = torch.tensor([state - 2**64 if state >= 2**63 else state for state in states])
    assert [x % 2**64 for x in _mixed(signed).tolist()] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
