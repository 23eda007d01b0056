"""The paper's Figure 3 from the code, against its formulas."""

import pandas as pd
import pytest

from stages import figure_3
from stages.core import params, paths


@pytest.fixture
def curves(tmp_path, monkeypatch) -> pd.DataFrame:
    settings = params.load()
    monkeypatch.setattr(params, "load", lambda: settings)
    monkeypatch.chdir(tmp_path)
    figure_3.main()
    return pd.read_csv(paths.figure_3()).set_index("ratio")


@pytest.mark.parametrize(
    ("curve", "formula"),
    [
        ("gbpo_rewarded", lambda r: min(r, 1)),
        ("gbpo_rejected", lambda r: min(r, 0.1 * r / (1 - 0.1 * r))),
        ("sage_gradient_rewarded", lambda r: min(r, 1.3)),
        ("sage_gradient_rejected", lambda r: min(r, 0.1 * r / (1 - 0.1 * r))),
        ("sage_gradient_rejected_low", lambda r: min(r, 1.5 * 0.1 * r / (1 - 0.1 * r))),
        ("sage_surrogate_rewarded", lambda r: r if r <= 1.3 else 0),
        ("sage_surrogate_rejected", lambda r: r if r >= 1 else 0),
        ("sage_surrogate_rejected_low", lambda r: r if r >= 0.5 else 0),
    ],
)
def test_curves_are_the_formulas(curves, curve, formula):
    """pi_old = .1, eps_boost = .3, lambda = 1.5 at low diversity; ratios .02, .04, .. 3, less the bounds."""
    for ratio, value in curves[curve].items():
        if min(abs(ratio - bound) for bound in (0.5, 1, 1.3)) > 1e-6:
            assert value == pytest.approx(formula(ratio), rel=1e-5), ratio
    assert len(curves) == 150
