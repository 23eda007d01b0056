"""Figure 3 of the paper, from the losses as they are: what multiplies A grad log pi at each ratio, by autograd.

Curves: GBPO; SAGE's form `gradient`, which is the figure's; SAGE's Algorithm 1, which RL descends. Each for a rewarded
slate and for rejected ones, of normal (lambda = 1) and of low diversity (lambda = 1 + beta). A slate is one item of one
token here, since GBPO's bound is on a token's probability. Writes metrics/curves/figure_3.csv.

    python -m stages.figure_3
"""

from types import ModuleType
from typing import Any

import numpy as np
import torch

from stages.core import params, paths, stage
from stages.core.curves import Curve
from stages.core.files import rounded
from stages.core.section import Section
from stages.core.sections import Figure3
from stages.objectives import gbpo, sage
from stages.objectives.terms import ScoredSlates

FAR = 100.0  # bits below Hbar: tanh is 1


def main() -> None:
    figure = params.load().figure_3
    ratios = np.linspace(0, figure.ratio_max, figure.points + 1)[1:]
    own: dict[str, Any] = {"eps_boost": figure.eps_boost, "beta": figure.beta, "eps_clip": 0.0, "dual_clip": None}
    own |= {"ratio_norm": "item", "decouple": True, "lr": None, "kl": None}
    bound = (gbpo, gbpo.Params(level="token", lr=None, kl=None))
    forms = {form: (sage, sage.Params(form=form, **own)) for form in ("gradient", "surrogate")}
    curves = {"ratio": ratios, "gbpo_rewarded": coefficients(*bound, ratios, 1.0, 0.0, figure)}
    curves["gbpo_rejected"] = coefficients(*bound, ratios, -1.0, 0.0, figure)
    for form, objective in forms.items():
        for name, sign, below in (("rewarded", 1.0, 0.0), ("rejected", -1.0, 0.0), ("rejected_low", -1.0, FAR)):
            curves[f"sage_{form}_{name}"] = coefficients(*objective, ratios, sign, below, figure)
    rows = np.stack(list(curves.values()), 1).tolist()
    Curve(paths.figure_3()).restore([rounded(dict(zip(curves, row, strict=True))) for row in rows])
    stage.log.info("%s: %d curves", paths.figure_3(), len(curves) - 1)


def coefficients(
    objective: ModuleType, settings: Section, ratios: np.ndarray, sign: float, below: float, figure: Figure3
) -> np.ndarray:
    """Coefficient at each ratio [R] of a slate with advantage `sign` whose entropy is `below` bits under the mean."""
    old = torch.full((1, len(ratios), 1), figure.pi_old, dtype=torch.float64).log()
    log_probs = (old + torch.from_numpy(ratios).log()[None, :, None]).requires_grad_()
    mean = torch.tensor(FAR, dtype=torch.float64)
    slates = ScoredSlates(
        log_probs=log_probs,
        old_log_probs=old,
        mask=torch.ones_like(old, dtype=torch.bool),
        item=torch.zeros_like(old, dtype=torch.int64),
        length=1,
        entropy=torch.full(old.shape[:2], FAR - below, dtype=torch.float64),
        entropy_mean=mean,
    )
    value = objective.loss(slates, torch.full(old.shape[:2], sign, dtype=torch.float64), settings).value
    (gradient,) = torch.autograd.grad(value, log_probs)
    return (-gradient * len(ratios) / sign).flatten().numpy()


if __name__ == "__main__":
    stage.run(main, __doc__)
