"""The report's charts, in vega-lite by altair: each a function from results or curves to one chart.

Colours tell rows apart, up to 20 of them, and are the same throughout; whiskers are bootstrap intervals over users.
"""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from stages.reporting.results import Line

WIDTH, HEIGHT = 300, 220
BOUNDS = ("low", "high")
LEGEND = alt.Legend(title=None, orient="bottom", columns=3, labelLimit=260)
FIGURE_3 = {  # columns of metrics/curves/figure_3.csv: panel, curve
    "gbpo_rewarded": ("rewarded slate", "GBPO"),
    "gbpo_rejected": ("rejected slate", "GBPO"),
    "sage_gradient_rewarded": ("rewarded slate", "SAGE, Eq. 3"),
    "sage_gradient_rejected": ("rejected slate", "SAGE, Eq. 3"),
    "sage_gradient_rejected_low": ("rejected slate", "SAGE, Eq. 3, low diversity"),
    "sage_surrogate_rewarded": ("rewarded slate", "SAGE, Algorithm 1"),
    "sage_surrogate_rejected": ("rejected slate", "SAGE, Algorithm 1"),
    "sage_surrogate_rejected_low": ("rejected slate", "SAGE, Algorithm 1, low diversity"),
}
ABLATIONS = {
    "sage_no_boost": "no boost",
    "sage_no_penalty": "no penalty",
    "sage_no_decoupling": "no decoupling",
    "sage_scaled": "nearer boost bound",
}
ABLATED = {"ndcg@10": "N@10", "cold_recall@10": "Cold recall@10", "entropy_slate@10": "Slate entropy@10"}

Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart


def _colour(rows: Sequence[str], legend: alt.Legend | None = None) -> alt.Color:
    scheme = "tableau10" if len(rows) <= 10 else "tableau20"
    return alt.Color("row:N", scale=alt.Scale(domain=list(rows), scheme=scheme), legend=legend)


def rows_of(lines: Sequence[Line]) -> list[str]:
    """Names of rows, each once; what colours go by."""
    return list(dict.fromkeys(line.row for line in lines))


def whiskers(lines: Sequence[Line], headings: Mapping[str, str]) -> Chart:
    """A dot per line with its interval, one panel per measure; hollow where a row is not judged by that decoder."""
    table = pd.DataFrame(
        [
            {"line": line.name, "row": line.row, "judged": line.judged, "mean": mean, "low": low, "high": high}
            | {"measure": measure}
            for line in lines
            for measure in headings
            for mean, low, high in [line.value(measure)]
        ]
    ).dropna(subset=["mean"])
    order = [line.name for line in lines]
    panels = []
    for number, (measure, heading) in enumerate(headings.items()):
        own = table[table["measure"] == measure].drop(columns="measure")
        if own.empty:
            continue
        axis = alt.Axis(title=None, labelLimit=260, labels=number == 0, ticks=number == 0)
        base = alt.Chart(own).encode(y=alt.Y("line:N", sort=order, axis=axis), color=_colour(rows_of(lines)))
        dots = base.mark_point(size=55, opacity=1, strokeWidth=2).encode(
            x=alt.X("mean:Q", title=heading),
            fill=alt.condition("datum.judged", _colour(rows_of(lines)), alt.value("white")),
            tooltip=["line", alt.Tooltip("mean", format=".4f"), *(alt.Tooltip(end, format=".4f") for end in BOUNDS)],
        )
        if own["low"].notna().any():
            dots = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=heading), x2="high:Q") + dots
        panels.append(dots.properties(width=210))
    return alt.hconcat(*panels)


def accuracy_against_diversity(lines: Sequence[Line]) -> Chart:
    """N@10 over slate entropy, with whiskers both ways: what a row gives up for what."""
    values = []
    for line in lines:
        across, up = line.value("entropy_slate@10"), line.value("ndcg@10")
        values.append({"line": line.name, "row": line.row, "x": across[0], "x1": across[1], "x2": across[2]})
        values[-1] |= {"y": up[0], "y1": up[1], "y2": up[2], "judged": line.judged}
    base = alt.Chart(pd.DataFrame(values)).encode(color=_colour(rows_of(lines)))
    across = alt.X("x:Q", title="Slate entropy@10 (bits)", scale=alt.Scale(zero=False))
    up = alt.Y("y:Q", title="N@10", scale=alt.Scale(zero=False))
    dots = base.mark_point(size=70, opacity=1, strokeWidth=2).encode(
        x=across,
        y=up,
        fill=alt.condition("datum.judged", _colour(rows_of(lines)), alt.value("white")),
        tooltip=["line", alt.Tooltip("x", format=".3f"), alt.Tooltip("y", format=".4f")],
    )
    wide = base.mark_rule(opacity=0.5).encode(x=alt.X("x1:Q"), x2="x2:Q", y=up)
    high = base.mark_rule(opacity=0.5).encode(x=across, y=alt.Y("y1:Q"), y2="y2:Q")
    names = base.transform_filter("datum.judged").mark_text(align="left", dx=8, dy=-6, fontSize=11)
    names = names.encode(x=across, y=up, text="row")
    return (wide + high + dots + names).properties(width=2 * WIDTH, height=1.4 * HEIGHT)


