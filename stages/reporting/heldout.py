"""Rewards on contexts that nobody trained on: every policy at its own best temperature, and its distance from SFT."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.sections import Evaluate
from stages.core.seeding import numpy_generator
from stages.measures.bootstrap import interval
from stages.reporting.tables import Cell, Table, number, signed

Floats = npt.NDArray[np.float64]

DECODERS = {"sampled": "Sampled", "slate": "Greedy slate"}
NOTE = """Rewards are the log's, whatever RL learnt from: mean over the contexts of a user, then over the users of the
reserve's reporting half. Sampled: at the temperature, in parentheses by seed, that earns most on the other half. RL
makes policies sharper, and a sharper policy earns more when it is sampled; so each has its own temperature. In brackets
bootstrap intervals over users; a difference is of the same users' values."""


@dataclass(frozen=True)
class HeldOut:
    """Rewards of one policy under one decoder."""

    row: str
    decoder: str
    temperatures: Sequence[float]
    """By seed."""
    reward: tuple[float, float, float]
    """Mean and bounds."""
    less_sft: tuple[float, float, float]
    """The same for the difference from the SFT policy of the action space; NaN where that is no row."""


def held_out(
    tables: Mapping[str, Sequence[pd.DataFrame]], sft_of: Mapping[str, str], settings: Evaluate
) -> list[HeldOut]:
    """What every row earned; tables: schema.HELD_OUT by row, one per seed; sft_of: the row of a row's SFT policy."""
    found = []
    for decoder in DECODERS:
        users = {row: of_users(own, decoder) for row, own in tables.items()}
        for row, own in tables.items():
            rewards, base = users[row], users.get(sft_of[row])
            compared = base is not None and sft_of[row] != row
            less = bounds(rewards - base, settings) if compared else (math.nan, math.nan, math.nan)
            temperatures = [float(table.loc[table["decoder"] == decoder, "temperature"].iloc[0]) for table in own]
            found.append(HeldOut(row, decoder, temperatures, bounds(rewards, settings), less))
    return found


def of_users(tables: Sequence[pd.DataFrame], decoder: str) -> pd.Series:
    """Each user's mean over contexts, then over the seeds whose reserve the user is in."""
    parts = [table[table["decoder"] == decoder].groupby("user")["reward"].mean() for table in tables]
    return pd.concat(parts, axis=1).mean(axis=1).astype(np.float64)


def bounds(values: pd.Series, settings: Evaluate) -> tuple[float, float, float]:
    """Mean over users with a bootstrap interval; every row gets the same weights."""
    generator = numpy_generator(settings.seed, "evaluate", "bootstrap")
    low, high = interval(values.to_numpy(), settings.resamples, settings.confidence, generator)
    return float(values.mean()), float(low), float(high)


def table_of(found: Sequence[HeldOut]) -> Table:
    """One line per row: what it earned, and less what its SFT policy earned."""
    rows = dict.fromkeys(each.row for each in found)
    by_name = {(each.row, each.decoder): each for each in found}
    body = []
    for row in rows:
        cells = [row]
        for decoder in DECODERS:
            own = by_name[row, decoder]
            at = f" ({', '.join(f'{value:g}' for value in own.temperatures)})" if decoder == "sampled" else ""
            cells += [number(*own.reward) + at, "-" if math.isnan(own.less_sft[0]) else signed(*own.less_sft)]
        body.append([Cell(text) for text in cells])
    head = ["Row", *(text for name in DECODERS.values() for text in (name, f"{name}, less SFT's"))]
    return Table("Held-out reward", head, body, [NOTE])


def scalars_of(found: Sequence[HeldOut], row: str) -> dict[str, object]:
    """A row's figures for metrics/<dataset>.json: scalars, and as lists bounds and differences."""
    own = {each.decoder: each for each in found if each.row == row}
    known = {name: each for name, each in own.items() if not math.isnan(each.less_sft[0])}
    return {
        **{name: each.reward[0] for name, each in own.items()},
        "intervals": {name: list(each.reward[1:]) for name, each in own.items()},
        "less_sft": {name: list(each.less_sft) for name, each in known.items()},
    }
