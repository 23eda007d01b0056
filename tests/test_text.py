"""Native text: what may be written while names are picked from a pool, against plain string matching."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from stages.action_spaces.base import Pool, Prompts, Slates, joined
from stages.action_spaces.name_walk import NameWalk
from stages.action_spaces.pools import with_wanted
from stages.policy.logprobs import spell

END = 9


class Space:
    """An action space of pools, without prompts."""

    def walk(self, prompts: Prompts, slates: int, length: int) -> NameWalk:
        return NameWalk(prompts.pool, slates, length)


def pool(seed: int, users: int, items: int, size: int = 3) -> tuple[Pool, list[dict[int, tuple[int, ...]]]]:
    """Pools of names of 0 to 3 tokens out of `size`, END behind, none twice in a pool; the last user has one less."""
    generator, names = np.random.default_rng(seed), []
    for user in range(users):
        own: set[tuple[int, ...]] = set()
        while len(own) < items - (user == users - 1):
            own.add((*generator.integers(size, size=generator.integers(0, 4)).tolist(), END))
        numbers = generator.permutation(40)[: len(own)].tolist()
        names.append(dict(zip(numbers, [sorted(own)[i] for i in generator.permutation(len(own))], strict=True)))
    numbers = torch.full((users, items), -1)
    spelled = torch.full((users, items, 4), -1)
    columns = [sorted({token for name in own.values() for token in name}) for own in names]
    for user, own in enumerate(names):
        for index, (number, name) in enumerate(own.items()):
            numbers[user, index] = number
            spelled[user, index, : len(name)] = torch.tensor([columns[user].index(token) for token in name])
    width = max(map(len, columns))
    return Pool(numbers, torch.tensor([own + [0] * (width - len(own)) for own in columns]), spelled), names


def asked(own: Pool) -> Prompts:
    return Prompts(*(torch.zeros(len(own.items), 1, dtype=torch.int64) for _ in range(3)), pool=own)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_open_at_every_token(seed):
    """The distinct next tokens of the names that are left and begin as what is written; slates of unlike lengths."""
    own, names = pool(seed, 3, 6)
    generator = np.random.default_rng(seed)
    items = torch.tensor([[generator.permutation(list(left))[:3].tolist() for _ in range(2)] for left in names])
    slates, possible = spell(asked(own), Space(), items)
    assert possible.all()
    for user, all_names in enumerate(names):
        for slate in range(2):
            left, at = dict(all_names), 0
            for place, item in enumerate(items[user, slate].tolist()):
                for depth, token in enumerate(all_names[item]):
                    wanted = {name[depth] for name in left.values() if name[:depth] == all_names[item][:depth]}
                    open_ = slates.open[user, slate, at]
                    assert {int(own.columns[user, choice]) for choice in open_.nonzero()} == wanted
                    assert int(slates.tokens[user, slate, at]) == token
                    assert int(slates.place[user, slate, at]) == place
                    assert slates.real[user, slate, at]
                    at += 1
                del left[item]
            assert not slates.real[user, slate, at:].any()
            assert (slates.open[user, slate, at:].sum(-1) == 1).all()
            assert (slates.choice[user, slate, at:] == 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_random_choices_write_distinct_candidates(seed):
    """Whatever open choices are taken, every slate ends with three distinct items of its user's pool."""
    own, names = pool(seed, 3, 5)
    walk, generator = NameWalk(own, 4, 3), torch.Generator().manual_seed(seed)
    written = [[[] for _ in range(4)] for _ in range(3)]
    while (writing := walk.writing).any():
        scores = torch.rand(walk.open().shape, generator=generator).masked_fill(~walk.open(), -1)
        tokens = walk.take(scores.argmax(-1))
        for user, slate in writing.nonzero().tolist():
            written[user][slate].append(int(tokens[user, slate]))
    for user, all_names in enumerate(names):
        for slate, items in enumerate(walk.items[user].tolist()):
            assert len(set(items)) == 3
            assert [token for item in items for token in all_names[item]] == written[user][slate]


