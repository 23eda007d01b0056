"""Rewards on the reserve's reporting half: which temperature is taken, what is written, what the report makes of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stages.core import params
from stages.core.schema import HELD_OUT, conform
from stages.measures.bootstrap import interval
from stages.policy.heldout import CONTEXTS, Watch, sampled_rewards
from stages.reporting.heldout import held_out, scalars_of, table_of
from tests.test_step import CONTEXT_PAIRS, learner


def test_rewards_are_means_over_slates_in_any_batch(space, monkeypatch):
    """Of 3 slates a context, whose draws hang on the context alone; greedy slates do not differ."""
    own = learner(space)
    at = {"temperature": 0.7, "samples": 3, "seed": 5}
    whole = sampled_rewards(own.model, own.task, CONTEXT_PAIRS, **at)
    drawn = own.task.sample(own.model, CONTEXT_PAIRS, [0.7] * 3, 5, "held out").total
    assert np.allclose(whole, drawn.mean(1))
    monkeypatch.setattr("stages.policy.heldout.CONTEXTS", 3)
    assert CONTEXTS > 3
    assert np.allclose(sampled_rewards(own.model, own.task, CONTEXT_PAIRS, **at), whole)


def test_the_temperature_is_chosen_on_the_other_half(space):
    """Wide and narrow choices of the selecting half's contexts; the reporting half is sampled at the best of them."""
    own = learner(space)
    report = CONTEXT_PAIRS[:1]
    watch = Watch(own.task, CONTEXT_PAIRS[1:], report, None, np.array([0]), 3)
    temperatures = [0.05, 0.7, 5.0]
    earned = [sampled_rewards(own.model, own.task, CONTEXT_PAIRS[1:], t, 16, 3).mean() for t in temperatures]
    assert len(set(earned)) == 3
    best = temperatures[int(np.argmax(earned))]
    found = watch.rewards(own, temperatures, 16)
    conform(found, HELD_OUT, "heldout")
    sampled, slate = found.to_pylist()
    greedy = own.task.sample(own.model, report, [0.0], 0).total[0, 0]
    place = {"user": int(report[0, 0]), "position": int(report[0, 1])}
    assert slate == {**place, "decoder": "slate", "temperature": 0.0, "reward": pytest.approx(greedy)}
    exact = sampled_rewards(own.model, own.task, report, best, 16, 3)[0]
    assert sampled == {
        **place,
        "decoder": "sampled",
        "temperature": pytest.approx(best),
        "reward": pytest.approx(exact),
    }


def rewards(temperature: float, **values: list[float]) -> pd.DataFrame:
    """Users 0, 1, ..; the values are of two contexts each, by decoder."""
    parts = []
    for decoder, own in values.items():
        users = np.arange(len(own) // 2).repeat(2)
        at = temperature if decoder == "sampled" else 0.0
        parts.append(pd.DataFrame({"user": users, "decoder": decoder, "temperature": at, "reward": own}))
    return pd.concat(parts)


def test_differences_are_of_the_same_users():
    """Two seeds, of which the second's reserve holds user 0 alone: user 0 has the mean of both."""
    settings = SimpleNamespace(seed=1, resamples=200, confidence=0.95)
    tables = {
        "ids-sft": [
            rewards(0.3, sampled=[0, 0.2, 0.4, 0.4], slate=[0.1, 0.1, 0, 0]),
            rewards(0.5, sampled=[0.3, 0.3], slate=[0, 0]),
        ],
        "ids-sage": [
            rewards(0.7, sampled=[0.2, 0.2, 0.5, 0.7], slate=[0.1, 0.3, 0, 0.2]),
            rewards(0.7, sampled=[0.4, 0.4], slate=[0.2, 0.4]),
        ],
    }
    found = held_out(tables, dict.fromkeys(tables, "ids-sft"), settings)
    sage = next(each for each in found if (each.row, each.decoder) == ("ids-sage", "sampled"))
    assert sage.reward[0] == pytest.approx((0.3 + 0.6) / 2)
    assert sage.less_sft[0] == pytest.approx((0.3 - 0.2 + 0.6 - 0.4) / 2)
    assert sage.temperatures == [0.7, 0.7]
    generator = np.random.default_rng(0)
    wide = interval(np.array([0.1, 0.2]), 200, 0.95, generator)
    assert sage.less_sft[1:] == pytest.approx(tuple(wide), abs=1e-9)
    text = table_of(found).markdown()
    assert "| ids-sage | 0.4500 [0.3000, 0.6000] (0.7, 0.7) | +0.1500 [+0.1000, +0.2000] |" in text
    assert "| ids-sft | 0.3000 [0.2000, 0.4000] (0.3, 0.5) | - |" in text
    assert scalars_of(found, "ids-sft")["less_sft"] == {}
    assert scalars_of(found, "ids-sage")["sampled"] == pytest.approx(0.45)


def test_without_sft_there_is_no_difference():
    found = held_out(
        {"ids-sage": [rewards(0.7, sampled=[0.2, 0.2], slate=[0.1, 0.3])]},
        {"ids-sage": "ids-sft"},
        params.load().evaluate,
    )
    assert all(np.isnan(each.less_sft[0]) for each in found)
