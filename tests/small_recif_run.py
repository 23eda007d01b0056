"""The pipeline on a small drawn set in RecIF's form, stage by stage in this process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from stages import baseline, download, download_backbone, evaluate, prepare, recommend, sft, tokenize
from tests import small_generative

ROOT = Path(__file__).parents[1]
DATASET = "recif-fixture"
ITEMS = {"hidden": 32, "feed_forward": 64, "dropout": 0.1, "batch_size": 512, "lr": 5.0e-3, "patience": 40}
SMALL = {  # baselines of seconds
    "sasrec": {**ITEMS, "epochs": 40},
    "sasrec_bce": {**ITEMS, "epochs": 5},
    "rearec": {**ITEMS, "epochs": 10},
    "tiger": {"hidden_size": 32, "layers": 1, "heads": 2, "head_size": 16, "feed_forward": 64, "epochs": 2},
    "lcrec": {"epochs": 1, "max_examples": 400, "vocabulary": 300},
}


def project(root: Path, users: int, epochs: int) -> None:
    """params.yaml with a small backbone, graph and code."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["corpora"][DATASET]["recif"]["drawn_users"] = users
    values["backbones"]["tiny"]["architecture"] |= {"hidden_size": 48, "layers": 2, "heads": 2, "feed_forward": 96}
    values["backbones"]["tiny"]["sft_lr"] = 5.0e-3
    values["sft"] |= {"epochs": epochs, "patience": epochs, "batch_items": 512, "history_items": 30}
    values["evaluate"]["resamples"] = 200
    values["recommend"] |= {"beam_width": 32, "sample": {"slates": 2, "temperature": 0.9, "nucleus": 0.95}}
    for name, own in SMALL.items():
        values[name] |= own
    for name in ("tiger", "lcrec"):
        values[name]["ids"] |= {"codebook_size": 32, "rqvae": {**values[name]["ids"]["rqvae"], "epochs": 20}}
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    (root / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (root / "stages").symlink_to(ROOT / "stages", target_is_directory=True)
    small_generative.write_encoder(root / "models" / "encoders" / "minilm")  # of which baselines' ids are made


@contextmanager
def entered(root: Path) -> Iterator[None]:
    """The project as the current folder, with checkpoints beside it, for fixtures that outlive a test."""
    here, kept = Path.cwd(), os.environ.get("SAGE_CHECKPOINTS")
    os.environ["SAGE_CHECKPOINTS"] = str(root.parent / "checkpoints")
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.pop("SAGE_CHECKPOINTS")
        if kept is not None:
            os.environ["SAGE_CHECKPOINTS"] = kept


def prepared() -> None:
    """Up to the Semantic IDs and popularity, in the current folder."""
    download.main(DATASET)
    prepare.main(DATASET)
    tokenize.main(DATASET, "minilm")
    baseline.main(DATASET, "popularity", 1)
    evaluate.main(DATASET, "popularity", 1)


def trained() -> None:
    """SFT, its lists and their measures. The row of the optimizer that takes no step is made from the warm-up."""
    download_backbone.main("tiny")
    sft.main(DATASET, "semantic_id", 1)
    models = Path("models", DATASET, "semantic_id")
    (models / "sft").symlink_to("warmup")
    recommend.main(DATASET, "semantic_id", "sft", 1)
    evaluate.main(DATASET, "semantic_id-sft", 1)
