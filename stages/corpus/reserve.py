"""Who learns from which part of a user's training items: SFT, RL, or nobody.

RL on contexts that SFT has trained on rewards memory, so every user with enough training items keeps the last
`holdback` of them from SFT. A share of these users, the reserve, keeps them from RL as well: the reward on their
contexts is the held-out reward. One half of the reserve chooses the published checkpoint, the other reports on it.
"""

from dataclasses import dataclass

import numpy as np

from stages.core.errors import InputError
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, Ints


@dataclass(frozen=True)
class Reserve:
    """The division of the training part. A context is a user and a position: the items before it are known."""

    sft_length: Ints  # [U] the user's first items that SFT may train on
    learners: Ints  # users whose held-back items RL trains on
    selection: Ints  # reserve users that choose the checkpoint
    report: Ints  # reserve users that the held-out reward is reported on


def divide(histories: Histories, holdback: int, share: float, min_items: int, seed: int) -> Reserve:
    """Hold back each eligible user's last training items and draw the reserve among these users.

    Raises InputError where that leaves the learners or a half of the reserve without a user.
    """
    eligible = np.flatnonzero(histories.train_length >= max(min_items, holdback + 1))
    sft_length = histories.train_length.copy()
    sft_length[eligible] -= holdback
    drawn = numpy_generator(seed, "reserve").permutation(eligible)[: round(share * len(eligible))]
    half = len(drawn) // 2
    if half == 0 or len(drawn) == len(eligible):
        raise InputError(
            f"{len(eligible)} users have {max(min_items, holdback + 1)} training items, too few for a reserve of "
            f"{share:.0%} in two halves; lower sft.min_items and sft.holdback, or bring sft.reserve nearer to a half"
        )
    return Reserve(
        sft_length=sft_length,
        learners=np.setdiff1d(eligible, drawn),
        selection=np.sort(drawn[:half]),
        report=np.sort(drawn[half:]),
    )


def held_back_contexts(histories: Histories, reserve: Reserve, users: Ints, horizon: int) -> Ints:
    """All contexts [C, 2] of (user, position) in the held-back items with `horizon` training items behind them."""
    pairs = [
        (user, position)
        for user in users
        for position in range(reserve.sft_length[user], histories.train_length[user] - horizon + 1)
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def visible_contexts(histories: Histories, reserve: Reserve, horizon: int) -> Ints:
    """All contexts [C, 2] of (user, position) in what SFT may see, an item before them and `horizon` behind."""
    count = np.maximum(reserve.sft_length - horizon, 0)  # of each user, positions 1, 2, ..
    user = np.repeat(np.arange(len(count)), count)
    return np.stack([user, np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count) + 1], 1)


def logged_after(histories: Histories, contexts: Ints, horizon: int) -> tuple[Ints, dict[str, Ints]]:
    """The log after each context: items [C, horizon] and, per objective, whether each carries it [C, horizon]."""
    at = histories.offsets[contexts[:, 0], None] + contexts[:, 1, None] + np.arange(horizon)
    return histories.item[at], {name: values[at].astype(np.int64) for name, values in histories.feedback.items()}
