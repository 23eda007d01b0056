"""Pools for RecIF's tasks: candidates of a task's domain behind the items that a prompt shows, of the same retrievers.

Candidates are the items that their Semantic IDs stand for, as far as the visible log has them in the domain. Where a
keyword is asked for, what others did under it comes first, up to half of the pool. A user's own log is not counted, but
in the popularity that breaks ties.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stages.baselines.transitions import rank_items
from stages.corpus.histories import Histories, Ints
from stages.corpus.recif_parts import PARTS
from stages.corpus.task_samples import Sample, in_order
from stages.corpus.tasks import DOMAIN, RECOMMENDING
from stages.retrievers.base import BaseRetriever
from stages.retrievers.keywords import Keywords, Under
from stages.retrievers.pools import mix
from stages.retrievers.visible import visible_counts

ROWS = 1024  # samples ranked at once


@dataclass(frozen=True)
class ShownPools:
    """Retrievers over one corpus."""

    retrievers: Sequence[BaseRetriever]
    quotas: Sequence[int]
    """Places of a pool that each fills first."""
    popularity: Ints  # [N] in the visible log
    domains: dict[str, Ints]  # task -> the items that it may ask for, ascending
    under: Under

    @classmethod
    def of(
        cls,
        histories: Histories,
        visible: Ints,
        parts: np.ndarray,
        keywords: Keywords,
        retrievers: Sequence[BaseRetriever],
        quotas: Sequence[int],
    ) -> "ShownPools":
        """Retrievers over histories and keywords of items that stand for their ids.

        visible [U]: the first items of each user that may be counted; parts [interactions]: see Tasks.parts.
        """
        length = np.diff(histories.offsets)
        place = np.arange(len(histories.item)) - np.repeat(histories.offsets[:-1], length)
        seen = place < np.repeat(visible, length)
        domains = {}
        for task in RECOMMENDING:
            own = [index for index, part in enumerate(PARTS) if part.endswith(DOMAIN[task])]
            domains[task] = np.unique(histories.item[seen & np.isin(parts, own)])
        counts, under = visible_counts(histories, visible), Under.of(histories, visible, keywords)
        return cls(retrievers, quotas, counts, domains, under)

    def draw(self, samples: Sequence[Sample]) -> list[Ints]:
        """A pool for each sample of a recommending task, best first."""
        found: list[Ints] = [np.empty(0, np.int64)] * len(samples)
        for task in RECOMMENDING:
            of_task = [place for place, own in enumerate(samples) if own.task == task]
            for start in range(0, len(of_task), ROWS):
                part = of_task[start : start + ROWS]
                for place, pool in zip(part, self._pools(task, [samples[one] for one in part]), strict=True):
                    found[place] = pool[pool >= 0]
        return found

    def _pools(self, task: str, samples: list[Sample]) -> Ints:
        users = np.array([own.user for own in samples])
        shown, size = list(map(in_order, samples)), sum(self.quotas)
        lists = [self._best(task, each.scores(users, shown), size) for each in self.retrievers]
        if task != "interactive":
            return mix(lists, self.quotas)
        first = self._best(task, self.under.by_others(samples), size // 2, least=1)
        return mix([first, *lists], [size // 2, *self.quotas])[:, :size]

    def _best(self, task: str, scores: sparse.csr_array, size: int, least: float = 0) -> Ints:
        """The best items of the task's domain for scores [C, N], as far as they score `least`: [C, size], -1 behind."""
        items = self.domains[task]
        if not len(items):
            return np.full((scores.shape[0], size), -1)
        places, values = rank_items(sparse.csr_array(scores[:, items]), None, self.popularity[items], size)
        return np.where((places >= 0) & (values >= least), items[places], -1)
