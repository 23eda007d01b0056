"""SASRec as published: each target against one item that the user has not seen; the weak row of the papers.

    loss = -log sigmoid(F_t . E_(t + 1)) - log(1 - sigmoid(F_t . E_j))   j drawn evenly from the unseen (Sec. III-E)

The same code as `sasrec`, with a section of its own, so that both losses stand side by side in the tables.
"""

from typing import Literal

from stages.baselines.base import Given, Outcome
from stages.baselines.self_attention import LOSSES, Sasrec, SasrecParams, outcome

AXIS = "sequential_baselines"


class Params(SasrecParams):
    """Section `sasrec_bce` of params.yaml."""

    loss: Literal["bce"]
    """The row's own: `sasrec` has the others."""


def recommend(given: Given, params: Params) -> Outcome:
    """Train on the histories and rank the catalogue for each user."""
    return outcome(Sasrec(given, params, LOSSES[params.loss], "sasrec_bce"), given, "sasrec_bce")
