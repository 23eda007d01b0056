"""SASRec, with the cross-entropy over the whole catalogue where its section says no other: the strong row.

    loss = -log softmax(F_t . E)[j_(t + 1)]   at every position t of a window

Self-attentive sequential recommendation (arXiv 1808.09781), the encoder and its equations in
stages/baselines/attention.py, losses in item_losses.py.

Where we differ from the paper: the loss (its own is the row `sasrec_bce`); blocks as BERT's, normalised behind each
part and with GELU; windows cut at a place drawn anew in each epoch, where the paper learns from the last L items alone;
decoupled weight decay, 0 as shipped.
"""

from stages.baselines.base import Given, Outcome
from stages.baselines.self_attention import LOSSES, Sasrec, SasrecParams, outcome

AXIS = "sequential_baselines"
Params = SasrecParams


def recommend(given: Given, params: Params) -> Outcome:
    """Train on the histories and rank the catalogue for each user."""
    return outcome(Sasrec(given, params, LOSSES[params.loss], "sasrec"), given, "sasrec")
