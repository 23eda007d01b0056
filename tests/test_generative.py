"""What `tiger` and `lcrec` have in common: ids, lists, and that training sees no held-out item and can be resumed."""

import functools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stages.action_spaces.trie import Trie
from stages.baselines import item_ids, loop
from stages.baselines.trie_beam import likeliest
from stages.core import params
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.errors import InputError
from tests import small_generative, small_histories
from tests.small_generative import CODES, MODULES, given, outcome, section
from tests.small_histories import N

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "generative_lists.json"
both = pytest.mark.parametrize("name", MODULES)


@pytest.fixture(autouse=True)
def _checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))


def golden_lists(name: str, folder: Path) -> dict[str, list[list[int]]]:
    found = outcome(name, given(small_histories.log(), folder), section(name)).lists
    return {split: items[:10].tolist() for split, (items, _) in found.items()}


@both
def test_the_first_ten_lists_are_golden(name, tmp_path):
    """They change in a commit that says why; to renew them: python -m tests.test_generative FOLDER."""
    assert golden_lists(name, tmp_path) == json.loads(GOLDEN.read_text())[name]


@both
def test_a_run_from_text_to_lists(name, tmp_path):
    """Ids from text; every list holds distinct unseen items; the same run gives the same bytes."""
    log, params = small_histories.log(), section(name, epochs=1)
    own = given(log, tmp_path)
    runs = [MODULES[name].recommend(given(log, tmp_path), params) for _ in range(2)]
    for split, (items, scores) in runs[0].lists.items():
        users = own.users[split]
        assert items.shape == scores.shape == (len(users), 5)
        assert np.isfinite(scores).all()
        assert (np.diff(scores, axis=1) <= 0).all()
        for user, row in zip(users, items, strict=True):
            assert len(set(row)) == 5
            assert not set(row) & set(log.context(user, split))
        assert np.array_equal(items, runs[1].lists[split][0])
    codes = runs[0].weights["codes"]
    assert len(np.unique(codes, axis=0)) == N
    assert all(torch.equal(weight, runs[1].weights[key]) for key, weight in runs[0].weights.items())


@both
@pytest.mark.parametrize("split", ["test", "valid"])
def test_permuting_held_out_items_leaves_the_weights_as_they_are(name, tmp_path, split):
    """Test items: of three epochs the same is the best. Validation items choose among epochs; here there is one."""
    log, params = small_histories.log(), section(name, epochs=3 if split == "test" else 1)
    judged, item = np.flatnonzero(log.target(split) >= 0), log.item.copy()
    other = np.roll(log.target(split)[judged], 1)
    item[log.offsets[judged + 1] - {"test": 1, "valid": 2}[split]] = other
    target = log.target(split).copy()
    target[judged] = other
    changed = replace(log, item=item, **{split: target})
    assert not np.array_equal(changed.item, log.item)
    before, after = (outcome(name, given(own, tmp_path), params).weights for own in (log, changed))
    assert all(torch.equal(weight, after[key]) for key, weight in before.items())


class KilledError(Exception):
    pass


@both
@pytest.mark.parametrize(("pace", "at"), [("99", (1, 0)), ("1", (1, 2))])
def test_a_run_that_was_killed_ends_with_the_same_weights(name, tmp_path, monkeypatch, pace, at):
    """Killed in epoch 2 behind its second batch, taken up again at the epoch's beginning or there: weights, lists and
    curve are those of an undisturbed run, dropout and draws included.
    """
    log, params = small_histories.log(), section(name, batch_size=16, epochs=2)
    own = given(log, tmp_path)
    whole = outcome(name, own, params)
    curve = own.curve.path.read_bytes()
    monkeypatch.setenv("SAGE_CHECKPOINT_STEPS", pace)

    def progress(batches, what):
        for step, batch in enumerate(batches):
            if (what, step) == (f"{name}, epoch 2", 2):
                raise KilledError
            yield batch

    own = replace(own, checkpoint=Checkpoint("killed", "f00d"), curve=Curve(tmp_path / "again.csv"))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "progress", progress)
        with pytest.raises(KilledError):
            outcome(name, own, params)
    _, values = own.checkpoint.load()
    assert (values["epoch"], values["step"]) == at
    again = outcome(name, replace(own, checkpoint=Checkpoint("killed", "f00d")), params)
    assert all(torch.equal(weight, again.weights[key]) for key, weight in whole.weights.items())
    assert own.curve.path.read_bytes() == curve
    for split, lists in whole.lists.items():
        assert all(np.array_equal(one, other) for one, other in zip(lists, again.lists[split], strict=True))


