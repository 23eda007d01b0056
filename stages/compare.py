"""Say in Markdown what the working tree changes against a commit: parameters, figures, which of these are beyond noise.

No stage of the graph. Reads params.yaml, metrics/<dataset>.json and Git alone: no data has to be there. A difference is
beyond the interval where each figure lies outside the other's bounds (evaluate.confidence, over users): a rule of thumb
that misses small differences and knows nothing of training seeds. The report's paired tests compare rows of one run.

    python -m stages.compare --rev main
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core import params, stage
from stages.core.errors import InputError
from stages.verify import dvc

NOTHING = "-"


def main(rev: str, report: str) -> None:
    confidence = params.load().evaluate.confidence
    commit = git("rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}").strip()
    sys.stdout.write("\n".join(page(rev, commit, report, confidence)) + "\n")


def page(rev: str, commit: str, report: str, confidence: float) -> Iterator[str]:
    """Lines of the comparison with a commit; report: address of the page with charts, if there is one."""
    yield f"## Compared with {code(rev)} ({commit[:10]})"
    yield from ["", "### Parameters", ""]
    keys = [row for file in dvc("params", "diff", commit, "--json").values() for row in file.items()]
    yield from table(
        ["key", "before", "after"], [[code(key), *map(value, (own["old"], own["new"]))] for key, own in keys]
    )
    for path in sorted(Path("metrics").glob("*.json")):
        yield from ["", f"### Figures of {path.stem}", ""]
        yield from figures(path, commit, confidence)
    if report:
        yield from ["", f"[The report with charts]({report})"]


def figures(path: Path, commit: str, confidence: float) -> Iterator[str]:
    """A table of the scalars that differ, with their bounds before and after."""
    changes = dvc("metrics", "diff", commit, "--json", "--targets", path.as_posix()).get(path.as_posix(), {})
    before, after = earlier(path, commit), json.loads(path.read_text())
    rows = []
    for key, own in sorted(changes.items()):
        row, measure = key.split(".", 1)
        bounds = [side.get(row, {}).get("intervals", {}).get(measure) for side in (before, after)]
        old, new = own.get("old"), own.get("new")
        moved = f"{new - old:+.4f}" if old is not None and new is not None else NOTHING
        rows.append([row, measure, figure(old, bounds[0]), figure(new, bounds[1]), moved, beyond(old, new, *bounds)])
    yield from table(["row", "measure", "before", "after", "change", "beyond the interval"], rows)
    if rows:
        count = sum(row[-1] == "**yes**" for row in rows)
        yield from [
            "",
            f"{len(rows)} figures differ, {count} of them beyond the {confidence:.0%} intervals over users.",
        ]


def beyond(old: float | None, new: float | None, before: list[float] | None, after: list[float] | None) -> str:
    """Whether each figure lies outside the other's bounds; a dash where one of the four is missing."""
    if old is None or new is None or before is None or after is None:
        return NOTHING
    outside = not before[0] <= new <= before[1] and not after[0] <= old <= after[1]
    return "**yes**" if outside else "no"


def earlier(path: Path, commit: str) -> dict[str, Any]:
    """A metrics file as the commit has it; empty where it has none."""
    if not git("ls-tree", "--name-only", commit, "--", path.as_posix()):
        return {}
    found: dict[str, Any] = json.loads(git("show", f"{commit}:{path.as_posix()}"))
    return found


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def table(names: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A Markdown table, or a sentence where it would be empty."""
    if not rows:
        yield "Nothing differs."
        return
    yield from (f"| {' | '.join(cells)} |" for cells in [names, ["---"] * len(names), *rows])


def figure(found: float | None, bounds: list[float] | None) -> str:
    if found is None:
        return NOTHING
    return f"{found:.4f} [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else f"{found:.4f}"


def value(found: Any) -> str:
    return NOTHING if found is None else code(json.dumps(found))


def code(text: str) -> str:
    """Text that nobody reads as Markdown."""
    return "`" + text.replace("`", "'").replace("|", "\\|").replace("\n", " ") + "`"


if __name__ == "__main__":
    stage.run(main, __doc__, "rev", report="")
