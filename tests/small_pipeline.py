"""The real DAG on a small real slice of MovieLens-100K, in a repository of its own that a test may change.

Small means 40 users, a model of 20,000 weights and two RL steps; every stage, library and file format is the real one.
The slice goes by the name of the whole, so that commands of the documentation run on it as they stand.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from stages.core import params
from stages.corpus import movielens

ROOT = Path(__file__).parents[1]
USERS = 40
STAGES = 27  # cells of the first `dvc repro`


def environment(repository: Path) -> dict[str, str]:
    """This interpreter's environment, with checkpoints beside the repository, and no settings of whoever runs it."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SAGE_CHECKPOINTS": str(repository.parent / "checkpoints"),
        "DVC_GLOBAL_CONFIG_DIR": str(repository.parent / "no-config"),
        **{f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }


def run(repository: Path, *command: str, code: int = 0, **variables: str) -> str:
    """Run a command in a repository; its output, or a failure that shows it where it ends with another code."""
    own: Mapping[str, str] = {**environment(repository), **variables}
    done = subprocess.run(command, cwd=repository, env=own, capture_output=True, text=True)
    assert done.returncode == code, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def stages_run(output: str) -> set[str]:
    """Names of the stages whose command DVC started."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def change(repository: Path, **sections: Mapping[str, object]) -> None:
    """Put other values into sections of params.yaml."""
    path = repository / "params.yaml"
    values = yaml.safe_load(path.read_text())
    for section, own in sections.items():
        values[section] |= own
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def tree(target: Path) -> None:
    """The working tree at hand, less its results."""
    for name in filter(None, run(ROOT, "git", "ls-files", "-zco", "--exclude-standard").split("\0")):
        if not name.startswith(("metrics/", "dvc.lock")) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def first_run(base: Path) -> Path:
    """A repository in `base` with the slice beside it, after its first `dvc repro`, committed."""
    (base / "raw").mkdir(parents=True)
    movielens.download(params.load(ROOT / "params.yaml").corpus("ml-100k"), base / "raw")
    write_slice(base / "slice", base / "raw")
    repository = base / "repository"
    tree(repository)
    write_params(repository, base / "slice")
    run(repository, "git", "init", "-q", "-b", "main")
    output = run(repository, "dvc", "repro")
    assert len(stages_run(output)) == STAGES
    run(repository, "git", "add", "-A")
    run(repository, "git", "commit", "-qm", "first run")
    return repository


def write_slice(folder: Path, raw: Path) -> None:
    """The first users of MovieLens-100K in the form of somebody's own data."""
    log = movielens.read(raw, params.load(ROOT / "params.yaml").corpus("ml-100k"))
    (interactions,) = log.batches
    users = log.users["user_id"].slice(0, USERS)
    interactions = interactions.filter(pc.is_in(interactions["user_id"], users.combine_chunks()))
    rows = np.flatnonzero(pc.is_in(log.item_ids, pc.unique(interactions["item_id"])).to_numpy(zero_copy_only=False))
    ids = log.item_ids.take(pa.array(rows))
    items = pa.concat_tables(log.describe(rows, ids)).drop_columns("text").append_column("item_id", ids)
    folder.mkdir()
    pq.write_table(interactions, folder / "interactions.parquet")
    pq.write_table(items, folder / "items.parquet")


def write_params(repository: Path, data: Path) -> None:
    """The shipped parameters, with the slice in the place of the data set and everything made small."""
    path = repository / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["corpora"]["ml-100k"] |= {"source": "local", "path": str(data), "category_level": None}
    values["semantic_id"]["codebook_size"] = 32
    tiny = values["backbones"]["tiny"]
    tiny["architecture"] |= {"hidden_size": 16, "layers": 1, "heads": 2, "feed_forward": 32}
    tiny["spaces"]["text"]["sft"] |= {"epochs": 1}
    values["text"] |= {"pool_size": 12, "vocabulary": 1000}
    values["sft"] |= {"epochs": 2, "batch_items": 128, "history_items": 10}
    values["rl"] |= {"rollouts": 2, "contexts": 4, "group_size": 4, "evaluate_every": 1, "cold_contexts": 2}
    values["harvest"] |= {"min_reward": 0.01}
    values["recommend"] |= {"beam_width": 20}
    for name in ("sasrec", "sasrec_bce", "rearec"):
        values[name] |= {"epochs": 2, "hidden": 16, "feed_forward": 32}
    for name in ("tiger", "lcrec"):
        values[name] |= {"epochs": 2, "max_examples": 64, "valid_users": 10}
        values[name]["ids"]["rqvae"] |= {"epochs": 2, "hidden": [16], "latent": 8}
    values["tiger"] |= {"hidden_size": 16, "layers": 1, "heads": 2, "head_size": 8, "feed_forward": 32}
    values["evaluate"] |= {"resamples": 100}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
