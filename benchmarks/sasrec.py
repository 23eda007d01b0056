"""SASRec of the same size beside RecBole 1.2.1's, on the corpus of `prepare`: the same users, targets and measure.

    python3.11 -m venv .venv-recbole
    .venv-recbole/bin/pip install torch==2.13.0 recbole==1.2.1 'numpy<2' 'pandas<2.2'
    dvc repro prepare
    .venv/bin/python -m benchmarks.sasrec --recbole .venv-recbole/bin/python

The corpus is written as RecBole's atomic files with fixed splits: its training examples are all prefixes of the
training parts, as its own augmentation makes them, in the one order of the file. Ours draws the order of interactions
of one second anew in each epoch where the data set's key shuffle_ties says so, as everywhere here; with --file-order it
has that one order as well. Both sides run in processes of their own, one after the other, with the same number of
threads, targets per step, size, dropout and learning rate (Adam's second decay is .98 here and .999 there), and stop
after so many epochs without a better validation N@10, RecBole by its own, which ranks seen items as well, is rounded to
4 digits and counts equal ones as better. Lists of both leave out seen items and are measured here; the best epoch of
each is by N@10 of the validation lists. Times are training and each side's own validation, up to the first epoch whose
validation N@10 is at least the lower of both best ones. The last line is one JSON object: ndcg_ours and ndcg_recbole
(test N@10 at the best epoch), their paired difference with its 95% interval over users, time_ratio (ours over
RecBole's), and what they come from. With --folder a comparison that was stopped goes on: RecBole behind its last epoch,
ours, which takes minutes, anew. `--job` is what a child process runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.baselines.asked import of_users
from stages.baselines.base import Given
from stages.baselines.loop import train
from stages.baselines.self_attention import LOSSES, Sasrec
from stages.baselines.task_asked import SPLITS
from stages.core import params, paths
from stages.core.checkpoints import Checkpoint, model_state
from stages.core.curves import Curve
from stages.core.files import fresh_file
from stages.corpus import histories
from stages.corpus.histories import Histories
from stages.measures import accuracy

FILES = "corpus"  # RecBole has a set of its own by the name of ml-100k
HEAD = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
SIZES = {"hidden": "hidden_size", "blocks": "n_layers", "heads": "n_heads", "feed_forward": "inner_size"}


class Timed(Curve):
    """A curve that notes when each epoch was done, and the lists of both splits with the clock stopped."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.learner: Sasrec | None = None
        self.users: dict[str, np.ndarray] = {}
        self.epochs: list[dict[str, Any]] = []
        self.started, self.aside = time.perf_counter(), 0.0

    def add(self, **values: float | int | str) -> None:
        now = time.perf_counter()
        super().add(**values)
        assert self.learner is not None
        log, length = self.learner.given.histories, self.learner.schedule.list_length
        asked = [of_users(log, split, users, True, length) for split, users in self.users.items()]
        found = {own.split: self.learner.ranked(own)[0].tolist() for own in asked}
        lists = {split: dict(zip(map(str, self.users[split].tolist()), found[split], strict=True)) for split in found}
        self.epochs.append({"seconds": now - self.started - self.aside, "lists": lists})
        self.aside += time.perf_counter() - now


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """Train SASRec as shipped, but for what the job says; lists and seconds of every epoch."""
    torch.set_num_threads(job["threads"])
    settings, folder = params.load(), Path(job["folder"])
    os.environ["SAGE_CHECKPOINTS"] = str(folder / "checkpoints")
    own = settings.own["sasrec"].model_copy(update={key: job[key] for key in ("epochs", "patience")})
    corpus = histories.load(paths.corpus(job["name"]))
    users = {split: corpus.judged(split, None, 0) for split in SPLITS}
    checkpoint, curve = Checkpoint("sasrec-benchmark", "ours"), Timed(folder / "ours.csv")
    checkpoint.drop()  # of a run that was stopped: the seconds of its epochs are gone
    checkpoint.claim()
    device = torch.device("cpu")
    given = Given(corpus, users, True, job["shuffle_ties"], job["seed"], device, checkpoint, curve, None)
    curve.users, curve.started = users, time.perf_counter()
    curve.learner = Sasrec(given, own, LOSSES[own.loss], "sasrec")
    train(curve.learner, own, given, "sasrec")
    weights = model_state("model", curve.learner.model)
    return {"epochs": curve.epochs, "parameters": sum(weight.numel() for weight in weights.values())}


