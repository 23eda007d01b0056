"""Show one user's history and what a trained cell recommends to him, with titles and scores. No stage of the graph.

Reads the slates that `recommend` or `baseline` wrote; a user goes by the source's id. The held-out item is marked where
a list holds it. Scores are log-probabilities (nats) of a policy, votes of a baseline, places of a pool. Under the list
stands the cell that made it, and the commit that is checked out.

    python -m stages.show --dataset ml-100k --row semantic_id-sage --user 196
"""

import difflib
import subprocess
import sys

import pyarrow.compute as pc

from stages.core import params, paths, stage
from stages.core.errors import InputError, one_of
from stages.core.schema import SLATES, read
from stages.corpus import histories
from stages.corpus.histories import Histories

NEWEST = 15  # items of a history
WIDTH = 70  # characters of a title


def main(dataset: str, row: str, user: str, seed: int, split: str, decoder: str) -> None:
    path = paths.slates(dataset, row, seed)
    one_of("--row", row, sorted(other.name for other in path.parents[1].glob("*")), f"rows of {dataset} with slates")
    if not path.exists():
        seeds = params.load().axes.seeds
        raise InputError(f"{path}: no slates of this seed; the axis `seeds` of params.yaml has {seeds}")
    log = histories.load(paths.corpus(dataset))
    number, table = number_of(log, user), read(path, SLATES)
    decoders = sorted(pc.unique(table["decoder"]).to_pylist(), reverse=True)  # slate first
    one_of("--split", split, ["valid", "test"], "splits")
    one_of("--decoder", decoder or decoders[0], decoders, f"decoders of {row}")
    of = (pc.field("split") == split) & (pc.field("decoder") == (decoder or decoders[0])) & (pc.field("user") == number)
    slate = table.filter(of).sort_by("rank").to_pylist()
    if not slate:
        raise InputError(
            f"{path}: no list of user '{user}' on split {split}: he has no item to be judged by there, or is not among "
            "the evaluate.max_users"
        )
    titles, context = log.items["title"].to_pylist(), log.context(number, split).tolist()
    target = int(log.target(split)[number])
    shown = min(NEWEST, len(context))
    say(f"User {user} of {dataset}: {len(context)} items, of which the last {shown}, the newest at the end, are")
    for item in context[-NEWEST:]:
        say(f"      {titles[item][:WIDTH]}")
    say(f"\n{row}, seed {seed}, decoder {decoder or decoders[0]}; the held-out item is {titles[target]!r}")
    for entry in slate:
        title = titles[entry["item"]] if entry["item"] >= 0 else "(no item)"
        mark = "  <" if entry["item"] == target else ""
        say(f"  {entry['rank']:>2}  {title[:WIDTH]:<{WIDTH}} {entry['score']:>9.4f}{mark}")
    made_by = (table.schema.metadata or {}).get(b"model", b"").decode()
    say(f"\n{' of '.join(filter(None, [str(path), made_by]))}; checked out: {commit()}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def number_of(log: Histories, user: str) -> int:
    """The corpus's number of a user. Raises InputError for one that it lacks."""
    names = log.users["user_id"].to_pylist()
    if user not in names:
        near = ", ".join(difflib.get_close_matches(user, names, 3) or names[:3])
        raise InputError(f"--user: '{user}' is none of the {len(names):,} users of the corpus, such as {near}")
    return names.index(user)


def commit() -> str:
    """The commit that is checked out, with a mark where the working tree differs from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "row", "user", seed="1", split="test", decoder="")
