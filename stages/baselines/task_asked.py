"""What a cell's slates hold: lists of the histories' users and, where the corpus has RecIF's tasks, of their samples.

Of a sample a baseline is told what policies are told, the items that the prompt names, and neither condition nor
keyword; it lists items of the task's domain alone.
"""

import numpy as np
import pyarrow as pa

from stages.baselines.asked import Asked, Lists, in_training, of_users
from stages.core.schema import slate_table
from stages.corpus.histories import Histories, Ints
from stages.corpus.recif_parts import PARTS
from stages.corpus.tasks import DOMAIN, JUDGING, RECOMMENDING, Ids, Tasks, split_of
from stages.measures.tasks import CUTS, Answers, items_of

SPLITS = ("test", "valid")  # of the histories, in the order of the slates
LENGTH = max(CUTS)  # of a task's lists
PHOTOS = ("video", "ad")  # domains whose items are of one kind


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
        Asked(split_of(task), shown_items(tasks, task), LENGTH, among=about[DOMAIN[task]]) for task in RECOMMENDING
    ]
    candidates = tasks.table(JUDGING)["candidate"].to_numpy().astype(np.int64)
    shown = shown_items(tasks, JUDGING)
    return [*found, Asked(split_of(JUDGING), shown, 1, among=about["video"], candidates=candidates)]


def shown_items(tasks: Tasks, task: str) -> list[Ints]:
    """By sample the items that the prompt's Semantic IDs stand for, in its order, without the candidate of label_pred.

    Ids that no item has are left out. Where a photo and a product share an id, it is the photo.
    """
    table = tasks.table(task)
    shown, candidate = Answers.of(table["shown"]), table["candidate"].to_numpy()
    item = standing_for(tasks.ids, shown.flat)
    of_candidate = candidate[shown.owner]
    same = np.flatnonzero((of_candidate >= 0) & (shown.flat == tasks.ids.sid[of_candidate]))
    last = np.r_[shown.owner[same][1:] != shown.owner[same][:-1], True][: len(same)]
    item[same[last]] = -1  # the question's own, which comes behind the history
    return [own[own >= 0] for own in np.split(item, shown.offsets[1:-1])]


def standing_for(ids: Ids, sid: Ints) -> Ints:
    """[n] the item that each Semantic ID [n] stands for, as for the policies (stages/semantic_ids/published.py)."""
    found = ids.some_item(sid)
    for task in ("product", "video"):
        standing = items_of(sid[:, None], *ids.standing(task))[:, 0]
        found = np.where(standing >= 0, standing, found)
    return found


def domain_items(histories: Histories, tasks: Tasks) -> dict[str, Ints]:
    """By domain of DOMAIN the items, ascending, that stand for a Semantic ID.

    Videos and advertisements are both photos: an id is of the domain in which training parts have photos that bear it,
    of both where none do, so that cold items can be found.
    """
    learnt_from, seen = in_training(histories), {}
    item, part, sid = histories.item[learnt_from], tasks.parts()[learnt_from], tasks.ids.sid
    photos, products = (np.sort(tasks.ids.standing(task)[1]) for task in ("video", "product"))
    for domain in PHOTOS:
        own = [index for index, name in enumerate(PARTS) if name.endswith(domain)]
        there = np.flatnonzero(np.bincount(item[np.isin(part, own)], minlength=histories.item_count))
        seen[domain] = np.isin(sid[photos], sid[there])
    nowhere = ~(seen["video"] | seen["ad"])
    return {"goods": products, **{domain: photos[seen[domain] | nowhere] for domain in PHOTOS}}


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
