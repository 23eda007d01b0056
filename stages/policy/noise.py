"""Noise that depends on whom it is for: a hash of (key, slate, token, choice), with no state.

The draw of a user's slate is then the same wherever the user stands in a batch, in whatever process, on any device.
"""

import numpy as np
import torch
from torch import Tensor

from stages.core.seeding import derived_seed
from stages.corpus.histories import Ints

BITS = 52  # of a uniform number


def keys_of(contexts: Ints, *purpose: int | str) -> Tensor:
    """One key per context [B, 2] of (user, position) for a purpose such as (seed, "slates", step): [B]."""
    seed = derived_seed(*purpose)
    return _mixed(_mixed(torch.from_numpy(np.asarray(contexts)[:, 0]) ^ seed) + torch.from_numpy(contexts[:, 1].copy()))


def gumbel(keys: Tensor, slates: int, step: int, width: int) -> Tensor:
    """Standard Gumbel noise [B, K, C] for token number `step` of K slates of each of the users of keys [B]."""
    slate, choice = (torch.arange(count, device=keys.device) for count in (slates, width))
    rows = _mixed(_mixed(keys + (step + 1))[:, None] ^ slate)
    bits = _mixed(rows[..., None] ^ choice)
    uniform = ((bits & ((1 << BITS) - 1)).double() + 0.5) * 2.0**-BITS
    return -(-uniform.log()).log().float()


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every bit of x decides about every bit of the result."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)  # the shift of int64 keeps the sign: cut it off
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _signed(word: int) -> int:
    """The signed number with the same 64 bits."""
    return word - (1 << 64) if word >= 1 << 63 else word
