"""What retrievers may count: what is visible of the log."""

import numpy as np

from stages.corpus.histories import Histories, Ints


def visible_counts(histories: Histories, visible: Ints) -> Ints:
    """[N] how often each item stands among the first visible[u] of the users u."""
    length = np.diff(histories.offsets)
    place = np.arange(len(histories.item)) - np.repeat(histories.offsets[:-1], length)
    return np.bincount(histories.item[place < np.repeat(visible, length)], minlength=histories.item_count)
