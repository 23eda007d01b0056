"""Corpus to native text: names and lines of items, profiles of users, candidate pools, a tokenizer (Sec. 3.2).

Reads data/<dataset>/corpus; writes data/<dataset>/actions/text and how much of what users did the pools hold,
metrics/<dataset>/text.json. A pool is what the retrievers make of what was before; what the user did next is never put
into it here. They count what SFT may see (sft.holdback), less the user that they draw for. Of a corpus with RecIF's
tasks also samples of the logs and pools of the test rows, of each task's domain.

    python -m stages.render --dataset ml-100k
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.core import params, paths, stage
from stages.core.files import fresh_folder, write_json, write_table
from stages.core.params import Params
from stages.core.provenance import provenance
from stages.core.schema import INTERACTIONS, read
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, Ints, load
from stages.corpus.reserve import divide
from stages.corpus.task_samples import LESSONS, POOLS, Logs, Sample
from stages.corpus.tasks import Tasks, tasks_of
from stages.rendering import tokenizer
from stages.rendering.items import item_lines
from stages.rendering.names import unique_names
from stages.rendering.profiles import user_profiles
from stages.rendering.prompts import Renderer
from stages.rendering.table import Text, item_table, known_times, pool_table, user_table
from stages.rendering.task_prompts import TaskRenderer
from stages.retrievers.base import BaseRetriever
from stages.retrievers.pools import mix
from stages.retrievers.quotas import quotas
from stages.retrievers.report import describe, every_context
from stages.retrievers.shown import ShownPools
from stages.retrievers.task_pools import Drawn, describe_tasks, draw_tasks, lesson_table
from stages.retrievers.task_pools import pool_table as task_pool_table

PART = 16_384  # contexts that pools are drawn for at once
SAMPLE = 2_000  # prompts of training contexts that the tokenizer learns from


def main(dataset: str) -> None:
    settings = params.load()
    histories = load(paths.corpus(dataset))
    log = read(paths.corpus(dataset) / "interactions.parquet", INTERACTIONS)
    sft = settings.sft
    visible = divide(histories, sft.holdback, sft.reserve, sft.min_items, seed=0).sft_length  # the same with each seed
    titles, categories = (histories.items[name].to_pylist() for name in ("title", "categories"))
    named = unique_names(titles, categories)
    text = Text(
        names=named.names,
        lines=item_lines(histories.items, named.names, settings.text.tags, settings.text.statistics),
        profiles=user_profiles(histories.users),
        times=known_times(log["timestamp"]),
        pools=drawn(settings, histories, visible, settings.corpus(dataset).exclude_seen),
    )
    prompts, asked = sample(settings, histories, text), tasks_of(paths.corpus(dataset))
    drawn_tasks = None if asked is None else of_tasks(settings, asked, histories, visible)
    if drawn_tasks is not None:
        prompts += task_prompts(settings, text, drawn_tasks.lessons[0])
    with fresh_folder(paths.actions(dataset, "text")) as folder:
        write_table(folder / "items.parquet", item_table(text.names, text.lines))
        write_table(folder / "users.parquet", user_table(text.profiles))
        write_table(folder / "pools.parquet", pool_table(log["timestamp"], text.pools))
        if drawn_tasks is not None:
            write_table(folder / LESSONS, lesson_table(drawn_tasks.lessons))
            write_table(folder / POOLS, task_pool_table(drawn_tasks.tests))
        tokenizer.train([*text.lines, *prompts], settings.text.vocabulary, folder / "tokenizer")
    told = describe(histories, visible, text.pools, settings.rl.slate_length) | {
        "prompt_characters": float(np.mean([len(prompt) for prompt in prompts])),
        "names": [[what, count] for what, count in named.counts.items()],
        "quotas": [
            [name, places] for name, places in quotas(settings.text.retrievers, settings.text.pool_size).items()
        ],
        "provenance": provenance("render", {"dataset": dataset}),
    }
    if asked is not None and drawn_tasks is not None:
        told |= describe_tasks(drawn_tasks, asked)
    write_json(paths.stage_metrics(dataset, "text"), told)
    stage.log.info(
        "%s: pools of %d hold %.1f%% of the test items", dataset, text.pools.shape[1], 100 * told["pool_recall"]["test"]
    )


def drawn(settings: Params, histories: Histories, visible: Ints, exclude_seen: bool) -> Ints:
    """Pools [interactions, N] for every context."""
    shares = quotas(settings.text.retrievers, settings.text.pool_size)
    drawing = retrievers(settings, shares, histories, visible)
    contexts, size = every_context(histories), settings.text.pool_size
    pools: npt.NDArray[Any] = np.empty((len(contexts), size), dtype=np.int32)  # as they are written
    for start in stage.progress(range(0, len(contexts), PART), "pools"):
        part = contexts[start : start + PART]
        lists = [each.candidates(part, size, exclude_seen) for each in drawing]
        pools[start : start + PART] = mix(lists, list(shares.values()))
    return pools


def retrievers(settings: Params, names: Iterable[str], histories: Histories, visible: Ints) -> list[BaseRetriever]:
    """The retrievers of these names over the first visible[u] items of each user u."""
    modules = [params.load_module("retrievers", name, "text.retrievers") for name in names]
    return [module.Retriever(histories, visible, settings.text.transitions) for module in modules]


def of_tasks(settings: Params, asked: Tasks, histories: Histories, visible: Ints) -> Drawn:
    """Samples of the logs, and of the test rows, with pools. Their items are those that stand for their ids."""
    alike = asked.ids.alike
    log = replace(histories, item=alike[histories.item])
    logs = Logs.of(log, asked, visible, lambda items: alike[items])
    shares = quotas(settings.text.retrievers, settings.text.tasks.pool_size)
    drawing = retrievers(settings, shares, log, visible)
    pools = ShownPools.of(log, visible, logs.parts, logs.keywords, drawing, list(shares.values()))
    stage.log.info("pools of tasks")
    return draw_tasks(logs, asked, pools, settings.text.tasks.draws)


def task_prompts(settings: Params, text: Text, samples: list[Sample]) -> list[str]:
    """Some prompts of tasks, with all that is shown."""
    renderer = TaskRenderer(settings.text.policy.tasks, text.names, text.lines)
    rows = np.sort(numpy_generator("render", "tasks").permutation(len(samples))[:SAMPLE])
    asked = [samples[row] for row in rows]
    return [
        renderer.parts(own.task, own.condition, own.shown, own.pool, own.candidate, own.behaviours).whole
        for own in asked
    ]


def sample(settings: Params, histories: Histories, text: Text) -> list[str]:
    """Some prompts of training contexts, with the whole history."""
    renderer = Renderer.over(histories, text, settings.text.policy.window_days)
    contexts = every_context(histories)
    training = np.flatnonzero(contexts[:, 1] < histories.train_length[contexts[:, 0]])
    rows = np.sort(numpy_generator("render", "sample").permutation(training)[:SAMPLE])
    asked = [(*contexts[row].tolist(), text.pools[row], settings.rl.slate_length) for row in rows]
    return [renderer.parts(*each).whole for each in stage.progress(asked, "prompts")]


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset")
