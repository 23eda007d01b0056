"""Reinforcement learning on logged feedback (Algorithm 1): from the SFT policy to one aligned by the chosen optimizer.

Publishes the policy with the best greedy reward on one half of the reserve, among the looks taken after the first step;
the other half gives the held-out reward. The optimizer `sft` descends nothing: its policy is the warm-up unchanged. Of
`ablations` in params.yaml, each is an optimizer too: SAGE without one of its parts, or with another value.
Writes models/<dataset>/<space>/<optimizer>/seed-<n> and two curves, every step and every look at the reserve; and as
<row>/seed-<n>.parquet in data/<dataset>/heldout the rewards of the published policy on the reserve, in
data/<dataset>/harvest the best slates that RL came upon (stages/policy/harvest.py).
Interrupted, it goes on from its last checkpoint when it is started again with the same parameters, inputs and code
(docs/runs.md). With SAGE_PROCESSES=n in the environment, n processes share out the users of every step.

    python -m stages.rl --dataset ml-100k --space semantic_id --optimizer sage --seed 1
"""

import math
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from stages.action_spaces.base import Asking
from stages.baselines import transitions
from stages.core import params, paths, stage
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.errors import InputError
from stages.core.files import fresh_folder, write_json, write_table
from stages.core.params import Params
from stages.core.provenance import MODELS, fingerprint, made_by, provenance
from stages.core.section import OptimizerSection
from stages.core.sections import Rl
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, load
from stages.corpus.reserve import divide, held_back_contexts, visible_contexts
from stages.policy import backbone, diagnostics
from stages.policy.algorithm import Learner, Recipe
from stages.policy.belief import Belief
from stages.policy.device import accelerator
from stages.policy.harvest import Harvest, of_others
from stages.policy.heldout import Watch
from stages.policy.model_card import Facts, write_readme
from stages.policy.run_state import RunState
from stages.policy.task import Task
from stages.rewards.click_model import ClickModel
from stages.rewards.environment import LoggedFeedback, Rewards
from stages.rewards.modelled import ModelledFeedback, NextItem, inclinations
from stages.rewards.running_mean import RunningMean


def main(dataset: str, space: str, optimizer: str, seed: int) -> None:
    settings = params.load().on(space)
    if first := settings.harvest_of(optimizer):
        raise InputError(f"--optimizer {optimizer}: a second round is python -m stages.rl_round2 --optimizer {first}")
    align(settings, dataset, space, optimizer, seed)


def align(
    settings: Params, dataset: str, space: str, optimizer: str, seed: int, taught: pa.Table | None = None
) -> None:
    """Run a cell. taught: the slates that its SFT policy was taught of an earlier round, whose users are left alone."""
    rl, sft, row = settings.rl, settings.sft, paths.row(space, optimizer)
    learner, log, card = start(settings, dataset, space, optimizer, seed)
    histories = log.histories
    reserve = divide(histories, sft.holdback, sft.reserve, sft.min_items, seed)
    if rl.learns_from == "visible":
        contexts = visible_contexts(histories, reserve, rl.horizon)
    else:
        contexts = held_back_contexts(histories, reserve, reserve.learners, rl.horizon)
    if taught is not None:
        contexts = of_others(contexts, taught, rl.contexts)
    watch = Watch.over(
        replace(learner.task, environment=log), reserve, rl.reserve_users, rl.reserve_positions, rl.cold_contexts, seed
    )
    origin = provenance(*settings.cell("rl", dataset, space, optimizer, seed), MODELS)
    state = RunState(
        learner,
        Checkpoint(*fingerprint(origin)),
        Curve(paths.curve(dataset, row, seed)),
        Curve(paths.heldout_curve(dataset, row, seed)),
    )
    state.checkpoint.claim()
    state.resume()
    if not state.heldout.rows:
        state.look(watch, 0)
    steps = rl.rollouts if learner.objective.loss else 0
    if steps > 0:
        card = replace(card, made_by=made_by(origin))
    else:
        state.curve.restore([{"step": 0, "cold_mass": watch.cold_mass(learner)}])
    for step in stage.progress(range(state.step, steps), f"rl {row}"):
        started = time.perf_counter()
        learner.set_rate(rate_share(rl, step))
        look = (step + 1) % rl.evaluate_every == 0 or step + 1 == steps
        drawn = numpy_generator(seed, "contexts", step).permutation(len(contexts))
        now, spare = np.split(contexts[drawn], [rl.contexts])
        found = learner.step(now, spare, look, seed, "slates", step)
        if not math.isfinite(found["gradient_norm"]):
            section = settings.module_of(optimizer)
            raise InputError(f"RL diverged: step {step + 1} has no finite gradient; lower rl_lr or {section}.lr")
        state.curve.add(step=step + 1, **found, cold_mass=watch.cold_mass(learner))
        log_speed(step + 1, found, time.perf_counter() - started)
        if look:
            state.look(watch, step + 1)
        state.after_step(step + 1, look)
    state.checkpoint.steps_done()
    state.restore_best()
    rewards = watch.rewards(learner, rl.heldout_temperatures, rl.heldout_samples)
    if not learner.accelerator.is_main_process:
        return
    found = {**state.published(), **diagnostics.of_run(state.curve.rows)}
    own, path = settings.own[optimizer], paths.model(dataset, space, optimizer, seed)
    facts = Facts(
        cell=state.checkpoint.cell,
        dataset=dataset,
        space=space,
        optimizer=optimizer,
        base=settings.axes.backbone,
        source=paths.backbone(settings.axes.backbone),
        path=path,
        weights=settings.backbone.weights,
        # without a step the folder is the warm-up's, whatever `rl` says: it makes no cell behind it run again
        params={"rl": rl.model_dump(), optimizer: own.model_dump() if own else {}} if steps else {},
        metrics=found if steps else {},
    )
    with fresh_folder(path) as folder:
        backbone.save(learner.model, card, folder)
        write_readme(folder, facts)
    write_table(paths.harvest(dataset, row, seed), learner.harvest.table())
    write_table(paths.heldout(dataset, row, seed), rewards)
    write_json(paths.run_metrics(dataset, row, seed), {**found, "provenance": origin})
    state.checkpoint.drop()


