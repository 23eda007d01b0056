"""Which charts the report has, and what it says of each."""

from collections.abc import Mapping, Sequence

import pandas as pd

from stages.reporting import charts
from stages.reporting.charts import Chart
from stages.reporting.results import Line

LEARNT = {
    "reward": "reward, sampled slates",
    "ratio_q95": "ratio, 95% quantile",
    "ratio_q05": "ratio, 5% quantile",
    "at_upper_bound": "rewarded at upper bound",
    "at_lower_bound": "rejected at lower bound",
    "kl": "divergence from SFT (nats)",
    "gradient_norm": "gradient norm",
    "token_entropy": "entropy of a token (nats)",
    "no_signal_share": "groups without signal",
}
LOOKS = {
    "heldout_greedy_reward": "held-out reward, greedy",
    "heldout_reward": "held-out reward, sampled",
    "greedy_coverage": "coverage of greedy slates",
}
FIGURE_4 = {"cold_mass": "(a) probability of cold items", "entropy": "(b) slate entropy (bits)"}


COLD = {"cold_coverage@10": "Cold coverage@10", "cold_exposure@10": "Cold exposure@10"}
WHISKERS = "Test split. Whiskers are intervals over users; a hollow dot is a decoder that its row is not judged by."
SEEDS = "Mean over seeds, and their range."


def gallery(
    lines: Sequence[Line], curves: Mapping[str, pd.DataFrame], gradient: pd.DataFrame
) -> dict[str, tuple[Chart, str]]:
    """Every chart of the report by heading, with its caption; those without data are left out.

    curves: `training`, a row per step of RL, and `heldout`, a row per look at the held-out reward; gradient: figure_3.
    """
    rows = charts.rows_of(lines)
    found = [
        ("Accuracy", charts.whiskers(lines, {"ndcg@10": "N@10", "recall@10": "R@10"}), WHISKERS),
        (
            "Diversity and cold items",
            charts.whiskers(
                lines, {"entropy_slate@10": "Slate entropy@10 (bits)", "coverage@10": "Coverage@10"} | COLD
            ),
            f"{WHISKERS} Coverages have none.",
        ),
        ("Accuracy against diversity", charts.accuracy_against_diversity(lines), WHISKERS),
        (
            "Gradient coefficient against ratio (Figure 3)",
            charts.figure_3(gradient),
            "By autograd, from the losses as RL uses them, at the paper's constants (params.yaml, figure_3). "
            "Algorithm 1 is what is trained; Eq. 3 is what the paper draws.",
        ),
        (
            "Cold items and diversity during training (Figure 4)",
            charts.training(curves["training"], FIGURE_4, rows),
            "Probability of cold items as a slate's first, on fixed validation contexts; entropy of sampled slates. "
            f"{SEEDS}",
        ),
        ("Training", charts.training(curves["training"], LEARNT, rows), f"Every step of RL. {SEEDS}"),
        ("Held-out reward", charts.training(curves["heldout"], LOOKS, rows), f"Looks at the reserve. {SEEDS}"),
        ("Ablation (Figure 5)", charts.ablation(lines), "Each measure over full SAGE's."),
    ]
    return {heading: (chart, caption) for heading, chart, caption in found if chart is not None}
