"""What a cell's slates hold: lists of the histories' users and, where the corpus has RecIF's tasks, of their samples.

Of a sample a baseline is told the items that the prompt names, as policies are, but neither the condition nor the
keyword that these are told as well; it lists items of the task's domain alone.
"""

import numpy as np
import pyarrow as pa

from stages.baselines.asked import Asked, Lists, of_users
from stages.core.schema import slate_table
from stages.corpus.histories import Histories, Ints
from stages.corpus.recif_parts import JUDGING
from stages.corpus.task_samples import asked_samples, in_order
from stages.corpus.tasks import DOMAIN, RECOMMENDING, Tasks, split_of
from stages.measures.tasks import CUTS

SPLITS = ("test", "valid")  # of the histories, in the order of the slates
LENGTH = max(CUTS)  # of a task's lists


def everything(
    histories: Histories, users: dict[str, Ints], tasks: Tasks | None, exclude_seen: bool, length: int
) -> list[Asked]:
    """What a cell's slates hold: lists of the users of both splits, and of the tasks of a corpus that has some."""
    plain = [of_users(histories, split, users[split], exclude_seen, length) for split in SPLITS]
    return plain if tasks is None else [*plain, *of_tasks(histories, tasks)]


def of_tasks(histories: Histories, tasks: Tasks) -> list[Asked]:
    """Lists for the samples of every task, and of label_pred the candidates' scores."""
    about = domain_items(histories, tasks)
    found = [
        Asked(split_of(task), list(map(in_order, asked_samples(tasks, task))), LENGTH, among=about[DOMAIN[task]])
        for task in RECOMMENDING
    ]
    judged = asked_samples(tasks, JUDGING)
    shown, candidates = list(map(in_order, judged)), np.array([own.candidate for own in judged], np.int64)
    return [*found, Asked(split_of(JUDGING), shown, 1, among=about["video"], candidates=candidates)]


def domain_items(histories: Histories, tasks: Tasks) -> dict[str, Ints]:
    """By domain of DOMAIN the items, ascending, that stand for a Semantic ID of it."""
    found = {}
    for domain, own in tasks.domain_sids(histories).items():
        sid, items = tasks.ids.standing("product" if domain == "goods" else "video")
        found[domain] = np.sort(items[np.isin(sid, own)])
    return found


def slates(lists: dict[str, Lists], users: dict[str, Ints]) -> pa.Table:
    """The table of slates: of every split the lists, users by split; samples of tasks are numbered. Candidates
    without a score are no rows, and `evaluate` counts them.
    """
    tables = []
    for split, (items, scores) in lists.items():
        rows, decoder = users.get(split, np.arange(len(items))), "list"
        if split == split_of(JUDGING):
            known, decoder = ~np.isnan(scores[:, 0]), "label"
            rows, items, scores = rows[known], items[known], scores[known]
        tables.append(slate_table(rows, split, decoder, items, scores))
    return pa.concat_tables(tables).combine_chunks()
