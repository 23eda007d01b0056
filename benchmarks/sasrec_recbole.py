"""RecBole's side of sasrec.py: its SASRec on fixed splits. Runs in RecBole's own environment.

Started by sasrec.py with a job: a folder of atomic files, the model's size, the items that lists leave out. Writes one
JSON object to the job's `out`: for every epoch the seconds so far, training and RecBole's own validation, and the lists
of both splits. Stopped and started again on the same folder, it goes on behind the last whole epoch.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

for old, new in (("bool", np.bool_), ("float", np.float64), ("int", np.int64), ("object", object), ("str", np.str_)):
    if old not in vars(np):
        setattr(np, old, new)  # names of numpy 1 that RecBole 1.2.1 asks for
for old, new in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
    if not hasattr(np, old):
        setattr(np, old, new)

import pandas as pd  # noqa: E402 - what is imported below asks for the names above

pd.set_option("future.infer_string", False)  # RecBole looks for columns of objects

import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.sequential_recommender import SASRec  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402

LENGTH = 10  # of lists


def settings(job: dict) -> Config:
    told = {
        "data_path": job["folder"],
        "checkpoint_dir": str(Path(job["folder"], "saved")),
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"]},
        "MAX_ITEM_LIST_LENGTH": job["length"],
        "train_neg_sample_args": None,
        "loss_type": "CE",
        "epochs": job["epochs"],
        "stopping_step": job["patience"] - 1,  # it stops when more have passed
        "valid_metric": "NDCG@10",
        "metrics": ["NDCG"],
        "topk": [LENGTH],
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": None, "mode": "full"},
        "seed": job["seed"],
        "use_gpu": False,
        "show_progress": False,
        "state": "WARNING",
        **job["size"],
    }
    sys.argv = sys.argv[:1]  # RecBole reads the command line
    return Config(model="SASRec", dataset=job["files"], config_dict=told)


@torch.no_grad()
def lists(model: SASRec, loader, seen: dict[str, list[int]], names: np.ndarray) -> dict[str, list[int]]:
    """Each user's best items less those seen, by our numbers."""
    model.eval()
    found, place = {}, {name: index for index, name in enumerate(names.tolist())}
    for interaction, *_ in loader:
        scores = model.full_sort_predict(interaction).clone()
        scores[:, 0] = -torch.inf  # padding
        users = loader.dataset.id2token("user_id", interaction["user_id"].numpy())
        for row, user in enumerate(users.tolist()):
            scores[row, [place[str(item)] for item in seen[user] if str(item) in place]] = -torch.inf
        for user, best in zip(users.tolist(), scores.topk(LENGTH).indices.numpy(), strict=True):
            found[user] = [int(name) for name in names[best]]
    return found


class State:
    """Where a run stands behind an epoch, as arrays: RecBole's own checkpoint is a pickle of its objects."""

    def __init__(self, path: Path, trainer: Trainer, order: torch.Generator) -> None:
        """order: what draws the examples' order."""
        self.path, self.trainer, self.order = path, trainer, order

    def save(self, epochs: list[dict]) -> None:
        own, optimizer = self.trainer, self.trainer.optimizer.state_dict()
        arrays = {f"model {name}": value.numpy() for name, value in own.model.state_dict().items()}
        for index, values in optimizer["state"].items():
            arrays |= {f"optimizer {index} {name}": value.numpy() for name, value in values.items()}
        arrays |= {"random": torch.get_rng_state().numpy(), "order": self.order.get_state().numpy()}
        told = {"epochs": epochs, "stale": own.cur_step, "best": float(own.best_valid_score)}
        scratch = self.path.with_suffix(".new.npz")
        np.savez(scratch, told=json.dumps({**told, "groups": optimizer["param_groups"]}), **arrays)
        scratch.replace(self.path)

    def load(self) -> list[dict]:
        """Go back there; the epochs so far, none where there is no state."""
        if not self.path.exists():
            return []
        own, model, moments = self.trainer, {}, {}
        with np.load(self.path) as found:
            told = json.loads(str(found["told"]))
            for name in found.files:
                kind, *rest = name.split()
                if kind == "model":
                    model[rest[0]] = torch.from_numpy(found[name])
                if kind == "optimizer":
                    moments.setdefault(int(rest[0]), {})[rest[1]] = torch.from_numpy(found[name])
            torch.set_rng_state(torch.from_numpy(found["random"]))
            self.order.set_state(torch.from_numpy(found["order"]))
        own.model.load_state_dict(model)
        own.optimizer.load_state_dict({"state": moments, "param_groups": told["groups"]})
        own.cur_step, own.best_valid_score = told["stale"], told["best"]
        own.start_epoch = len(told["epochs"])
        return told["epochs"]


def main(job: dict) -> dict:
    torch.set_num_threads(job["threads"])
    config = settings(job)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    model = SASRec(config, train_data.dataset).to(config["device"])
    names, trainer = np.asarray(dataset.field2id_token["item_id"]).astype(str), Trainer(config, model)
    state = State(Path(job["folder"], "recbole.npz"), trainer, train_data.generator)
    epochs = state.load()
    aside = -epochs[-1]["seconds"] if epochs else 0.0
    started = time.perf_counter()

    def after(epoch: int, score: float) -> None:
        """Takes the lists with the clock stopped."""
        nonlocal aside
        now = time.perf_counter()
        parts = {"valid": valid_data, "test": test_data}
        found = {split: lists(model, loader, job["seen"][split], names) for split, loader in parts.items()}
        epochs.append({"seconds": now - started - aside, "lists": found})
        state.save(epochs)
        aside += time.perf_counter() - now
        print(f"RecBole: epoch {epoch + 1}, its own N@10 {score:.4f}", file=sys.stderr)

    trainer.fit(train_data, valid_data, verbose=False, saved=False, callback_fn=after)
    return {"epochs": epochs, "parameters": sum(weight.numel() for weight in model.parameters())}


if __name__ == "__main__":
    told = json.loads(Path(sys.argv[1]).read_text())
    Path(told["out"]).write_text(json.dumps(main(told)))