@both
def test_a_run_that_is_taken_up_again_has_the_ids_it_began_with(name, tmp_path, monkeypatch):
    """Another processor rounds otherwise, and near ties would go to other codes."""
    own = given(small_histories.log(), tmp_path)
    first = item_ids.item_codes(own, section(name).ids, name)
    monkeypatch.setattr(item_ids, "embed", lambda *arguments: pytest.fail("embedded again"))
    again = replace(own, checkpoint=Checkpoint(own.checkpoint.cell, "f00d"))
    assert np.array_equal(item_ids.item_codes(again, section(name).ids, name), first)
    kept = own.checkpoint.folder / "codes.safetensors"
    kept.write_bytes(kept.read_bytes()[:40])
    monkeypatch.undo()
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(own.checkpoint.folder.parent))
    assert np.array_equal(item_ids.item_codes(own, section(name).ids, name), first)  # damaged: made again
    own.checkpoint.drop()
    assert not kept.exists()


@both
def test_a_catalogue_smaller_than_the_cutoff(name, tmp_path):
    """Four items, all users have seen two or three: what is left, then -1 with score 0."""
    corpus = small_histories.histories([[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 1], [2]], 4)
    found = outcome(name, given(corpus, tmp_path), section(name, epochs=1), CODES[:4])
    items, scores = found.lists["test"]
    assert items[:2].tolist() == [[3, -1, -1, -1, -1], [0, -1, -1, -1, -1]]
    assert (sorted(items[2, :2]), items[2, 2:].tolist()) == ([0, 1], [-1, -1, -1])
    assert (scores[items < 0] == 0).all()
    assert (scores[items >= 0] < 0).all()


@both
def test_nothing_to_learn_from(name, tmp_path):
    """Users with one training item teach nothing, and are recommended to where others do."""
    alone = small_histories.histories([[0, 1, 2], [3], [4]], N)
    with pytest.raises(InputError, match=rf"{name}: nothing to learn from: no user has two training items"):
        outcome(name, given(alone, tmp_path), section(name))
    corpus = small_histories.histories([[0, 1, 2, 3], [5, 6, 7], [4]], N)
    found = outcome(name, given(corpus, tmp_path), section(name, epochs=1))
    assert found.lists["valid"][0].shape == (2, 5)
    assert 5 not in found.lists["valid"][0][1]


@both
def test_an_item_outside_the_catalogue(name, tmp_path):
    corpus = small_histories.histories([[0, 1, 2, 3], [1, N, 2, 3]], N + 1)
    corpus = replace(corpus, items=corpus.items.slice(0, N))
    with pytest.raises(InputError, match=r"corpus: an item of a history is outside the catalogue, 0\.\.23"):
        outcome(name, given(corpus, tmp_path), section(name))


@both
def test_ids_that_do_not_fit(name, tmp_path):
    """What is said of codes names the baseline's own section."""
    own, ids = given(small_histories.log(), tmp_path), section(name).ids
    with pytest.raises(InputError, match=rf"24 items are fewer than 32 codes; lower {name}\.ids\.codebook_size"):
        item_ids.item_codes(own, ids.model_copy(update={"codebook_size": 32}), name)
    crowded = ids.model_copy(update={"codebook_size": 4, "levels": 2, "collisions": "sinkhorn"})
    with pytest.raises(InputError, match=rf"do not fit the 16 ids .*; raise {name}\.ids\.codebook_size or levels"):
        item_ids.item_codes(own, crowded, name)


def test_the_seed_of_ids(tmp_path):
    """Null takes the cell's; a number holds for all cells."""
    log, ids = small_histories.log(), section("tiger").ids
    one, two = given(log, tmp_path), given(log, tmp_path, seed=2)
    pinned = ids.model_copy(update={"seed": 2})
    assert not np.array_equal(item_ids.item_codes(one, ids, "tiger"), item_ids.item_codes(two, ids, "tiger"))
    three = given(log, tmp_path)
    assert np.array_equal(item_ids.item_codes(three, pinned, "tiger"), item_ids.item_codes(two, ids, "tiger"))


