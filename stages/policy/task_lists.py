"""A policy's lists for RecIF's tasks: beam, greedy slate, and several sampled slates merged by likelihood."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import Prompts, Tasked
from stages.core.schema import slate_table
from stages.core.sections import Recommend
from stages.core.stage import progress
from stages.corpus.histories import Ints
from stages.corpus.tasks import JUDGING, RECOMMENDING, Tasks, split_of
from stages.policy.beam import beam_items
from stages.policy.noise import keys_of
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from stages.policy.task_lessons import answer_logits

LENGTH = 32  # of a beam's list, as published
Asked = tuple[str, str, Ints]


def task_lists(
    model: PreTrainedModel,
    space: Tasked,
    tasks: Tasks,
    decoding: Recommend,
    history_items: int,
    length: int,
    seed: int,
) -> Iterator[pa.Table]:
    """Tables of SLATES for every task. length: L of a slate; history_items: of what a prompt shows, the last."""
    for task in (*RECOMMENDING, JUDGING):
        asked = list(questions(space, tasks, task, history_items))
        for start in progress(range(0, len(asked), decoding.batch_size), f"recommend {split_of(task)}"):
            part = asked[start : start + decoding.batch_size]
            samples = np.arange(start, start + len(part))
            if task == JUDGING:
                yield judged(model, space, part, samples, tasks)
                continue
            for decoder, (items, scores) in written(
                model, space, part, samples, decoding, length, (seed, task)
            ).items():
                yield slate_table(samples, split_of(task), decoder, items.cpu().numpy(), scores.cpu().numpy())


def questions(space: Tasked, tasks: Tasks, task: str, history_items: int) -> Iterator[Asked]:
    """Task, condition and items shown, row by row; Semantic IDs that no item has are not shown."""
    table = tasks.table(task)
    for condition, shown in zip(table["condition"].to_pylist(), table["shown"].to_pylist(), strict=True):
        items = tasks.ids.some_item(np.array(shown, dtype=np.int64))
        yield task, condition, space.standing_for(items[items >= 0][-history_items:])


@torch.no_grad()
def written(
    model: PreTrainedModel,
    space: Tasked,
    asked: list[Asked],
    samples: Ints,
    decoding: Recommend,
    length: int,
    purpose: tuple[int, str],
) -> dict[str, tuple[Tensor, Tensor]]:
    """Lists of items [B, n] and their log-probabilities by decoder, best first."""
    prompts: Prompts = space.task_prompts(asked).to(model.device)
    reading = Reading(model, prompts)
    greedy = sample_slates(reading, space, [0.0], length, None)
    drawing = decoding.sample
    keys = keys_of(np.stack([samples, np.zeros_like(samples)], 1), *purpose).to(model.device)
    drawn = sample_slates(reading, space, [drawing.temperature] * drawing.slates, length, keys, nucleus=drawing.nucleus)
    return {
        "slate": (greedy.items[:, 0], greedy.item_log_probs[:, 0]),
        "sample": merged(drawn.items, drawn.item_log_probs, LENGTH),
        "beam": beam_items(reading, space, max(decoding.beam_width, LENGTH), LENGTH),
    }


def merged(items: Tensor, log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The items of K slates [B, K, L] as one list [B, count], by their log-probabilities where they were written.

    An item that several slates have counts once, where it is likeliest. Behind the last, -1 with -inf.
    """
    flat, score = items.flatten(1), log_probs.flatten(1).masked_fill(items.flatten(1) < 0, -torch.inf)
    order = torch.argsort(score, dim=1, descending=True, stable=True)
    flat, score = flat.gather(1, order), score.gather(1, order)
    before = torch.ones(flat.shape[1], flat.shape[1], dtype=torch.bool, device=flat.device).tril(-1)
    again = ((flat[:, :, None] == flat[:, None, :]) & before).any(2)
    score = score.masked_fill(again, -torch.inf)
    score, place = torch.sort(score, dim=1, descending=True, stable=True)
    found = flat.gather(1, place).masked_fill(score == -torch.inf, -1)
    missing = max(0, count - found.shape[1])
    found, score = found[:, :count], score[:, :count]
    pad = torch.nn.functional.pad
    return pad(found, (0, missing), value=-1), pad(score, (0, missing), value=-torch.inf)


@torch.no_grad()
def judged(model: PreTrainedModel, space: Tasked, asked: list[Asked], samples: Ints, tasks: Tasks) -> pa.Table:
    """p(yes) / (p(yes) + p(no)) of each sample, as a list of its candidate alone."""
    scores = answer_logits(model, space, asked).float().softmax(1)[:, :1].cpu().numpy()
    candidates = tasks.table(JUDGING)["candidate"].to_numpy()[samples][:, None]
    return slate_table(samples, split_of(JUDGING), "label", candidates, scores)
