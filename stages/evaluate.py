"""Measure one row's slates against the held-out items: accuracy, diversity, cold items, validity (Sec. 4.1.3).

Reads data/<dataset>/slates/<row>/seed-<n>.parquet and the corpus. Writes metrics/<dataset>/<row>/seed-<n>.json, whose
scalars are those of the test split and the headline decoder (`slate` for policies, `list` for baselines) unless their
name says otherwise, and data/<dataset>/per_user/<row>/seed-<n>.parquet. Entropies are in bits. Uses no GPU.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.core import params, paths, stage
from stages.core.cells import BASELINES, axis_of
from stages.core.errors import InputError
from stages.core.files import write_json, write_table
from stages.core.params import Params
from stages.core.provenance import provenance
from stages.core.schema import SLATES, read
from stages.core.sections import Evaluate
from stages.core.seeding import numpy_generator
from stages.corpus import histories
from stages.corpus.histories import Histories, Ints
from stages.corpus.recif_parts import JUDGING
from stages.corpus.tasks import DOMAIN, RECOMMENDING, SPLITS, Tasks, split_of, tasks_of
from stages.measures import task_summary
from stages.measures.slates import TARGET_SPLITS, Lists, headline, parse, parse_task
from stages.measures.summary import Catalogue, Summary, summarise
from stages.measures.task_summary import Judged
from stages.measures.tasks import Answers, items_of

# Scalars of the metrics file, which DVC compares
SHOWN = ["ndcg@5", "ndcg@10", "recall@5", "recall@10", "entropy_slate@10", "entropy_pooled@10", "coverage@10"]
SHOWN += ["cold_recall@10", "cold_coverage@10", "invalid_share"]


def main(dataset: str, row: str, seed: int) -> None:
    settings = params.load()
    cell = cell_of(settings, dataset, row, seed)
    corpus = histories.load(paths.corpus(dataset))
    source = paths.slates(dataset, row, seed)
    judged = {
        split: corpus.judged(split, settings.evaluate.max_users, settings.evaluate.seed) for split in TARGET_SPLITS
    }
    slates, asked = read(source, SLATES), tasks_of(paths.corpus(dataset))
    plain = slates.filter(pc.invert(pc.is_in(slates["split"], pa.array(SPLITS)))) if asked else slates
    lists = parse(of_users(plain, judged), targets(corpus, judged), corpus.item_count, str(source))
    summaries = {key: measure(corpus, key[0], found, settings.evaluate) for key, found in lists.items()}
    report = figures(summaries, headline(lists))
    report["counts"] = counts(corpus, judged)
    report["provenance"] = provenance(*cell)
    tables = [per_user(lists, summaries)]
    if asked:
        report["tasks"], own = task_figures(slates, asked, corpus, settings.evaluate, str(source))
        tables += own
    every = pa.concat_tables(tables, promote_options="default").combine_chunks() if len(tables) > 1 else tables[0]
    write_table(paths.per_user(dataset, row, seed), every)
    write_json(paths.metrics(dataset, row, seed), report)
    stage.log.info("%s: test ndcg@10 %.4f", paths.metrics(dataset, row, seed), report["ndcg@10"])


def cell_of(settings: Params, dataset: str, row: str, seed: int) -> tuple[str, dict[str, str | int]]:
    """The stage of dvc.yaml that evaluates a row, and the cell's coordinates."""
    if row in params.modules("baselines"):
        return f"evaluate_{BASELINES[axis_of(row)]}", {"dataset": dataset, "baseline": row, "seed": seed}
    for space in params.modules("action_spaces"):
        for optimizer in settings.every_optimizer():
            if row == paths.row(space, optimizer):
                return settings.cell("evaluate", dataset, space, optimizer, seed)
    known = ", ".join(params.modules("baselines"))
    raise InputError(f"--row {row}: neither a baseline ({known}) nor <space>-<optimizer>")


def measure(corpus: Histories, split: str, lists: Lists, settings: Evaluate) -> Summary:
    """Every decoder and split gets the same bootstrap weights, so that their intervals can be compared."""
    generator = numpy_generator(settings.seed, "evaluate", "bootstrap")
    target = corpus.target(split)[lists.user]
    catalogue = Catalogue(corpus.category_shares(), corpus.cold, corpus.train_count)
    return summarise(lists.items, target, catalogue, settings.resamples, settings.confidence, generator)


def figures(summaries: dict[tuple[str, str], Summary], decoder: str) -> dict[str, object]:
    """At most 12 scalars, and as lists, which DVC's diffs leave out, intervals and every measure of every decoder."""
    shown = {name: summaries["test", decoder].over_users[name] for name in SHOWN}
    shown["valid.ndcg@10"] = summaries["valid", decoder].over_users["ndcg@10"]
    if ("test", "beam") in summaries:
        shown["beam.ndcg@10"] = summaries["test", "beam"].over_users["ndcg@10"]
    detail: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (split, name), summary in summaries.items():
        detail.setdefault(split, {})[name] = {key: list(value) for key, value in summary.over_users.items()}
    intervals = {name: [low, high] for name, (_, low, high) in shown.items() if not np.isnan(low)}
    return {name: value for name, (value, _, _) in shown.items()} | {"intervals": intervals, "detail": detail}


