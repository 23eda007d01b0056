"""How far do slates drift from what their SFT policy holds to be next? Its slates and RL's beside its beam.

    python -m benchmarks.drift --dataset ml-100k --optimizers sage gbpo

On contexts of the reserve's selecting half that nobody trained on: what the first ten items of the SFT policy's beam,
its greedy slates and those of the policies that RL made of it earn in the log (the held-out reward), and by the belief
(stages/policy/belief.py) that rewards.source: belief rewards; how many of a slate's items are in the beam's list, and
the share of slots whose item is inside the beam, first slot and last. Reads the models that the cells left. The last
line is one JSON object.
"""

import argparse
import json
from dataclasses import replace

import numpy as np

from stages import rl
from stages.core import params, paths
from stages.corpus.histories import Ints
from stages.corpus.reserve import divide
from stages.policy import backbone
from stages.policy.belief import Belief
from stages.policy.heldout import Watch, held_out_reward
from stages.rewards.feedback import Floats
from stages.rewards.modelled import inclinations, modelled_rewards


def described(items: Ints, logged: Floats, beam: Ints, chance: Floats, inclination: Floats) -> dict[str, float]:
    """Slates [C, L] beside the beam's list [C, L], by the log's reward [C] and by P(j | c) [C, N]."""
    by_belief = modelled_rewards(items[:, None], chance[:, None] * inclination)[:, 0]
    inside = np.take_along_axis(chance, items, 1) > 0
    return {
        "held-out reward": float(logged.mean()),
        "belief": float(by_belief.mean()),
        "of the beam's": float((items[:, :, None] == beam[:, None, :]).any(2).sum(1).mean()),
        "inside, first": float(inside[:, 0].mean()),
        "inside, last": float(inside[:, -1].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--optimizers", nargs="*", default=[], help="rows beside SFT's: sage, gbpo, ..")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, help="of the selecting half, the first; without it all")
    given = parser.parse_args()
    settings = params.load().on("semantic_id")
    sft, asked = settings.sft, settings.rl
    learner, log, _ = rl.start(settings, given.dataset, "semantic_id", "sage", given.seed)
    reserve = divide(log.histories, sft.holdback, sft.reserve, sft.min_items, given.seed)
    task = replace(learner.task, environment=log)
    contexts = Watch.over(task, reserve, given.users, asked.reserve_positions, 1, given.seed).selection
    belief = Belief(learner.reference, task.space, task.asking, settings.rewards.beam_width, learner.accelerator)
    seen = replace(log.histories, train_length=reserve.sft_length)
    chance, inclination = belief(contexts), inclinations(seen, list(log.weights))
    beam = np.argsort(-chance, axis=1, kind="stable")[:, : asked.slate_length]
    earned = log.weighted(log.rewards(contexts, beam[:, None]))[:, 0]
    found = {"beam of SFT": described(beam, earned, beam, chance, inclination)}
    models = {"sft": learner.model}
    for name in given.optimizers:
        path, source = (
            paths.model(given.dataset, "semantic_id", name, given.seed),
            paths.backbone(settings.axes.backbone),
        )
        models[name] = backbone.load(path, task.space.fingerprint, source, settings.backbone)[0].to(task.device)
    for name, model in models.items():
        slates = held_out_reward(model, task, contexts, given.seed)
        found[name] = described(slates.items, slates.greedy, beam, chance, inclination)
    for name, values in found.items():
        print(f"{name}: " + ", ".join(f"{measure} {value:.4f}" for measure, value in values.items()))
    print(json.dumps({"seed": given.seed, "contexts": len(contexts), **found}))


if __name__ == "__main__":
    main()
