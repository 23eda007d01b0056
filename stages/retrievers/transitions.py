"""Candidates by transition counts: what followed the context's last items in the histories of other users.

The counts are those of the baseline `transitions`, over what SFT may see, less what the context's own user added. Ties
go by popularity, which counts everybody.
"""

from collections.abc import Sequence

from scipy import sparse

from stages.baselines import transitions
from stages.baselines.others import OthersCounts
from stages.core.spelling_sections import Fill
from stages.corpus.histories import Histories, Ints
from stages.retrievers.base import BaseRetriever


class Retriever(BaseRetriever):
    """What the counts say of any item behind others."""

    def __init__(self, histories: Histories, visible: Ints, counts: Fill) -> None:
        super().__init__(histories, visible, counts)
        self.others = OthersCounts(histories, visible, transitions.Params(**counts.model_dump(), list_length=1))

    def scores(self, users: Ints, lists: Sequence[Ints]) -> sparse.csr_array:
        return self.others.scores(users, lists)
