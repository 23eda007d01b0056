"""Random numbers that depend on what they are for, not on what was drawn before.

A generator made from (seed, stage, step, index) gives a run that is stopped and taken up again the numbers of an
undisturbed one, and leaves other draws alone when one is added.
"""

import hashlib

import numpy as np


def derived_seed(*parts: int | str) -> int:
    """Mix the parts, such as (seed, "rl", step), into one seed of 63 bits."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator for the purpose that the parts name."""
    return np.random.default_rng(derived_seed(*parts))
