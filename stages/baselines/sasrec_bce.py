"""SASRec as published: each target against one item that the user has not seen; the weak row of the papers.

    loss = -log sigmoid(F_t . E_(t + 1)) - log(1 - sigmoid(F_t . E_j))   j drawn evenly from the unseen (Eq. 10)

The same code as `sasrec`, with a section of its own, so that both losses stand side by side in the tables.
"""

from stages.baselines.base import Given, Outcome
from stages.baselines.self_attention import LOSSES, Sasrec, SasrecParams, outcome

AXIS = "sequential_baselines"
Params = SasrecParams


def recommend(given: Given, params: Params) -> Outcome:
    """Train on the histories and rank the catalogue for each user."""
    return outcome(Sasrec(given, params, LOSSES[params.loss], "sasrec_bce"), given, "sasrec_bce")
