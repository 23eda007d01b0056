"""LC-Rec: a causal language model with item ids in its vocabulary, taught what they mean (arXiv 2311.09049).

    loss = - sum over tasks of w_task sum over the response's tokens of log p(token | prompt, response so far)

Tasks: the next item of a history (`seqrec`), an item's id behind its title and the other way round (`item2index`,
`index2item`), and both at once (`fusion`): the next item's id behind the titles of a history, its title behind their
ids. The next items are searched by a beam that is held to the catalogue (stages/baselines/trie_beam.py).

Where we differ: no item search and no preferences, whose texts the authors had another language model write; titles
alone, without descriptions; one wording per task; and all prefixes of a history as one example of `seqrec`, which a
causal model reads at once: the losses are those of an example for each prefix.
"""

from typing import Annotated

from pydantic import Field

from stages.baselines.base import GivenModels, Outcome
from stages.baselines.loop import Schedule
from stages.core.language_models import Backbone
from stages.core.section import BeamSection, Count, NotNegative, Rate, Section
from stages.core.spelling_sections import Ids

AXIS = "generative_baselines"


class Tasks(Section):
    """Weights of the tasks' tokens in the loss; 0: no such task."""

    seqrec: Annotated[float, Field(gt=0)]
    item2index: NotNegative
    index2item: NotNegative
    fusion: NotNegative


class Params(BeamSection, Schedule):
    """Section `lcrec` of params.yaml."""

    lr: Rate | None  # type: ignore[assignment]
    """null: the backbone's sft_lr."""
    ids: Ids
    tasks: Tasks
    history_items: Count
    """Items of context, the latest."""
    title_items: Count
    """Items of context where they are told by their titles."""
    title_tokens: Count
    """Of a title, at most, before what tells it from its namesakes."""
    vocabulary: Annotated[int, Field(ge=300)]
    """Tokens of the tokenizer that is trained on titles, for backbones from scratch."""
    max_examples: Count | None
    """Of an epoch, all tasks together, drawn anew in each; null: all."""


def recommend(given: GivenModels, params: Params) -> Outcome:
    """Make ids, teach the language model, and search each user's likeliest items."""
    from stages.baselines.item_ids import item_codes
    from stages.baselines.lcrec_learner import outcome

    return outcome(given, at_rate(params, given.language_model), item_codes(given, params.ids, "lcrec"))


def at_rate(params: Params, body: Backbone) -> Params:
    """The section with the learning rate that it leaves to the backbone."""
    return params if params.lr is not None else params.model_copy(update={"lr": body.sft_lr})
