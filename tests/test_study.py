"""The tables of the study, from cells that are made up so that every figure is known."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import study, study_cells, study_swaps, study_tables, study_training
from benchmarks.study_cells import SFT, TAKEN, Cells
from stages.core import params

SAGE, GBPO, COUNTS = "semantic_id-sage", "semantic_id-gbpo", "transitions"
USERS = 40


def cell(folder, row, seed, ndcg, cold=(), decoder="slate", reward=None):
    """A kept cell: every user has this N@10; user u shows cold item u of `cold`, where there is one."""
    own = folder / row
    own.mkdir(exist_ok=True)
    table = pd.DataFrame({"user": range(USERS), "decoder": decoder, **dict.fromkeys(TAKEN, ndcg)})
    table["cold_recall@10"] = np.where(table["user"] < 4, 0.5, np.nan)
    table.to_parquet(own / f"per_user-{seed}.parquet")
    shown = [(user, decoder, item) for user, item in enumerate(cold)]
    pd.DataFrame(shown, columns=["user", "decoder", "item"]).to_parquet(own / f"cold-{seed}.parquet")
    detail = {name: [0.25, None, None] for name in study_tables.COVERAGE}
    told = {"detail": {"test": {decoder: detail}}, "counts": {"cold_items": [50]}}
    (own / f"metrics-{seed}.json").write_text(json.dumps(told))
    if reward is not None:
        held = {"user": np.arange(USERS), "position": 1, "temperature": 0.3, "reward": reward}
        both = [pd.DataFrame({**held, "decoder": name}) for name in ("sampled", "slate")]
        pd.concat(both).to_parquet(own / f"heldout-{seed}.parquet")


@pytest.fixture
def cells(tmp_path):
    spread = np.linspace(0, 0.1, USERS)
    for seed in (1, 2):
        cell(tmp_path, SFT, seed, 0.1, [0] * USERS, reward=spread)
        cell(tmp_path, SAGE, seed, 0.1 + seed / 100, range(USERS), reward=spread + seed / 100)
    cell(tmp_path, GBPO, 1, 0.11, [0] * USERS, reward=spread)
    cell(tmp_path, COUNTS, 1, 0.2, decoder="list")
    return Cells(tmp_path)


def test_held_out_is_less_the_same_seeds_of_sft(cells):
    table = study_tables.held_out(cells, params.load(), SFT).set_index(["row", "decoder"])
    sage, gbpo = table.loc[(SAGE, "slate")], table.loc[(GBPO, "sampled")]
    assert sage["less"] == pytest.approx(0.015)
    assert sage["by seed"] == pytest.approx([0.01, 0.02])
    assert (sage["seeds"], sage["users"], sage["verdict"]) == (2, USERS, "above")
    assert (gbpo["seeds"], gbpo["less"], gbpo["verdict"]) == (1, 0, "null")


def test_held_out_is_less_another_policy_where_seeds_meet(cells):
    table = study_tables.held_out(cells, params.load(), SAGE).set_index(["row", "decoder"])
    assert table.loc[(GBPO, "slate"), "less"] == pytest.approx(-0.01)
    assert table.loc[(SFT, "slate"), "less"] == pytest.approx(-0.015)
    assert not len(study_tables.held_out(cells, params.load(), COUNTS))


@pytest.mark.parametrize(
    ("less", "share", "said"),
    [
        ((0.1, 0.01, 0.2), 0.9, "above"),
        ((-0.1, -0.2, -0.01), 0.1, "below"),
        ((0, -1, 1), 0.05, "null"),
        ((0, -1, 1), 0.051, "open"),
    ],
)
def test_verdicts(less, share, said):
    assert study_tables.verdict(less, share) == said


def test_lists_stand_beside_sfts_slate(cells):
    table = study_tables.lists(cells, params.load()).set_index(["row", "list"])
    assert table.loc[(COUNTS, "list"), "N@10 less SFT's slate"] == pytest.approx(0.1)
    assert table.loc[(SAGE, "slate"), "N@10 less SFT's slate"] == pytest.approx(0.015)
    assert table.loc[(SAGE, "slate"), "less SFT's own list"] == pytest.approx(0.015)
    assert np.isnan(table.loc[(COUNTS, "list"), "less SFT's own list"])
    assert table.loc[(SAGE, "slate"), ["cold hits", "cold targets"]].tolist() == [2, 4]


def test_pairs_compare_common_seeds_and_correct_their_family(cells):
    table = study_tables.pairs(cells, params.load(), SAGE).set_index(["less", "measure"])
    assert table.loc[(GBPO, "ndcg@10"), ["seeds", "users"]].tolist() == [1, USERS]
    assert table.loc[(GBPO, "ndcg@10"), "difference"] == pytest.approx(0.0)  # of seed 1 alone
    assert table.loc[(SFT, "ndcg@10"), "by seed"] == pytest.approx([0.01, 0.02])
    assert table.loc[(COUNTS, "ndcg@10"), ["seeds", "difference"]].tolist() == pytest.approx([2, 0.115 - 0.2])
    assert table["corrected"].groupby(level=0).all().to_dict() == {SFT: False, GBPO: True, COUNTS: False}


def test_cold_coverage_is_tested_by_swapping_users(cells):
    """SAGE shows 40 cold items, one a user, SFT one and the same: (40 - 1) / 50. Swapped, either shows about 20."""
    table = study_tables.coverage(cells, params.load(), SAGE).set_index("less")
    assert table.loc[SFT, "difference"] == pytest.approx(39 / 50)
    assert table.loc[SFT, "p"] < 0.001
    assert -0.5 < table.loc[SFT, "chance low"] < 0 < table.loc[SFT, "chance high"] < 0.5
    assert np.isnan(table.loc[SAGE, "p"])


def printed(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["study", *map(str, arguments)])
    study.main()
    return capsys.readouterr().out


def test_tables_are_printed_of_what_is_kept(cells, monkeypatch, capsys):
    out = printed(monkeypatch, capsys, cells.folder)
    titles = ("bounds", "training", "looks", "drift", "held-out, less SFT", "lists", "pairs", "coverage")
    assert all(f"\n{title}" in f"\n{out}" for title in titles)
    with pytest.raises(SystemExit, match="no row 'semantic_id-grpo' is kept; there are: semantic_id-gbpo,"):
        printed(monkeypatch, capsys, cells.folder, "--against", "semantic_id-grpo")


def test_one_cell_alone_has_tables(tmp_path, monkeypatch, capsys):
    cell(tmp_path, SAGE, 1, 0.1, range(USERS), reward=np.linspace(0, 0.1, USERS))
    assert "bounds\nnone is kept" in printed(monkeypatch, capsys, tmp_path)
    cell(tmp_path, SFT, 2, 0.1, reward=np.linspace(0, 0.1, USERS))  # another seed: nothing to compare
    assert "coverage" in printed(monkeypatch, capsys, tmp_path)


def test_a_file_that_is_missing_is_named(cells):
    cells.check()
    (cells.folder / SAGE / "cold-2.parquet").unlink()
    with pytest.raises(SystemExit, match=r"cold-2.parquet: no such file; keep row semantic_id-sage, seed 2 anew"):
        cells.check()


def test_cells_of_other_users_are_refused(cells, tmp_path):
    path = tmp_path / SAGE / "heldout-2.parquet"
    held = pd.read_parquet(path)
    held[held["user"] > 0].to_parquet(path)
    with pytest.raises(SystemExit, match="other users in semantic_id-sft, seed 2, held out than in semantic_id-sage"):
        cells.check()
    path = tmp_path / COUNTS / "per_user-1.parquet"
    pd.read_parquet(path).assign(user=lambda table: table["user"] + 1).to_parquet(path)
    with pytest.raises(
        SystemExit, match="other users in transitions, seed 1, list than in semantic_id-gbpo, seed 1, slate"
    ):
        Cells(tmp_path).check()


def test_a_swap_gives_a_users_cold_items_to_the_other():
    user, item, whose = np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([0, 0, 1])
    assert study_swaps.difference(user, item, whose, np.array([False, False, False])) == 2 - 1
    assert study_swaps.difference(user, item, whose, np.array([False, True, True])) == 1 - 1


def test_what_is_kept_is_of_the_test_split():
    """Item 1 is cold; of the rank-11 item, the other split and the pool nothing is kept, nor of an empty slot."""
    rows = [("test", "slate", 1, 1), ("test", "slate", 2, 0), ("test", "beam", 11, 1), ("valid", "slate", 1, 1)]
    rows += [("test", "pool", 1, 1), ("test", "beam", 3, -1), ("test", "beam", 10, 1)]
    lists = pd.DataFrame(rows, columns=["split", "decoder", "rank", "item"]).assign(user=7)
    kept = study_cells.cold_items(lists, np.array([False, True]))
    assert kept.to_numpy().tolist() == [[7, "slate", 1], [7, "beam", 1]]
    values = pd.DataFrame({"user": 7, "split": ["test", "valid"], "decoder": "slate", "mrr@10": 0.5})
    values = study_cells.judged(values.assign(**dict.fromkeys(TAKEN, 0.25)))
    assert values.to_numpy().tolist() == [[7, "slate", *[0.25] * len(TAKEN)]]


def test_bounds_are_of_the_last_half(tmp_path):
    (tmp_path / SAGE).mkdir()
    for seed in (1, 2):
        curve = {"step": [1, 2, 3, 4], "ratio_mean": [9, 9, seed, seed + 1], "gbpo_cosine": [np.nan, 9, 0.25, 0.75]}
        pd.DataFrame(curve).to_csv(tmp_path / SAGE / f"curve-{seed}.csv")
    table = study_training.bounds(Cells(tmp_path))
    assert table.loc[(SAGE, "1"), "ratio_mean"] == 1.5
    assert table.loc[(SAGE, "mean"), ["ratio_mean", "gbpo_cosine", "cosine_min"]].tolist() == [2.0, 0.5, 0.25]


def test_training_goes_from_the_first_rollout_to_the_last_half(tmp_path):
    assert study_training.training(Cells(tmp_path)).empty
    for row, names in ((SAGE, ["reward", "reward_click", "kl"]), (GBPO, ["reward"])):
        (tmp_path / row).mkdir()
        for seed in (1, 2):
            curve = {"step": [1, 2, 3, 4], **{name: [seed, 9, 3 * seed, 5 * seed] for name in names}}
            pd.DataFrame(curve).to_csv(tmp_path / row / f"curve-{seed}.csv")
    table = study_training.training(Cells(tmp_path))
    assert table.loc[(SAGE, "reward_click")].tolist() == [1.5, 6, 5.625]
    assert list(table.index) == [(GBPO, "reward"), (SAGE, "reward"), (SAGE, "reward_click")]


def test_looks_are_of_the_published_policy(tmp_path):
    """The best on the selecting half after the first look, also where SFT was better."""
    assert study_training.looks(Cells(tmp_path)).empty
    (tmp_path / SAGE).mkdir()
    for seed in (1, 2):
        look = {"step": [0, 1, 2], "selection_reward": [9, 5, 3], "heldout_greedy_reward": [1, seed, 7]}
        pd.DataFrame(look).to_csv(tmp_path / SAGE / f"heldout-{seed}.csv")
    table = study_training.looks(Cells(tmp_path))
    assert table.loc[SAGE].tolist() == [9, 5, 1, 1.5]


def test_drift_is_the_mean_of_what_is_kept(tmp_path):
    assert study_training.drift(Cells(tmp_path)).empty
    for seed in (1, 2):
        (tmp_path / f"drift-{seed}.json").write_text(json.dumps({"seed": seed, "sage": {"belief": seed}}))
    (tmp_path / "drift-3.json").write_text('{"seed": 3, "sage": {"belief": 3}, "gbpo": {"belief": 3}}')
    table = study_training.drift(Cells(tmp_path))
    assert table["belief"].to_dict() == {"sage": 2, "gbpo": 3}
    assert table["seeds"].to_dict() == {"sage": 3, "gbpo": 1}
    (tmp_path / "drift-4.json").write_text("[1]")
    with pytest.raises(SystemExit, match=r"drift-4.json: not the last line of benchmarks.drift"):
        study_training.drift(Cells(tmp_path))


def test_curves_are_drawn(tmp_path):
    with pytest.raises(SystemExit, match="no curve of RL is kept there"):
        study.draw(Cells(tmp_path), tmp_path / "curves.svg")
    for row, seed in ((SAGE, 1), (SAGE, 2), (GBPO, 1), (SFT, 1)):
        (tmp_path / row).mkdir(exist_ok=True)
        steps = pd.DataFrame({"step": [1, 2], "entropy": [1.0, 1.5], "cold_mass": [0.1, 0.2]})
        (steps.iloc[:1] if row == SFT else steps).to_csv(tmp_path / row / f"curve-{seed}.csv")
        looks = pd.DataFrame({"step": [0, 2], "heldout_greedy_reward": [0.1, 0.2]})
        looks.to_csv(tmp_path / row / f"heldout-{seed}.csv")
    study.draw(Cells(tmp_path), tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    assert all(name in drawn for name in ("probability of cold items", "held-out reward, greedy", SAGE, GBPO))
    assert SFT not in drawn


def test_different_users_are_refused():
    first, second = pd.DataFrame({"x": [1.0]}, index=[0]), pd.DataFrame({"x": [1.0]}, index=[1])
    with pytest.raises(SystemExit, match="different users; keep them anew"):
        study_tables.mean_over({1: first, 2: second}, [1, 2])