def atomic_files(corpus: Histories, folder: Path, length: int) -> None:
    """Write every example as a user, at most `length` items before the target, and the target."""
    (folder / FILES).mkdir(exist_ok=True)
    lines: dict[str, list[str]] = {split: [] for split in ("train", *SPLITS)}
    for user in range(corpus.user_count):
        items = corpus.train(user).tolist()
        for place in range(1, len(items)):
            lines["train"].append(line(user, items[max(0, place - length) : place], items[place]))
        for split in SPLITS:
            if (target := int(corpus.target(split)[user])) >= 0:
                lines[split].append(line(user, corpus.context(user, split)[-length:].tolist(), target))
    for split, own in lines.items():
        (folder / FILES / f"{FILES}.{split}.inter").write_text(HEAD + "".join(own))


def line(user: int, items: list[int], target: int) -> str:
    return f"{user}\t{' '.join(map(str, items))}\t{target}\n"


def measured(found: dict[str, Any], corpus: Histories) -> list[dict[str, Any]]:
    """Seconds, N@10 of both splits, and that of each test user, by epoch."""
    rows = []
    for epoch in found["epochs"]:
        row: dict[str, Any] = {"seconds": epoch["seconds"]}
        for split, lists in epoch["lists"].items():
            users = np.array(sorted(map(int, lists)))
            assert np.array_equal(users, corpus.judged(split, None, 0)), "a side left users out"
            rank = accuracy.rank_of(np.array([lists[str(user)] for user in users]), corpus.target(split)[users])
            row[f"{split}_users"] = accuracy.ndcg_at_rank(rank, 10)
            row[split] = float(row[f"{split}_users"].mean())
        rows.append(row)
    return rows


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return max(rows, key=lambda row: row["valid"])


def until(rows: list[dict[str, Any]], ndcg: float) -> float:
    """Seconds to the first epoch of at least that validation N@10."""
    return float(next(row["seconds"] for row in rows if row["valid"] >= ndcg))


def run(python: str, module: list[str], job: dict[str, Any], where: Path) -> None:
    path = Path(job["folder"], "job.json")
    path.write_text(json.dumps(job))
    threads = str(job["threads"])
    own = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    subprocess.run([python, *module, str(path)], env=own, check=True, cwd=where)


def of_one_job(path: Path, job: dict[str, Any]) -> None:
    """Hold a folder to the job that began in it. Raises SystemExit for another."""
    before = json.loads(path.read_text()) if path.exists() else job
    if other := [name for name, value in job.items() if before.get(name) != value]:
        raise SystemExit(f"{path.parent}: holds a comparison with another {', '.join(other)}; name another folder")
    path.write_text(json.dumps(job))


