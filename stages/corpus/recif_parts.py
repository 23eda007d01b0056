"""The parts of a RecIF user's lists, and how they lie one after the other in a log."""

import numpy as np

from stages.core.schema import RECIF_DOMAINS

PARTS = tuple(RECIF_DOMAINS.names[2:])  # hist_ad, target_ad, hist_goods, ..
PLACES = np.array([[0, 1, 2, 3, 4, 5], [0, 5, 1, 4, 2, 3]])  # of each part, of users learnt from and held out