def start(
    settings: Params, dataset: str, space: str, optimizer: str, seed: int
) -> tuple[Learner, LoggedFeedback, backbone.Card]:
    """The learner at the SFT policy, the rewards of the log, and the card that goes with its models."""
    objective = params.load_module("objectives", settings.module_of(optimizer), "--optimizer")
    rl, corpus, body, own = settings.rl, settings.corpus(dataset), settings.backbone, settings.own[optimizer]
    machine = accelerator(body.precision)
    warmup = paths.warmup(dataset, space, settings.harvest_of(optimizer), seed)
    source, histories = paths.backbone(settings.axes.backbone), load(paths.corpus(dataset))
    spelling = params.load_module("action_spaces", space, "--space")
    tokenizer = backbone.tokenizer(source)
    actions = spelling.Actions(paths.actions(dataset, space), histories, tokenizer, settings.policy)
    histories = actions.histories  # those of shared ids have one item for each
    model, card = backbone.load(warmup, actions.fingerprint, source, body, trainable=True)
    model.to(machine.device)
    log = LoggedFeedback(histories, corpus.objectives, rl.horizon, histories.category_shares())
    held = actions.to(machine.device)
    asking = Asking(card.label, settings.sft.history_items, corpus.exclude_seen, rl.slate_length)
    reference = backbone.reference_of(model)
    belief = Belief(reference, held, asking, settings.rewards.beam_width, machine)
    rewards = environment(settings, log, belief, seed)
    if not getattr(own, "decouple", True) and len(rewards.weights) < 2:
        raise InputError(
            f"params.yaml: decouple: false of {optimizer} has nothing to sum, corpora.{dataset}.objectives being one"
        )
    task = Task(
        space=held.free() if rl.free else held,
        environment=rewards,
        asking=asking,
        group_size=rl.group_size,
        temperature=rl.temperature,
        accelerator=machine,
    )
    rate = (own.lr if own else None) or body.rl_lr
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    learner = Learner(
        model=model,
        reference=reference,
        optimizer=torch.optim.AdamW(trained, rate, weight_decay=rl.weight_decay),
        objective=objective,
        objective_params=own,
        task=task,
        recipe=recipe(rl, own),
        entropy_mean=RunningMean(rl.entropy_rate),
        accelerator=machine,
        harvest=Harvest(histories, rl.horizon, lambda contexts, items: log.weighted(log.rewards(contexts, items))),
    )
    return learner, log, card


def environment(settings: Params, log: LoggedFeedback, belief: Belief, seed: int) -> Rewards:
    """The rewards that params.yaml names; a model learns from what SFT may see, or is the SFT policy, `belief`."""
    sft, source = settings.sft, settings.rewards.source
    if source == "logged":
        return log
    visible = divide(log.histories, sft.holdback, sft.reserve, sft.min_items, seed).sft_length
    seen = replace(log.histories, train_length=visible)
    next_item = belief if source == "belief" else click_model(settings, log.histories, seen)
    return ModelledFeedback(log, next_item, inclinations(seen, list(log.weights)), source == "both")


def click_model(settings: Params, histories: Histories, seen: Histories) -> NextItem:
    """Next items of contexts of `histories` by a click model that is fitted on `seen`."""
    chosen = settings.rewards.click_model
    counts = transitions.Params(**chosen.model_dump(exclude={"smoothing"}), list_length=settings.rl.slate_length)
    model = ClickModel.fit(seen, counts, chosen.smoothing)
    return lambda contexts: model.probabilities(contexts[:, 0], histories.items_before(contexts))


def recipe(rl: Rl, own: OptimizerSection | None) -> Recipe:
    """How a rollout is learnt from; an optimizer's section may hold a `kl` of its own, and 0 is one."""
    kl = own.kl if own else None
    return Recipe(
        updates=rl.updates_per_rollout,
        minibatches=rl.minibatches,
        users_per_pass=rl.users_per_pass,
        divide_by_std=rl.divide_by_std,
        kl=rl.kl if kl is None else kl,
        max_grad_norm=rl.max_grad_norm,
    )


def rate_share(rl: Rl, step: int) -> float:
    """Share of the learning rate that a step has, counted from 0: it rises, and then stays, or falls as a cosine."""
    if step < rl.lr_warmup:
        return (step + 1) / rl.lr_warmup
    if rl.lr_decay == "none":
        return 1.0
    return (1 + math.cos(math.pi * (step - rl.lr_warmup) / (rl.rollouts - rl.lr_warmup))) / 2


def log_speed(step: int, found: dict[str, float], seconds: float) -> None:
    """Say how a step went and how fast: the tokens that it learnt from, over the time of rollout and updates.

    Speeds stand in no output, since a file with a clock in it never repeats.
    """
    text = "step %d: reward %.4f, entropy %.3f bits, ratio %.3f to %.3f, %.0f tokens/s"
    shown = [found.get(name, math.nan) for name in ("reward", "entropy", "ratio_min", "ratio_max")]
    stage.log.info(text, step, *shown, found["tokens"] / seconds)


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "space", "optimizer", "seed", shared_out=True)
