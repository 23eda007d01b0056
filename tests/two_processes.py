"""What tests/test_processes.py runs under torchrun, or alone: 20 steps of SFT and of RL. Writes their curves.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.two_processes FOLDER OUT.json
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

import stages  # noqa: F401 - sets what OpenMP reads
from stages.action_spaces.base import Asking
from stages.core.checkpoints import Checkpoint
from stages.core.curves import Curve
from stages.policy import training
from stages.policy.device import accelerator
from stages.policy.lessons import NextItems
from stages.policy.slate_label import SlateLessons
from tests import small_policy, small_text
from tests.test_step import CONTEXT_PAIRS, learner

STEPS = 20


def supervised(folder: Path, machine) -> list[dict]:
    """Epochs of one batch each on native text; every row of the curve is a step."""
    text = small_text.world(folder / f"text-{os.environ.get('RANK', '0')}")
    asking = Asking("slate", 3, True, 4)
    lengths = text.histories.train_length
    text.space.put_target = text.space.unaided = True
    objectives = dict.fromkeys(text.histories.feedback, 1.0)
    lessons = SlateLessons(text.space, asking, text.histories, lengths, 2, 0.5, None, objectives, seed=0)
    valid = [text.space.offered(np.array([[user, 4]]))[0, 1] for user in range(3)]
    judged = NextItems(text.space, asking, type(text.histories)(**{**vars(text.histories), "valid": np.array(valid)}))
    recipe = training.Recipe(STEPS, None, 1000, 1e-3, 0.1, 0.01, 1.0, STEPS, 0)
    curve = Curve(folder / "sft.csv")
    training.fit(text.model, lessons, judged, recipe, machine, Checkpoint("two", "0"), curve)
    return curve.rows


def reinforced(folder: Path, machine, optimizer: str) -> list[dict]:
    """Rollouts on Semantic IDs with two updates each, whose users are read one by one."""
    space = small_policy.catalogue(folder / f"ids-{os.environ.get('RANK', '0')}")
    own = learner(space, machine=machine, updates=2, users_per_pass=1, lr=0.01)
    contexts = np.concatenate([CONTEXT_PAIRS, [[0, 3]]])
    if optimizer == "dapo":  # whose loss is no mean over slates, and which replaces groups without signal
        from stages.core import params
        from stages.objectives import dapo

        own.objective, own.objective_params = dapo, params.load().own["dapo"]
    spare = np.array([[1, 1], [1, 2], [0, 4]])
    return [own.step(contexts, spare, step % 5 == 0, 7, step) for step in range(STEPS)]


def main(folder: Path, out: Path) -> None:
    machine = accelerator("fp32")
    found = {
        "processes": machine.num_processes,
        "sft": supervised(folder, machine),
        "sage": reinforced(folder, machine, "sage"),
        "dapo": reinforced(folder, machine, "dapo"),
    }
    if machine.is_main_process:
        out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