def compare(arguments: argparse.Namespace) -> None:
    settings = params.load()
    own = settings.own["sasrec"]
    alike = {"loss": "ce", "lr_warmup": 0, "lr_decay": "none", "max_grad_norm": None, "weight_decay": 0}
    alike |= {"evaluate_every": 1, "valid_users": None}
    if other := [name for name, value in alike.items() if getattr(own, name) != value]:
        raise SystemExit(f"sasrec.{other[0]}: RecBole's side has {alike[other[0]]}; set it so")
    if not settings.corpus(arguments.dataset).exclude_seen:
        raise SystemExit(f"corpora.{arguments.dataset}.exclude_seen: both sides leave out seen items; set it so")
    corpus = histories.load(paths.corpus(arguments.dataset))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.folder or scratch).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        atomic_files(corpus, folder, own.length)
        size = {theirs: getattr(own, name) for name, theirs in SIZES.items()}
        size |= {"hidden_dropout_prob": own.dropout, "attn_dropout_prob": own.dropout, "learning_rate": own.lr}
        size |= {"train_batch_size": own.batch_size, "weight_decay": own.weight_decay}
        seen = {
            split: {str(user): corpus.context(user, split).tolist() for user in corpus.judged(split, None, 0).tolist()}
            for split in SPLITS
        }
        job = {
            "folder": str(folder),
            "name": arguments.dataset,
            "files": FILES,
            "length": own.length,
            "size": size,
            "seen": seen,
        }
        job |= {"epochs": arguments.epochs or own.epochs, "patience": own.patience, "seed": arguments.seed}
        job["shuffle_ties"] = settings.corpus(arguments.dataset).shuffle_ties and not arguments.file_order
        job |= {"threads": arguments.threads}
        of_one_job(folder / "comparison.json", job)
        rows, parameters = {}, {}
        sides = {"ours": (sys.executable, ["-m", "benchmarks.sasrec", "--job"], Path.cwd())}
        theirs = str(Path(__file__).resolve().with_name("sasrec_recbole.py"))
        sides["recbole"] = (
            str(Path(arguments.recbole).absolute()),
            [theirs],
            folder,
        )  # which leaves logs where it runs
        for name, (python, module, where) in sides.items():
            out = folder / f"{name}.json"
            if not out.exists():
                run(python, module, {**job, "out": str(out)}, where)
            found = json.loads(out.read_text())
            rows[name], parameters[name] = measured(found, corpus), found["parameters"]
    level = min(best(own)["valid"] for own in rows.values())
    seconds = {name: until(own, level) for name, own in rows.items()}
    for name, own in rows.items():
        for epoch, row in enumerate(own, 1):
            print(f"{name} {epoch}: {row['seconds']:.1f} s, valid {row['valid']:.4f}, test {row['test']:.4f}")
    told = {f"ndcg_{name}": best(own)["test"] for name, own in rows.items()}
    apart = best(rows["ours"])["test_users"] - best(rows["recbole"])["test_users"]
    half = 1.96 * float(apart.std(ddof=1)) / len(apart) ** 0.5
    told |= {"difference": [float(apart.mean()), float(apart.mean()) - half, float(apart.mean()) + half]}
    told |= {"time_ratio": seconds["ours"] / seconds["recbole"], "valid_ndcg": level}
    told |= {f"seconds_{name}": own for name, own in seconds.items()}
    told |= {f"valid_ndcg_{name}": best(own)["valid"] for name, own in rows.items()}
    told |= {f"seconds_per_epoch_{name}": own[-1]["seconds"] / len(own) for name, own in rows.items()}
    told |= {f"epochs_{name}": len(own) for name, own in rows.items()}
    told |= {f"parameters_{name}": count for name, count in parameters.items()}
    print(json.dumps({**told, "threads": arguments.threads, "seed": arguments.seed}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recbole", help="Python of an environment with RecBole")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--epochs", type=int, help="at most; without it sasrec.epochs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", help="for the state of a comparison of this seed, so that it can be stopped")
    parser.add_argument("--file-order", action="store_true", help="shuffle no ties on our side either")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given_arguments = parser.parse_args()
    if given_arguments.job:
        whole = json.loads(Path(given_arguments.job).read_text())
        with fresh_file(Path(whole["out"])) as scratch_file:
            scratch_file.write_text(json.dumps(ours(whole)))
    elif given_arguments.recbole:
        compare(given_arguments)
    else:
        parser.error("--recbole is missing: the interpreter of an environment with RecBole 1.2.1")
