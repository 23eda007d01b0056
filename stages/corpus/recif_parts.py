"""What RecIF is made of, for the modules that read it and those that use what was read: parts, behaviours, codes."""

import numpy as np

from stages.core.schema import RECIF_DOMAINS

PARTS = tuple(RECIF_DOMAINS.names[2:-2])  # hist_ad, target_ad, hist_goods, .. of a user's lists
VIDEOS = PARTS[4:]  # those that have behaviours
PLACES = np.array([[0, 1, 2, 3, 4, 5], [0, 5, 1, 4, 2, 3]])  # of each part in a log, of users learnt from and held out
BEHAVIOURS = ("longview", "like", "follow", "forward", "not_interested")  # towards videos
JUDGING = "label_pred"  # the task that is answered with yes or no
BY_BEHAVIOUR = ("label_cond", JUDGING)  # tasks whose prompts have a list for each of them
PHOTO, PRODUCT = range(2)  # kinds of items: videos and advertisements, and products, whose numbers may be the same
CODES, LEVELS = 8192, 3  # of a Semantic ID
SHOWN = {"video": 512, "longview": 100, "ad": 200, "goods": 100, "behaviour": 10}  # items of a prompt, the newest
LARGEST = 2.0**53  # of a pid as a floating-point number: from here on these skip whole ones