class Table:
    """A writer whose logits are a table over prefixes, equal for all that are alike."""

    def __init__(self, logits: dict[tuple[int, ...], list[float]], users: int) -> None:
        self.logits, self.written = logits, [[()] for _ in range(users)]

    def start(self):
        return self._told()

    def go_on(self, beam, code, level):
        self.written = [
            [(*rows[index], own) for index, own in zip(beams, codes, strict=True)]
            for rows, beams, codes in zip(self.written, beam.tolist(), code.tolist(), strict=True)
        ]
        return self._told()

    def _told(self):
        return torch.tensor([[self.logits.get(prefix, [0.0, 0.0]) for prefix in rows] for rows in self.written])


def test_closed_items_keep_their_share_and_ties_go_by_number():
    """Ids 00, 01, 10, 11 as items 3, 2, 1, 0. All logits are equal but for the first level's, 1 to 0 for code 0: items
    2 and 3 tie, in that order, before 0 and 1. With item 3 seen, item 2 scores as before: log(.731 * .5).
    """
    trie = Trie(np.array([[1, 1], [1, 0], [0, 1], [0, 0]]))
    first = float(torch.tensor(1.0).sigmoid())
    expected = {3: first / 2, 2: first / 2, 1: (1 - first) / 2, 0: (1 - first) / 2}
    items, scores = likeliest(Table({(): [1.0, 0.0]}, 2), trie, torch.tensor([[-1], [3]]), 4, 4)
    assert items.tolist() == [[2, 3, 0, 1], [2, 0, 1, -1]]
    assert scores[0].exp().tolist() == pytest.approx([expected[item] for item in (2, 3, 0, 1)])
    assert scores[1, :3].exp().tolist() == pytest.approx([expected[item] for item in (2, 0, 1)])
    assert scores[1, 3] == 0


def test_a_narrow_beam_loses_what_begins_badly():
    """The best item stands behind the worse first code: found by two beams, lost by one, which has another to show."""
    trie = Trie(np.array([[0, 0], [0, 1], [1, 0]]))
    logits = {(): [0.1, 0.0], (0,): [0.0, 0.0], (1,): [9.0, 0.0]}
    none = torch.tensor([[-1]])
    assert likeliest(Table(logits, 1), trie, none, 2, 1)[0].tolist() == [[2]]
    assert likeliest(Table(logits, 1), trie, none, 1, 1)[0].tolist() == [[0]]


OVERRIDE = re.compile(r"-S '?([\w.]+)=([^'\s]+)")


def test_documented_overrides_are_values_of_params_yaml(tmp_path):
    """Every command of the page, those for a GPU among them, makes a file that loads."""
    pages = [page.read_text() for page in (ROOT / "docs").glob("baselines*.md")]
    commands = [part for page in pages for part in re.findall(r"^dvc exp run(?:.*\\\n)*.*", page, re.MULTILINE)]
    assert any("backbone=qwen3-8b" in command for command in commands)
    for command in commands:
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        for key, value in OVERRIDE.findall(command):
            *path, last = key.split(".")
            section = functools.reduce(dict.__getitem__, path, values)
            assert last in section, f"{command}: params.yaml has no {key}"
            section[last] = yaml.safe_load(value)
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        params.load(tmp_path / "params.yaml")


if __name__ == "__main__":
    import os
    import sys

    os.environ["SAGE_CHECKPOINTS"] = f"{sys.argv[1]}/checkpoints"
    found = {name: golden_lists(name, Path(sys.argv[1], name)) for name in small_generative.MODULES}
    rows = ({split: str(lists) for split, lists in own.items()} for own in found.values())
    told = (",\n ".join(f'"{split}": {lists}' for split, lists in row.items()) for row in rows)
    body = ",\n".join(f'"{name}": {{\n {own}}}' for name, own in zip(found, told, strict=True))
    GOLDEN.write_text(f"{{{body}}}\n")