def task_figures(
    slates: pa.Table, asked: Tasks, corpus: Histories, settings: Evaluate, where: str
) -> tuple[dict[str, dict[str, dict[str, list[float]]]], list[pa.Table]]:
    """RecIF's tasks: by task and decoder the measures, and tables of their values by sample."""
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    tables, domains = [], asked.domain_sids(corpus)
    for task in (*RECOMMENDING, JUDGING):
        own = slates.filter(pc.equal(slates["split"], split_of(task)))
        table = asked.table(task)
        if not own.num_rows:
            if task != JUDGING and table.num_rows:
                raise InputError(f"{where}: no lists of split {split_of(task)}; make the slates again")
            if table.num_rows:
                nothing = {"auc": [np.nan] * 3, "samples": [table.num_rows], "without_score": [table.num_rows]}
                figures[task] = {"label": nothing}
            continue
        found = parse_task(own, table.num_rows, corpus.item_count, split_of(task), where)
        for decoder, lists in found.items():
            drawing = settings.resamples, settings.confidence, numpy_generator(settings.seed, "evaluate", "tasks")
            if task == JUDGING:
                scored = own.filter(pc.equal(own["decoder"], decoder)).sort_by("user")
                scores = scored["score"].to_numpy().astype(np.float64)
                figures.setdefault(task, {})[decoder] = task_summary.labels(table, lists, scores, *drawing)
                continue
            columns = task_columns(task, table, lists, asked, corpus.cold, domains[DOMAIN[task]])
            summary = task_summary.over_samples(columns, *drawing)
            figures.setdefault(task, {})[decoder] = summary
            tables.append(by_sample(task, decoder, lists.user, columns))
    return figures, tables


def task_columns(
    task: str, table: pa.Table, lists: Lists, asked: Tasks, cold: np.ndarray, domain: Ints
) -> dict[str, np.ndarray]:
    """Values by sample of a task's lists. Of every row they are judged by their Semantic IDs, and as the items that the
    published counts say these stand for: one that they do not name is missing, as in the official evaluation.

    cold: of the items [N]; domain: Semantic IDs of the task's.
    """
    sid = np.where(lists.items >= 0, asked.ids.sid[lists.items], -1)
    items = items_of(sid, *asked.ids.standing(task))
    answers, named = Answers.of(table["answer"]), Answers.of(table["answer_item"])
    judged = Judged(answers, named if len(named.flat) else None, asked.ids.all_are(cold, answers.flat), domain)
    return task_summary.per_sample(sid, items, judged)


def by_sample(task: str, decoder: str, samples: Ints, columns: dict[str, np.ndarray]) -> pa.Table:
    """The values of a task as rows of per_user."""
    keys = {
        "user": samples.astype(np.int32),
        "split": [split_of(task)] * len(samples),
        "decoder": [decoder] * len(samples),
    }
    return pa.table(keys | {name: pa.array(own, from_pandas=True) for name, own in columns.items()})


def of_users(slates: pa.Table, judged: dict[str, Ints]) -> pa.Table:
    """The rows of the users that are measured; those of an unknown split stay, to be refused by name."""
    user, split = slates["user"].to_numpy(), np.asarray(slates["split"].to_pylist())
    left_out = np.zeros(len(user), dtype=bool)
    for name, users in judged.items():
        left_out |= (split == name) & ~np.isin(user, users)
    return slates.filter(pa.array(~left_out))


def targets(corpus: Histories, judged: dict[str, Ints]) -> dict[str, Ints]:
    """The held-out items of the users that are measured, -1 for the others: [U] by split."""
    everyone = np.arange(corpus.user_count)
    return {split: np.where(np.isin(everyone, users), corpus.target(split), -1) for split, users in judged.items()}


def counts(corpus: Histories, judged: dict[str, Ints]) -> dict[str, list[int]]:
    """How many users and cold targets the measures stand on, and how many users there are."""
    test, valid = (corpus.target(split)[judged[split]] for split in ("test", "valid"))
    return {
        "users": [len(test)],
        "valid_users": [len(valid)],
        "all_users": [int((corpus.test >= 0).sum())],
        "items": [corpus.item_count],
        "cold_items": [int(corpus.cold.sum())],
        "cold_targets": [int(corpus.cold[test].sum())],
        "valid_cold_targets": [int(corpus.cold[valid].sum())],
    }


def per_user(lists: dict[tuple[str, str], Lists], summaries: dict[tuple[str, str], Summary]) -> pa.Table:
    """One row per split, decoder and user, in this order; null where a measure does not concern the user."""
    tables = []
    for (split, decoder), found in sorted(lists.items(), key=lambda entry: entry[0]):
        users = len(found.user)
        columns = {"user": found.user.astype(np.int32), "split": [split] * users, "decoder": [decoder] * users}
        values = {name: pa.array(own, from_pandas=True) for name, own in summaries[split, decoder].per_user.items()}
        tables.append(pa.table(columns | values))
    return pa.concat_tables(tables).combine_chunks()


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "row", "seed")
