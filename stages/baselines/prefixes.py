"""What an encoder-decoder is taught: the prefixes of the training histories, and the items behind each.

A prefix is a user's items up to a place; its first target is the next item. Where seen items are left out of lists, an
item that the user has had before is no target. Histories of one item or none teach nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.baselines.windows import inside_catalogue
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Examples:
    """Prefixes, B of them."""

    user: Ints  # [B]
    history: list[Ints]  # the last items of each, oldest first
    target: Ints  # [B, J] the items behind, -1 for none


@dataclass(frozen=True)
class Prefixes:
    """The prefixes of a corpus."""

    histories: Histories
    length: int
    """Items of a prefix that are read, the latest."""
    targets: int
    """J."""
    exclude_seen: bool
    shuffle_ties: bool
    """Whether the order inside a tie group is drawn anew in each epoch."""
    seed: int

    def __post_init__(self) -> None:
        inside_catalogue(self.histories)

    def batches(self, epoch: int, size: int, most: int | None) -> list[Examples]:
        """At most so many prefixes, drawn from (seed, epoch) as their order is, `size` at a time."""
        generator = numpy_generator(self.seed, "prefixes", epoch)
        owner = np.repeat(np.arange(self.histories.user_count), np.diff(self.histories.offsets))
        place = np.arange(len(owner)) - self.histories.offsets[owner]  # in the user's history
        train = place < self.histories.train_length[owner]
        item = self._ordered(train, generator)
        fresh = train & self._fresh(owner, item)
        chosen = generator.permutation(np.flatnonzero(fresh & (place > 0)))[:most]
        return [
            self._examples(chosen[start : start + size], owner, place, item, fresh)
            for start in range(0, len(chosen), size)
        ]

    def _ordered(self, train: Bools, generator: np.random.Generator) -> Ints:
        """The flat items, training parts in an order of this epoch where ties say nothing."""
        if not self.shuffle_ties:
            return self.histories.item
        item, flat = self.histories.item.copy(), np.flatnonzero(train)
        # tie groups are numbered over all users, in their order
        item[flat] = item[flat[np.lexsort([generator.random(len(flat)), self.histories.tie[flat]])]]
        return item

    def _fresh(self, owner: Ints, item: Ints) -> Bools:
        """Whether an interaction can be a target: where seen items are left out, the user's first of its item."""
        if not self.exclude_seen:
            return np.ones(len(item), dtype=bool)
        fresh = np.zeros(len(item), dtype=bool)
        fresh[np.unique(owner * self.histories.item_count + item, return_index=True)[1]] = True
        return fresh

    def _examples(self, chosen: Ints, owner: Ints, place: Ints, item: Ints, fresh: Bools) -> Examples:
        """The prefixes that end before the interactions `chosen`, with these and what follows as targets."""
        user = owner[chosen]
        history = [item[end - min(known, self.length) : end] for end, known in zip(chosen, place[chosen], strict=True)]
        behind = chosen[:, None] + np.arange(self.targets)  # [B, J]
        inside = np.minimum(behind, len(item) - 1)
        real = (behind < len(item)) & (owner[inside] == user[:, None]) & fresh[inside]
        return Examples(user, history, np.where(real, item[inside], -1))
