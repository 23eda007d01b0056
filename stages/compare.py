"""Say in Markdown what the working tree changes against a commit: parameters, figures, which of these are beyond noise.

No stage of the graph. Reads params.yaml, metrics/<dataset>.json and Git alone: no data has to be there. A difference is
beyond the interval where each figure lies outside the other's bounds (evaluate.confidence, over users): a rule of thumb
that misses small differences and knows nothing of training seeds. The report's paired tests compare rows of one run.

    python -m stages.compare --rev main
"""

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

from stages.core import params, stage
from stages.core.errors import InputError
from stages.verify import dvc

MARK = "<!-- stages.compare -->"  # the first line, by which the workflow finds its comment again
LIMIT = 65_536  # characters of a comment on GitHub
NOTHING = "-"


def main(rev: str, report: str) -> None:
    confidence = params.load().evaluate.confidence
    commit = git("rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}").strip()
    sys.stdout.write(fitting(page(rev, commit, report, confidence)))


def fitting(lines: Iterable[str], limit: int = LIMIT) -> str:
    """The lines as one text; those that would make it longer than the limit are left out, and a sentence says so."""
    whole = [f"{line}\n" for line in lines]
    if sum(map(len, whole)) <= limit:
        return "".join(whole)
    end = f"\nCut here: a comment holds {limit} characters. All of it: `dvc params diff` and `dvc metrics diff`.\n"
    kept, room = [], limit - len(end)
    for line in whole:
        room -= len(line)
        if room < 0:
            break
        kept.append(line)
    return "".join(kept) + end


def page(rev: str, commit: str, report: str, confidence: float) -> Iterator[str]:
    """Lines of the comparison with a commit; report: address of the page with charts, if there is one."""
    yield from [MARK, f"## Compared with {code(rev)} ({commit[:10]})"]
    if report:
        yield from ["", f"[The report with charts]({report})"]
    yield from ["", "### Parameters", ""]
    keys = [row for file in dvc("params", "diff", commit, "--json").values() for row in file.items()]
    yield from table(
        ["key", "before", "after"], [[code(key), *map(value, (own["old"], own["new"]))] for key, own in keys]
    )
    before = git("ls-tree", "-z", "--name-only", commit, "metrics/").split("\0")
    for path in sorted({*Path("metrics").glob("*.json"), *(Path(name) for name in before if name.endswith(".json"))}):
        yield from ["", f"### Figures of {code(path.stem)}", ""]
        if path.exists():
            yield from figures(path, commit, confidence)
        else:
            yield f"{code(path.as_posix())} is gone."


def figures(path: Path, commit: str, confidence: float) -> Iterator[str]:
    """A table of the scalars that differ, with their bounds before and after."""
    changes = dvc("metrics", "diff", commit, "--json", "--targets", path.as_posix()).get(path.as_posix(), {})
    before, after = earlier(path, commit), json.loads(path.read_text())
    rows = []
    for key, own in sorted(changes.items()):
        row, _, measure = key.partition(".")
        bounds = [bounds_of(side, key) for side in (before, after)]
        old, new = own.get("old"), own.get("new")
        moved = f"{new - old:+.4f}" if is_number(old) and is_number(new) else NOTHING
        said = [figure(old, bounds[0]), figure(new, bounds[1]), moved, beyond(old, new, *bounds)]
        rows.append([code(row), code(measure), *said])
    yield from table(["row", "measure", "before", "after", "change", "beyond the interval"], rows)
    if rows:
        count = sum(row[-1] == "**yes**" for row in rows)
        yield from [
            "",
            f"{len(rows)} figures differ, {count} of them beyond the {confidence:.0%} intervals over users.",
        ]


def bounds_of(level: Any, key: str) -> list[float] | None:
    """The interval of a scalar, which stands under `intervals` beside it, at its own level; None where there is none.

    key: names of the levels and of the scalar, joined by dots; each of them may hold dots as well.
    """
    if not isinstance(level, dict):
        return None
    if key in level:
        intervals = level.get("intervals")
        found = intervals.get(key) if isinstance(intervals, dict) else None
        return found if isinstance(found, list) and len(found) == 2 and all(map(is_number, found)) else None
    inner = (
        bounds_of(below, key.removeprefix(f"{name}.")) for name, below in level.items() if key.startswith(f"{name}.")
    )
    return next((found for found in inner if found), None)


def is_number(found: Any) -> TypeGuard[float]:
    """Whether a value can be compared; null, text and NaN cannot."""
    return isinstance(found, int | float) and math.isfinite(found)


def beyond(old: Any, new: Any, before: list[float] | None, after: list[float] | None) -> str:
    """Whether each figure lies outside the other's bounds; a dash where one of the four is missing or no number."""
    if not is_number(old) or not is_number(new) or before is None or after is None:
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


def figure(found: Any, bounds: list[float] | None) -> str:
    if not is_number(found):
        return value(found)
    return f"{found:.4f} [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else f"{found:.4f}"


def value(found: Any) -> str:
    return NOTHING if found is None else code(json.dumps(found))


def code(text: str) -> str:
    """Text that nobody reads as Markdown."""
    return "`" + " ".join(text.splitlines()).replace("`", "'").replace("|", "\\|") + "`"


if __name__ == "__main__":
    stage.run(main, __doc__, "rev", report="")
