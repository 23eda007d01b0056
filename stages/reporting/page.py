"""The report as one page of HTML that holds all it needs: tables, charts, examples and the scripts that draw them."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache

import altair as alt
import vl_convert

from stages.reporting.charts import Chart
from stages.reporting.examples import Example
from stages.reporting.report import Report
from stages.reporting.tables import Table

STYLE = """
:root { --ink: #1b1f24; --soft: #5b6570; --line: #dfe3e8; --wash: #f6f8fa; --hit: #1a7f37; --blue: #0b5cad; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 2rem 1.5rem 4rem; color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p, li { max-width: 75ch; } .soft, figcaption { color: var(--soft); font-size: .92em; max-width: 85ch; }
nav { margin: 1rem 0; padding: .6rem 1rem; background: var(--wash); border-radius: 8px; columns: 3; font-size: .92em; }
nav a { display: block; color: var(--blue); text-decoration: none; } nav a:hover { text-decoration: underline; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid var(--ink); font-weight: 600; vertical-align: bottom; white-space: normal; }
td .interval { color: var(--soft); } tr:hover td { background: var(--wash); }
tr.copied td { color: var(--soft); font-style: italic; background: #fffaf0; }
td.best { font-weight: 700; }
figure { margin: 1rem 0; overflow-x: auto; } figure .chart { min-height: 60px; }
.examples { display: grid; gap: 1.2rem; }
.example { border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
.example .lists { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 1rem; }
.example ol, .example ul { margin: .2rem 0; padding-left: 1.5rem; font-size: .88rem; }
.example .hit { color: var(--hit); font-weight: 700; } .example .hit::after { content: " \\2713"; }
details summary { cursor: pointer; color: var(--blue); }
"""

DRAW = """
for (const element of document.querySelectorAll(".chart")) {
  const spec = JSON.parse(document.getElementById(element.id + "-spec").textContent);
  vegaEmbed(element, spec, {actions: false, renderer: "svg"}).then(
    () => element.dataset.drawn = "yes", error => { console.error(element.id, error); });
}
"""

DRAWN = """Drawn at random from users of each kind, those whom both rows hit, only the one, only the other, and none, as
long as there are some: they show what slates look like, not how often they hit."""
FOLDED = ("Where the figures come from", "What RL did")


@cache
def scripts() -> str:
    """Vega, vega-lite and vega-embed in one script, which asks the network for nothing."""
    return str(vl_convert.javascript_bundle()).replace("</script", "<\\/script")


def page(report: Report, charts: Mapping[str, tuple[Chart, str]], examples: Sequence[Example]) -> str:
    """The page; charts by heading, with a caption each."""
    sections = [(name, _figure(f"chart-{place}", *found)) for place, (name, found) in enumerate(charts.items())]
    if examples:
        sections.append(("Users", _examples(examples)))
    sections += [(table.title, _table(table)) for table in report.tables]
    sections.append(("Notes", _list(report.notes)))
    links = "".join(f'<a href="#section-{place}">{_text(name)}</a>' for place, (name, _) in enumerate(sections))
    body = "".join(
        f'<section id="section-{place}"><h2>{_text(name)}</h2>{inside}</section>'
        for place, (name, inside) in enumerate(sections)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>SAGE: {_text(report.dataset)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{_text(report.dataset)}</h1><p>{_text(report.introduction)}</p><nav>{links}</nav>{body}"
        f"<script>{scripts()}</script><script>{DRAW}</script></body></html>\n"
    )


def _text(text: str) -> str:
    """Escaped, with Markdown's italics and code as HTML's."""
    escaped = html.escape(text)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"(?<!\w)_([^_]+)_(?!\w)", r"<em>\1</em>", escaped)


def _figure(name: str, chart: Chart, caption: str) -> str:
    with alt.data_transformers.enable("default", max_rows=None):
        specification = json.dumps(chart.to_dict(), sort_keys=True).replace("</", "<\\/")
    return (
        f'<figure><div class="chart" id="{name}"></div><figcaption>{_text(caption)}</figcaption></figure>'
        f'<script type="application/json" id="{name}-spec">{specification}</script>'
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in table.head)
    rows = []
    for line in table.lines:
        cells = "".join(f'<td class="{cell.kind}">{_number(cell.text)}</td>' for cell in line)
        rows.append(f'<tr class="{"copied" if line[0].kind == "copied" else ""}">{cells}</tr>')
    notes = "".join(f'<p class="soft">{_text(note)}</p>' for note in table.notes)
    whole = (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{notes}'
    )
    return f"<details><summary>show</summary>{whole}</details>" if table.title in FOLDED else whole


def _number(text: str) -> str:
    """A cell, with its interval in a lighter colour."""
    return re.sub(r"(\[[^\]]+\])", r'<span class="interval">\1</span>', html.escape(text))


def _list(notes: str) -> str:
    points = re.split(r"^- ", notes, flags=re.MULTILINE)[1:]
    return f"<ul>{''.join(f'<li>{_text(point)}</li>' for point in points)}</ul>"


def _examples(examples: Sequence[Example]) -> str:
    found = [f'<p class="soft">{DRAWN}</p>']
    for example in examples:
        history = "".join(f"<li>{html.escape(title)}</li>" for title in example.history)
        columns = [f"<div><h3>the newest of the history</h3><ul>{history}</ul></div>"]
        for row, slate in example.slates.items():
            entries = (f'<li class="{"hit" if hit else ""}">{html.escape(title)}</li>' for title, hit in slate)
            columns.append(f"<div><h3>{html.escape(row)}</h3><ol>{''.join(entries)}</ol></div>")
        found.append(
            f'<div class="example"><strong>User {html.escape(example.user)}</strong>, who then took '
            f'<em>{html.escape(example.target)}</em><div class="lists">{"".join(columns)}</div></div>'
        )
    return f'<div class="examples">{"".join(found)}</div>'
