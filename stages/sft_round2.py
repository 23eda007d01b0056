"""SFT of a second round (Sec. 3.3): the log as in stages/sft.py, and the best slates that an optimizer's RL came upon.

It starts where the first started, not from RL's policy, and is stopped, resumed and shared out like the first. Writes
models/<dataset>/<space>/warmup_<optimizer>/seed-<n> and the curve of its epochs.

    python -m stages.sft_round2 --dataset ml-100k --space semantic_id --optimizer sage --seed 1
"""

from stages.action_spaces.base import ActionSpace, Asking
from stages.core import params, paths, stage
from stages.core.schema import HARVEST, read
from stages.corpus.histories import Histories
from stages.policy.harvest import best_of
from stages.policy.harvest_lessons import HarvestLessons, with_logged
from stages.sft import train


def main(dataset: str, space: str, optimizer: str, seed: int) -> None:
    settings = params.load().on(space)
    harvest, horizon = settings.harvest, settings.rl.horizon
    found = best_of(read(paths.harvest(dataset, paths.row(space, optimizer), seed), HARVEST), harvest.min_reward)

    def lessons(actions: ActionSpace, asking: Asking, histories: Histories) -> HarvestLessons:
        told = found if harvest.label == "found" else with_logged(found, histories, horizon, actions, asking)
        return HarvestLessons.of(actions, asking, told, harvest.weight)

    cell = settings.cell("sft", dataset, space, f"{optimizer}{params.SECOND}", seed)
    train(settings, dataset, space, seed, cell, f"warmup_{optimizer}", lessons)


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "space", "optimizer", "seed", shared_out=True)
