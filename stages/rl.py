"""Reinforcement learning on logged feedback (Algorithm 1): from the SFT policy to one aligned by the chosen optimizer.

Publishes the policy with the best greedy reward on one half of the reserve, among the looks taken after the first step;
the other half gives the held-out reward. The optimizer `sft` descends nothing: its policy is the warm-up unchanged.
Writes models/<dataset>/<space>/<optimizer>/seed-<n> and two curves: every step, and every look at the reserve.
Interrupted, it goes on from the last look when it is started again with the same parameters, inputs and code.
Left out: several processes; one process uses one GPU, or the CPU.

    python -m stages.rl --dataset ml-100k --space semantic_id --optimizer sage --seed 1
"""

import time

import torch
from accelerate import Accelerator

from stages.core import params, paths, stage
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.core.errors import InputError
from stages.core.files import fresh_folder
from stages.core.provenance import cell_fingerprint
from stages.core.seeding import derived_seed, numpy_generator
from stages.corpus.histories import load
from stages.corpus.reserve import divide, held_back_contexts
from stages.policy import backbone
from stages.policy.algorithm import Learner, Recipe
from stages.policy.heldout import Watch
from stages.policy.progress import Progress
from stages.rewards.environment import LoggedFeedback
from stages.rewards.running_mean import RunningMean


def main(dataset: str, space: str, optimizer: str, seed: int) -> None:
    settings = params.load()
    rl, sft, corpus, body = settings.rl, settings.sft, settings.corpus(dataset), settings.backbone
    objective = params.load_module("objectives", optimizer, "optimizers")
    actions = params.load_module("action_spaces", space, "action_spaces").Actions(paths.actions(dataset, space))
    warmup = paths.model(dataset, space, "warmup", seed)
    model, card = backbone.load(warmup, actions.fingerprint)
    accelerator = Accelerator(mixed_precision="bf16" if body.precision == "bf16" else "no")
    if accelerator.num_processes > 1:
        raise InputError(f"rl runs in one process, {accelerator.num_processes} were started; use plain python")
    model.to(accelerator.device)
    actions.trie.to(accelerator.device)
    own = settings.own[optimizer]
    lr = getattr(own, "lr", None) or body.rl_lr
    histories = load(paths.corpus(dataset))
    reserve = divide(histories, sft.holdback, sft.reserve, sft.min_items, seed)
    contexts = held_back_contexts(histories, reserve, reserve.learners, rl.horizon)
    learner = Learner(
        model=model,
        reference=backbone.load(warmup, actions.fingerprint)[0].to(accelerator.device),
        optimizer=torch.optim.AdamW(model.parameters(), lr, weight_decay=rl.weight_decay),
        objective=objective,
        objective_params=own,
        space=actions,
        environment=LoggedFeedback(histories, corpus.objectives, rl.horizon, histories.category_shares()),
        recipe=Recipe(
            label=card.label,
            history_items=sft.history_items,
            exclude_seen=corpus.exclude_seen,
            slate_length=rl.slate_length,
            group_size=rl.group_size,
            updates=rl.updates_per_rollout,
            temperature=rl.temperature,
            kl=rl.kl,
            max_grad_norm=rl.max_grad_norm,
        ),
        entropy_mean=RunningMean(rl.entropy_rate),
        accelerator=accelerator,
    )
    watch = Watch.over(learner, reserve, rl.reserve_positions, rl.cold_contexts, seed)
    row = paths.row(space, optimizer)
    coordinates = {"dataset": dataset, "space": space, "optimizer": optimizer, "seed": seed}
    run = Progress(
        learner,
        Checkpoint(*cell_fingerprint("rl", coordinates)),
        Curve(paths.curve(dataset, row, seed)),
        Curve(paths.heldout_curve(dataset, row, seed)),
    )
    run.resume()
    if not run.heldout.rows:
        run.look(watch, 0)
    steps = rl.rollouts if objective.loss else 0
    if steps == 0:
        run.curve.add(step=0, cold_mass=watch.cold_mass(learner))
    for step in stage.progress(range(run.step, steps), f"rl {row}"):
        started = time.perf_counter()
        drawn = numpy_generator(seed, "contexts", step).choice(len(contexts), min(rl.contexts, len(contexts)), False)
        generator = torch.Generator(accelerator.device).manual_seed(derived_seed(seed, "slates", step))
        found = learner.step(contexts[drawn], generator)
        run.curve.add(step=step + 1, **found, cold_mass=watch.cold_mass(learner))
        log_speed(step + 1, found, len(drawn) * rl.group_size, time.perf_counter() - started)
        if (step + 1) % rl.evaluate_every == 0 or step + 1 == steps:
            run.look(watch, step + 1)
    run.restore_best()
    with fresh_folder(paths.model(dataset, space, optimizer, seed)) as folder:
        backbone.save(learner.model, card, folder)
    run.checkpoint.drop()


def log_speed(step: int, found: dict[str, float], slates: int, seconds: float) -> None:
    """Say how a step went and how fast; speeds stand in no output, since a file with a clock in it never repeats."""
    stage.log.info(
        "step %d: reward %.4f, entropy %.3f bits, ratio %.3f to %.3f, %.0f slates/s",
        step, found["reward"], found["entropy"], found["ratio_min"], found["ratio_max"], slates / seconds,
    )  # fmt: skip


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "space", "optimizer", "seed")
