"""RecIF's tasks as text: the prompts of text.policy.tasks with the items shown, and candidates, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.spelling_sections import TaskPrompts
from stages.corpus.histories import Ints
from stages.corpus.recif_parts import BEHAVIOURS
from stages.rendering import templates as words
from stages.rendering.prompts import Parts

HISTORY = "{history}\n"


@dataclass(frozen=True)
class TaskRenderer:
    """Renders samples of tasks over one corpus."""

    prompts: TaskPrompts
    names: Sequence[str]
    """Of the items, as the history has them."""
    lines: Sequence[str]
    """Each item as a candidate."""

    def parts(
        self,
        task: str,
        condition: str,
        shown: Ints,
        pool: Ints | None,
        candidate: int = -1,
        behaviours: Sequence[int] | Ints = (),
    ) -> Parts:
        """The prompt of a sample: items shown, oldest first, with what was done with each where that is told
        (behaviours, see Question), and a pool, or the candidate that is judged.

        Raises nothing: a prompt that shows nothing says so.
        """
        pool = shown[:0] if pool is None else pool
        fields = {
            "domain": words.DOMAINS.get(task, words.DOMAIN),
            "condition": words.CONDITIONS.get(condition, condition),
            "keyword": condition,
            "candidate": words.NO_HISTORY if candidate < 0 else self.names[candidate],
            "pool": "\n".join(self.lines[item] for item in pool.tolist()),
        }
        head, tail = getattr(self.prompts, task).split(HISTORY)
        if len(behaviours):  # watched for long last: what does not fit is left out from the front
            order = np.argsort(-np.asarray(behaviours), kind="stable")
            shown, behaviours = shown[order], np.asarray(behaviours)[order]
        did = [words.DID.get(BEHAVIOURS[own], "") if own >= 0 else "" for own in behaviours] or [""] * len(shown)
        lines = [
            words.HISTORY_LINE.format(
                name=self.names[item], feedback=words.HISTORY_FEEDBACK.format(words=own) if own else ""
            )
            for item, own in zip(shown.tolist(), did, strict=True)
        ]
        history = [f"{line}\n" for line in lines or [words.NO_HISTORY]]
        return Parts(head.format(**fields), history, tail.format(**fields))
