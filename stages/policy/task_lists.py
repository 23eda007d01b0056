"""A policy's lists for RecIF's tasks: beam, greedy slate, and several sampled slates merged by likelihood.

Where slates are picked from pools, the beam is the pool, every candidate of which is scored. A candidate of label_pred
is judged by yes and no, and, where the whole catalogue is offered, by its likelihood as what is watched for long next.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.action_spaces.base import Prompts
from stages.action_spaces.tasked import Question, Tasked
from stages.core.schema import slate_table
from stages.core.sections import Recommend
from stages.core.stage import progress
from stages.corpus.histories import Ints
from stages.corpus.recif_parts import JUDGING
from stages.corpus.task_samples import asked_samples, pools_of, shown_last
from stages.corpus.tasks import RECOMMENDING, Tasks, split_of
from stages.policy.beam import next_items
from stages.policy.logprobs import answer_logits, spell, token_log_probs
from stages.policy.noise import keys_of
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading

Floats = npt.NDArray[np.float32]
LENGTH = 32  # of a beam and its list, as published


def task_lists(
    model: PreTrainedModel,
    space: Tasked,
    tasks: Tasks,
    folder: Path,
    decoding: Recommend,
    history_items: int,
    length: int,
    seed: int,
) -> Iterator[pa.Table]:
    """Tables of SLATES for every task. folder: the action space's, which may have pools; length: L of a slate;
    history_items: of what a prompt shows, the last; see shown_last.
    """
    pooled = pools_of(folder, RECOMMENDING[0]) is not None
    for task in (*RECOMMENDING, JUDGING):
        asked = questions(space, tasks, task, pools_of(folder, task), history_items)
        candidates = tasks.table(JUDGING, ["candidate"])["candidate"].to_numpy() if task == JUDGING else None
        for start in progress(range(0, len(asked), decoding.batch_size), f"recommend {split_of(task)}"):
            part = asked[start : start + decoding.batch_size]
            samples = np.arange(start, start + len(part))
            if candidates is not None:
                known = np.flatnonzero(candidates[samples] >= 0)  # the others have no row: `evaluate` counts them
                for decoder, scores in judged(model, space, [part[row] for row in known], not pooled).items():
                    own = samples[known]
                    yield slate_table(own, split_of(task), decoder, candidates[own][:, None], scores[:, None])
                continue
            for decoder, (items, scores) in written(
                model, space, part, samples, decoding, length, (seed, task)
            ).items():
                yield slate_table(samples, split_of(task), decoder, items.cpu().numpy(), scores.cpu().numpy())


def questions(space: Tasked, tasks: Tasks, task: str, pools: list[Ints] | None, history_items: int) -> list[Question]:
    """What is asked, row by row. pools: of the rows; label_pred has none."""
    asked = asked_samples(tasks, task)
    offered = pools if pools and task != JUDGING else [None] * len(asked)
    messages = tasks.table(task, ["messages"])["messages"].to_pylist() if space.official else [""] * len(asked)
    candidates = np.array([own.candidate for own in asked], np.int64)
    candidates = np.where(candidates >= 0, space.standing_for(candidates), -1)
    return [
        Question(
            task,
            own.condition,
            shown=space.standing_for(shown_last(task, own.shown, history_items)),
            candidate=candidate,
            pool=pool,
            messages=told,
            behaviours=own.behaviours,
        )
        for own, candidate, pool, told in zip(asked, candidates.tolist(), offered, messages, strict=True)
    ]


@torch.no_grad()
def written(
    model: PreTrainedModel,
    space: Tasked,
    asked: list[Question],
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
        "beam": next_items(reading, space, LENGTH, LENGTH),
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
def judged(model: PreTrainedModel, space: Tasked, asked: list[Question], by_likelihood: bool) -> dict[str, Floats]:
    """Scores [B] of the candidates, by decoder. label: p(yes) / (p(yes) + p(no)), as published; likelihood: the
    log-probability of the candidate where the next video that is watched for long is asked for.
    """
    if not asked:
        return {}
    found = {"label": answer_logits(model, space, asked).float().softmax(1)[:, 0]}
    if by_likelihood:
        wanted = [own._replace(task="label_cond", condition="longview", candidate=-1, messages="") for own in asked]
        prompts = space.task_prompts(wanted).to(model.device)
        items = torch.tensor([own.candidate for own in asked], device=model.device)[:, None, None]
        slates, _ = spell(prompts, space, items)
        found["likelihood"] = token_log_probs(model, prompts, space, slates, 1.0)[0].sum((1, 2))
    return {decoder: scores.cpu().numpy() for decoder, scores in found.items()}