def test_what_cannot_be_written():
    """An item of another pool, an item twice, and a slate that ends early beside them."""
    own, names = pool(3, 2, 6)
    first, second = list(names[0])[:2]
    other = next(number for number in range(40) if number not in names[0])
    items = torch.tensor([[[first, other], [first, first], [first, second], [second, -1]]] * 1)
    one = Pool(*(tensor[:1] for tensor in own))
    slates, possible = spell(asked(one), Space(), items)
    assert possible.tolist() == [[False, False, True, True]]
    assert int(slates.real[0, 3].sum()) == len(names[0][second])
    logits = torch.randn(slates.open.shape)
    assert (
        torch.log_softmax(logits.masked_fill(~slates.open, -torch.inf), -1)
        .gather(-1, slates.choice[..., None])
        .isfinite()
        .all()
    )


def test_slates_of_two_batches_as_one():
    """Padded to the longest slate and the largest pool vocabulary; what is padding has one choice."""
    parts = []
    for seed, size in ((1, 2), (2, 3)):
        own, names = pool(seed, 2, 4, size)
        items = torch.tensor([[list(left)[:2]] for left in names])
        parts.append(spell(asked(own), Space(), items)[0])
    both = joined(parts)
    assert len(both.items) == 4
    for start, part in zip((0, 2), parts, strict=True):
        rows = Slates(*(tensor[start : start + 2] for tensor in both))
        longer = rows.real.shape[2] - part.real.shape[2]
        assert torch.equal(rows.real, pad(part.real, (0, longer)))
        wider = rows.open.shape[3] - part.open.shape[3]
        assert torch.equal(rows.open[:, :, : part.open.shape[2]], pad(part.open, (0, wider)))
        assert (rows.open.sum(-1)[~rows.real] == 1).all()
    swapped = both.with_groups(torch.tensor([0]), Slates(*(tensor[3:] for tensor in both)))
    assert torch.equal(swapped.items[0], both.items[3])
    assert torch.equal(swapped.items[1:], both.items[1:])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_pools_that_are_given_the_items_wanted(seed):
    """They hold all that is wanted and as much of the old pool as there is room for, from its front."""
    generator = np.random.default_rng(seed)
    own = generator.permutation(30)[: generator.integers(5, 9)]
    full = np.concatenate([own, np.full(8 - len(own), -1)]) if len(own) < 8 else own
    wanted = np.concatenate([generator.permutation(30)[: generator.integers(0, 5)], [-1]])
    found = with_wanted(full, wanted, np.random.default_rng(seed))
    assert found.shape == full.shape
    held = found[found >= 0].tolist()
    assert len(set(held)) == len(held)
    assert set(wanted[wanted >= 0].tolist()) <= set(held)
    others = [item for item in own.tolist() if item not in wanted]
    kept = [item for item in held if item in others]
    assert kept == others[: len(kept)]  # the best of the others, in their order
    assert len(held) == min(8, len(set(own.tolist()) | set(wanted[wanted >= 0].tolist())))


def test_wanted_items_stand_anywhere():
    """At the pool's end they would tell that they are wanted: over 400 draws each place comes up."""
    places = [
        with_wanted(np.arange(10), np.array([77]), np.random.default_rng(seed)).tolist().index(77)
        for seed in range(400)
    ]
    counts = np.bincount(places, minlength=10)
    assert (counts > 15).all()


def test_nothing_is_changed_where_nothing_is_missing():
    own = np.array([4, 2, 9, -1])
    assert with_wanted(own, np.array([9, -1]), np.random.default_rng(0)) is own


def test_a_whole_pool_is_a_permutation():
    """Six candidates: a slate of all of them; the walk itself never runs out before."""
    own, names = pool(5, 1, 7)
    walk = NameWalk(own, 3, 6)
    while walk.writing.any():
        walk.take(walk.open().long().argmax(-1))
    assert [sorted(items) for items in walk.items[0].tolist()] == [sorted(names[0])] * 3