def figure_3(curves: pd.DataFrame) -> Chart:
    """Gradient coefficient against the ratio (the paper's Figure 3), of the losses as they are in the code."""
    long = curves.melt("ratio", list(FIGURE_3), "column", "coefficient")
    long["panel"] = [FIGURE_3[name][0] for name in long["column"]]
    long["curve"] = [FIGURE_3[name][1] for name in long["column"]]
    names = list(dict.fromkeys(curve for _, curve in FIGURE_3.values()))
    styles = [[5, 3], [1, 0], [1, 0], [2, 2], [2, 2]]
    colours = ["#d62728", "#1f4e9c", "#7fb2e5", "#2ca02c", "#98df8a"]
    panels = [
        alt.Chart(long[long["panel"] == panel].drop(columns=["panel", "column"]), title=panel)
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=alt.X("ratio:Q", title="ratio r"),
            y=alt.Y("coefficient:Q", title="gradient coefficient", scale=alt.Scale(domain=[0, 1.6])),
            color=alt.Color("curve:N", scale=alt.Scale(domain=names, range=colours), legend=LEGEND),
            strokeDash=alt.StrokeDash("curve:N", scale=alt.Scale(domain=names, range=styles), legend=LEGEND),
            tooltip=["curve", alt.Tooltip("ratio", format=".2f"), alt.Tooltip("coefficient", format=".3f")],
        )
        .properties(width=WIDTH, height=HEIGHT)
        for panel in ("rewarded slate", "rejected slate")
    ]
    return alt.hconcat(*panels)


def training(curves: pd.DataFrame, columns: Mapping[str, str], rows: Sequence[str]) -> Chart | None:
    """Curves by step, one panel per column that has some: a line per row, its mean over seeds, and their range.

    None where nothing was trained. curves: columns row, seed, step, and those of `columns`; rows: all that the report
    has, so that colours agree.
    """
    panels = []
    for column, heading in columns.items():
        if column not in curves or curves.dropna(subset=[column]).groupby("row")["step"].nunique().max() < 2:
            continue
        own = curves[["row", "step", column]].dropna().rename(columns={column: "value"})
        own = own.groupby(["row", "step"], sort=False)["value"].agg(["mean", "min", "max"]).reset_index()
        shown = [row for row in rows if row in set(curves["row"])]
        key = alt.Legend(
            title=None, orient="bottom", columns=4, labelLimit=240, values=shown, symbolType="stroke", symbolOpacity=1
        )
        base = alt.Chart(own).encode(x=alt.X("step:Q", title="step"), color=_colour(rows, key))
        band = base.mark_area(opacity=0.15).encode(y=alt.Y("min:Q", title=heading), y2="max:Q")
        line = base.mark_line(point=alt.OverlayMarkDef(size=18)).encode(
            y=alt.Y("mean:Q", title=heading, scale=alt.Scale(zero=False)),
            tooltip=["row", "step", alt.Tooltip("mean", format=".4g")],
        )
        panels.append((band + line).properties(width=WIDTH, height=HEIGHT))
    return alt.concat(*panels, columns=3) if panels else None


def ablation(lines: Sequence[Line]) -> Chart | None:
    """The paper's Figure 5: measures of SAGE's ablations over full SAGE's; None without such rows."""
    by_row = {line.row: line for line in lines if line.judged}
    values = []
    for name, line in by_row.items():
        space, _, optimizer = name.rpartition("-")
        full = by_row.get(f"{space}-sage")
        if optimizer not in ABLATIONS or full is None:
            continue
        for measure, heading in ABLATED.items():
            whole = full.value(measure)[0]
            if whole:
                values.append({"space": space, "measure": heading, "variant": ABLATIONS[optimizer]})
                values[-1]["share"] = line.value(measure)[0] / whole
    if not values:
        return None
    table = pd.DataFrame(values).dropna()
    base = alt.Chart(table).encode(
        x=alt.X("measure:N", title=None, axis=alt.Axis(labelAngle=0)),
        xOffset="variant:N",
        y=alt.Y("share:Q", title="share of full SAGE"),
        color=alt.Color("variant:N", legend=LEGEND),
        tooltip=["variant", "measure", alt.Tooltip("share", format=".3f")],
    )
    one = alt.Chart(pd.DataFrame({"y": [1.0]})).mark_rule(strokeDash=[4, 3]).encode(y="y:Q")
    return (base.mark_bar() + one).properties(width=2 * WIDTH, height=HEIGHT)
