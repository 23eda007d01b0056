"""What a second round of SFT learns beside the log: the best slates that RL came upon (stages/policy/harvest.py)."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import ActionSpace, Asking
from stages.corpus.histories import Histories, Ints
from stages.corpus.reserve import logged_after
from stages.policy.slate_label import Example, shown_items, slate_loss


@dataclass(frozen=True)
class HarvestLessons:
    """Every context of a harvest once per epoch, less what sft.max_examples leaves out of all lessons together.

    The slate is written behind the prompt that RL gave.
    """

    space: ActionSpace
    asking: Asking
    examples: list[Example]
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, space: ActionSpace, asking: Asking, harvest: pa.Table, weight: float) -> "HarvestLessons":
        """Lessons from a table of schema.HARVEST; weight: of their tokens in the loss."""
        examples = [
            Example(
                np.array([row["user"], row["position"]]),
                np.array(row["items"], dtype=np.int64),
                np.full(len(row["items"]), weight, np.float32),
            )
            for row in harvest.to_pylist()
        ]
        return cls(space, asking, examples, {"harvested": len(examples)})

    def epoch(self, number: int) -> list[Example]:
        """All of them."""
        return self.examples

    def size(self, example: Example) -> int:
        """Items of the history that is shown and of the slate."""
        return shown_items(example, self.asking)

    def loss(self, model: PreTrainedModel, examples: list[Example]) -> tuple[Tensor, Tensor]:
        """Weighted sum of the negative log-probabilities (nats) of the slates' tokens, and of their weights."""
        return slate_loss(model, self.space, self.asking, examples)


def with_logged(harvest: pa.Table, histories: Histories, horizon: int, space: ActionSpace, asking: Asking) -> pa.Table:
    """The harvest with the log in the place of the slates: all that the user went on to and that can be recommended.

    A control: what a second round gains by it comes from the part of the log that the first SFT did not see.
    """
    contexts: Ints = np.stack([harvest["user"].to_numpy(), harvest["position"].to_numpy()], 1).astype(np.int64)
    logged, _ = logged_after(histories, contexts, horizon)
    known, offered = histories.items_before(contexts), space.offered(contexts)
    items = []
    for row, own in enumerate(logged):
        own = own[~np.isin(own, known[row])] if asking.exclude_seen else own
        own = own if offered is None else own[np.isin(own, offered[row])]
        items.append(list(dict.fromkeys(own.tolist()))[: asking.slate_length])
    field_ = harvest.schema.field("items")
    return harvest.set_column(harvest.schema.get_field_index("items"), field_, pa.array(items, field_.type))
