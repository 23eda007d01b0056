"""RL of a second round (Sec. 3.3): the same optimizer, from the SFT policy that was taught its best slates.

It trains on contexts of users whose slates were not taught; on the others it would be rewarded for memory. All else is
as in stages/rl.py, and what it writes goes by the row's name, <space>-<optimizer>_round2.

    python -m stages.rl_round2 --dataset ml-100k --space semantic_id --optimizer sage --seed 1
"""

from stages.core import params, paths, stage
from stages.core.schema import HARVEST, read
from stages.policy.harvest import best_of
from stages.rl import align


def main(dataset: str, space: str, optimizer: str, seed: int) -> None:
    settings = params.load().on(space)
    found = read(paths.harvest(dataset, paths.row(space, optimizer), seed), HARVEST)
    taught = best_of(found, settings.harvest.min_reward)
    align(settings, dataset, space, f"{optimizer}{params.SECOND}", seed, taught)


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "space", "optimizer", "seed", shared_out=True)
