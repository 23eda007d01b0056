"""What may come next inside a pool, against plain string matching."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.action_spaces.candidates import Candidates

END = 9


def pool(seed: int, users: int, items: int, size: int = 3) -> tuple[Candidates, list[list[tuple[int, ...]]]]:
    """Random names of 0 to 3 tokens out of `size`, END behind, none twice in a pool; the last user has one less."""
    generator, names = np.random.default_rng(seed), []
    for user in range(users):
        own: set[tuple[int, ...]] = set()
        while len(own) < items - (user == users - 1):
            own.add((*generator.integers(size, size=generator.integers(0, 4)).tolist(), END))
        names.append([list(own)[i] for i in generator.permutation(len(own))])
    tokens, length = torch.zeros(users, items, 4, dtype=torch.int64), torch.zeros(users, items, dtype=torch.int64)
    for user, own in enumerate(names):
        for index, name in enumerate(own):
            tokens[user, index, : len(name)] = torch.tensor(name)
            length[user, index] = len(name)
    return Candidates(tokens, length), names


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_every_token_of_random_slates(seed):
    """The softmax is over the distinct next tokens of the names that are left and begin as what is written."""
    candidates, names = pool(seed, 2, 6)
    generator = np.random.default_rng(seed)
    chosen = torch.tensor([[generator.permutation(len(own))[:3].tolist() for _ in range(2)] for own in names])
    spelled = candidates.spell(chosen)
    logits_of_token = torch.from_numpy(generator.normal(size=END + 1)).float()
    taken = torch.zeros(2, 2, spelled.token.shape[2], 6, dtype=torch.bool)
    for place in range(3):
        before = torch.nn.functional.one_hot(chosen[:, :, :place], 6).sum(2).bool()
        taken = torch.where((spelled.place == place)[..., None], before[:, :, None], taken)
    now = chosen.gather(2, spelled.place).flatten(1)
    depth = spelled.depth.flatten(1)
    fitting = candidates.fitting(now, depth, taken.flatten(1, 2))
    found = candidates.log_probs(logits_of_token[candidates.next_tokens(depth)], fitting, depth)
    found = found.gather(2, now[..., None])[..., 0].view(2, 2, -1)
    for user, own in enumerate(names):
        for slate in range(2):
            wanted, flat = [], []
            left = set(own)
            for item in chosen[user, slate].tolist():
                for at, token in enumerate(own[item]):
                    tokens = sorted({name[at] for name in left if name[:at] == own[item][:at]})
                    wanted.append(float(torch.log_softmax(logits_of_token[tokens], 0)[tokens.index(token)]))
                    flat.append(token)
                left.remove(own[item])
            real = spelled.real[user, slate]
            assert spelled.token[user, slate][real].tolist() == flat
            assert np.allclose(found[user, slate][real], wanted, atol=1e-5)
            assert not spelled.real[user, slate, len(flat) :].any()


def test_a_pool_that_is_not_full():
    """The last user has five candidates: the sixth place is none, whatever its tokens are."""
    candidates, _ = pool(0, 2, 6)
    start = torch.zeros(2, 1, dtype=torch.int64)
    fitting = candidates.fitting(start, start, torch.zeros(2, 1, 6, dtype=torch.bool))
    assert fitting[:, 0].sum(1).tolist() == [6, 5]
