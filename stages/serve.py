"""A slate for somebody who is in no corpus, by a policy of Semantic IDs out of the registry (docs/team.md).

No stage of the graph.

    python -m stages.serve --policy policy --ids ids --corpus corpus --history "50 172 181"
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from stages.action_spaces.semantic_id import Actions
from stages.core import params, stage
from stages.core.errors import InputError
from stages.corpus.histories import load
from stages.policy import adapters, backbone
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading

PARAMS = Path(__file__).parents[1] / "params.yaml"


def main(policy: str, ids: str, corpus: str, history: str) -> None:
    for item, title in Recommender(policy, ids, corpus).slate(history.split()):
        sys.stdout.write(f"{item}\t{title}\n")


class Recommender:
    """A policy with the catalogue that it was trained on, on the CPU."""

    def __init__(self, policy: str | Path, ids: str | Path, corpus: str | Path) -> None:
        """Load the three folders. Raises InputError where they do not fit together, or where the policy is adapters."""
        if (Path(policy) / adapters.CONFIG).exists():
            raise InputError(f"{policy}: adapters, and not a whole model; load them as README.md there says")
        settings = params.load(PARAMS).on("semantic_id")
        self._histories = load(Path(corpus))
        self._actions = Actions(Path(ids), self._histories, None, settings.policy)
        self._model, self._card = backbone.load(Path(policy), self._actions.fingerprint, Path(), settings.backbone)
        self._history_items, self._length = settings.sft.history_items, settings.rl.slate_length
        self._number = {name: number for number, name in enumerate(self._histories.items["item_id"].to_pylist())}
        self._titles = self._histories.items["title"].to_pylist()

    def slate(self, history: Sequence[str]) -> list[tuple[str, str]]:
        """The source's ids and titles of the slate for a history of such ids, oldest first; none of it comes again.

        Raises InputError for an id that the catalogue lacks.
        """
        if strange := [name for name in history if name not in self._number]:
            raise InputError(f"{strange[0]!r} is no item_id of the catalogue")
        known = np.array([self._number[name] for name in history], dtype=np.int64)
        asked = self._actions.prompts_of([known], self._history_items, self._card.label, exclude_seen=True)
        with torch.no_grad():
            written = sample_slates(Reading(self._model, asked), self._actions, [0.0], self._length, None)
        names = list(self._number)
        return [(names[item], self._titles[item]) for item in written.items[0, 0].tolist()]


if __name__ == "__main__":
    stage.run(main, __doc__, "policy", "ids", "corpus", "history")
