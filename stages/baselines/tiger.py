"""TIGER: an encoder-decoder that reads the ids of a history and writes the id of the next item (arXiv 2305.05065).

    loss = - sum over levels of log p(code of the next item | user token, codes of the last items, its codes so far)

T5 from scratch, RQ-VAE ids with a code behind them that tells apart items that share theirs. The next items are
searched by a beam that is held to the catalogue (stages/baselines/trie_beam.py), so that every id is an item's.

Where we differ: AdamW with a cosine, where the paper has an inverse square root; the sentence encoder and the RQ-VAE
of stages/semantic_ids; `max_examples`, for what has to be trained on a CPU, and `targets` above 1, for the same reason.
"""

from typing import Annotated

from pydantic import Field

from stages.baselines.base import GivenModels, Outcome
from stages.baselines.loop import Schedule
from stages.core.section import BeamSection, Count
from stages.core.spelling_sections import Ids

AXIS = "generative_baselines"


class Params(BeamSection, Schedule):
    """Section `tiger` of params.yaml."""

    ids: Ids
    hidden_size: Count
    layers: Count
    """Of the encoder, and as many of the decoder."""
    heads: Count
    head_size: Count
    feed_forward: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    user_tokens: Count
    """Tokens that users are hashed to; one stands before the history."""
    history_items: Count
    """Items of context, the latest."""
    targets: Count
    """Items behind a history that it has to predict, each by itself, in training."""
    max_examples: Count | None
    """Histories of an epoch, drawn anew in each among all prefixes of all users' training items; null: all."""


def recommend(given: GivenModels, params: Params) -> Outcome:
    """Make ids, train on the histories, and search each user's likeliest items."""
    from stages.baselines.item_ids import item_codes
    from stages.baselines.tiger_learner import outcome

    return outcome(given, params, item_codes(given, params.ids, "tiger"))
