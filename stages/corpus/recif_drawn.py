"""What is drawn for recif_fixture: items, users and what they did. For what is planted, see there."""

from dataclasses import dataclass

import numpy as np

from stages.corpus.raw_log import Ints
from stages.corpus.recif_parts import BEHAVIOURS, CODES

TOPICS = 20
PER_TOPIC = {"video": 20, "ad": 8, "goods": 12}
HISTORY = {"video": (20, 60), "ad": (3, 12), "goods": (6, 24)}  # items, from and to
TARGETS = {"video": 10, "ad": 4, "goods": 4}  # at most
HELD_OUT = 4  # one user in so many
STRAY = 0.4  # share of the videos that are of any topic
NOISE = 0.05  # share of the videos that are watched against the user's taste, or not watched for all that


@dataclass(frozen=True)
class Items:
    """The items of a domain, `count` of each topic, topic by topic."""

    ids: Ints  # [n]
    codes: Ints  # [n, 3]
    count: int  # of a topic

    def of(self, topics: Ints) -> Ints:
        """[n, count] places of the items of topics [n]."""
        return topics[:, None] * self.count + np.arange(self.count)


@dataclass(frozen=True)
class User:
    """What a user did: places of items of each domain, history and targets, and behaviours towards videos."""

    uid: int
    held_out: bool
    topics: Ints  # [2]
    history: dict[str, Ints]
    target: dict[str, Ints]
    behaviours: dict[str, np.ndarray]  # history, target -> [n, 5]


def draw_items(generator: np.random.Generator) -> dict[str, Items]:
    """Ids without order; some iids are pids as well. Every tenth video has the id of the one before it, one product
    that of a video, and one code is the largest there is.
    """
    total = TOPICS * sum(PER_TOPIC.values())
    pool = np.unique(generator.integers(10**8, 10**12, 2 * total))
    pids = generator.permutation(pool)[:total]
    found, start = {}, 0
    for domain, (name, count) in enumerate(PER_TOPIC.items()):
        number = TOPICS * count
        topic, place = np.divmod(np.arange(number), count)
        codes = np.stack([40 * topic + 10 * domain + 3, 16 * (place % 4) + 5, 11 * (place // 4) + domain], 1)
        ids = pids[start : start + number]
        start += number
        if name == "video":
            codes[9::10] = codes[8::10]
            codes[-1, 2] = CODES - 1
        if name == "goods":
            ids = np.where(np.arange(number) % 7 == 0, found["video"].ids[:number], ids)
            codes[0] = found["video"].codes[0]
        found[name] = Items(ids, codes, count)
    return found


def draw_user(number: int, items: dict[str, Items], generator: np.random.Generator) -> User:
    topics = generator.choice(TOPICS, 2, replace=False)
    history, target = {}, {}
    for name, (least, most) in HISTORY.items():
        own = items[name].of(topics)
        if (name == "ad" and number % 9 == 0) or (name == "goods" and number % 11 == 0):
            history[name] = target[name] = np.empty(0, np.int64)
            continue
        history[name] = own[generator.integers(2, size=generator.integers(least, most + 1)), 0]
        history[name] = history[name] + generator.integers(items[name].count, size=len(history[name]))
        target[name] = generator.permutation(own.ravel())[: generator.integers(1, TARGETS[name] + 1)]
    history["video"] = _with_strays(history["video"], items["video"], generator)
    places = _with_strays(target["video"], items["video"], generator)
    target["video"] = places[np.sort(np.unique(places, return_index=True)[1])]
    behaviours = {
        when: _behaviours(topics, own["video"], items["video"], generator)
        for when, own in (("history", history), ("target", target))
    }
    return User(10**7 + 37 * number, number % HELD_OUT == 1, topics, history, target, behaviours)


def _with_strays(places: Ints, items: Items, generator: np.random.Generator) -> Ints:
    """Places [n] of which some are of any item instead."""
    stray = generator.random(len(places)) < STRAY
    return np.where(stray, generator.integers(len(items.ids), size=len(places)), places)


def _behaviours(topics: Ints, places: Ints, items: Items, generator: np.random.Generator) -> np.ndarray:
    """[n, 5]: what is of the user's topics is watched for long, and then the second code tells whether it calls forth
    like, follow, forward or nothing more; of the rest a little is `not_interested`.
    """
    found = np.zeros((len(places), len(BEHAVIOURS)), np.int64)
    watched = np.isin(places // items.count, topics) ^ (generator.random(len(places)) < NOISE)
    kind = items.codes[places, 1] // 16
    found[watched, kind[watched]] = 1
    found[:, 0] = watched
    found[:, -1] = ~watched & (generator.random(len(places)) < NOISE)
    return found


def keywords(user: User, items: dict[str, Items], when: str) -> dict[str, list[int]]:
    """What a user did under each topic's name, in the history or in the targets."""
    places = (user.history if when == "history" else user.target)["video"]
    topics = places // items["video"].count
    found = {
        topic_name(topic): items["video"].ids[np.unique(places[topics == topic])].tolist() for topic in user.topics
    }
    return {word: ids for word, ids in found.items() if ids}


def topic_name(topic: int) -> str:
    return f"topic {topic}"


def sid_text(codes: Ints) -> str:
    """A Semantic ID as published."""
    a, b, c = codes.tolist()
    return f"<|sid_begin|><s_a_{a}><s_b_{b}><s_c_{c}><|sid_end|>"
