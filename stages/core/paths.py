"""Where each artefact lies, relative to the repository's root. dvc.yaml says the same to DVC; a test compares them."""

from pathlib import Path


def raw(dataset: str) -> Path:
    return Path("data", dataset, "raw")


def corpus(dataset: str) -> Path:
    return Path("data", dataset, "corpus")


def actions(dataset: str, space: str) -> Path:
    return Path("data", dataset, "actions", space)


def slates(dataset: str, row: str, seed: int) -> Path:
    return Path("data", dataset, "slates", row, f"seed-{seed}.parquet")


def per_user(dataset: str, row: str, seed: int) -> Path:
    return Path("data", dataset, "per_user", row, f"seed-{seed}.parquet")


def harvest(dataset: str, row: str, seed: int) -> Path:
    """Slates that RL found good, for another round of SFT."""
    return Path("data", dataset, "harvest", row, f"seed-{seed}.parquet")


def heldout(dataset: str, row: str, seed: int) -> Path:
    """Rewards of the published policy on contexts that nobody trained on."""
    return Path("data", dataset, "heldout", row, f"seed-{seed}.parquet")


def encoder(name: str) -> Path:
    return Path("models", "encoders", name)


def backbone(name: str) -> Path:
    """Folder of a backbone as it was before any training."""
    return Path("models", "backbones", name)


def model(dataset: str, space: str, optimizer: str, seed: int) -> Path:
    """Folder of a policy; `warmup` in the optimizer's place is the SFT model."""
    return Path("models", dataset, space, optimizer, f"seed-{seed}")


def baseline_model(dataset: str, baseline: str, seed: int) -> Path:
    """Folder of a learnt baseline's weights."""
    return Path("models", dataset, baseline, f"seed-{seed}")


def warmup(dataset: str, space: str, harvest: str, seed: int) -> Path:
    """Folder of the SFT policy; of a second round, of the one that has learnt from the harvest of an optimizer."""
    return model(dataset, space, f"warmup_{harvest}" if harvest else "warmup", seed)


def metrics(dataset: str, row: str, seed: int) -> Path:
    return Path("metrics", dataset, row, f"seed-{seed}.json")


def run_metrics(dataset: str, row: str, seed: int) -> Path:
    """What happened during RL: bounds, signal."""
    return Path("metrics", dataset, row, f"rl-{seed}.json")


def sft_metrics(dataset: str, row: str, seed: int) -> Path:
    """What SFT came to."""
    return Path("metrics", dataset, row, f"sft-{seed}.json")


def stage_metrics(dataset: str, stage: str) -> Path:
    """Counts and reports of the stages before training: `prepare`, `semantic_id`."""
    return Path("metrics", dataset, f"{stage}.json")


def curve(dataset: str, row: str, seed: int) -> Path:
    return Path("metrics", "curves", dataset, row, f"seed-{seed}.csv")


def codes_curve(dataset: str) -> Path:
    """How often the tokenizer's codes are used."""
    return Path("metrics", "curves", dataset, "codes.csv")


def heldout_curve(dataset: str, row: str, seed: int) -> Path:
    """The looks at the held-out reward, fewer than the steps of `curve`."""
    return Path("metrics", "curves", dataset, row, f"heldout-{seed}.csv")


def figure_3() -> Path:
    """The paper's Figure 3, of no data set."""
    return Path("metrics", "curves", "figure_3.csv")


def dense_reward(optimizer: str) -> Path:
    """What benchmarks/dense_reward.py measured."""
    return Path("metrics", "curves", "dense_reward", f"{optimizer}.csv")


def summary(dataset: str) -> Path:
    return Path("metrics", f"{dataset}.json")


def report(dataset: str) -> Path:
    return Path("reports", f"{dataset}.md")


def page(dataset: str) -> Path:
    """The report with charts."""
    return Path("reports", f"{dataset}.html")


def rows_curve(dataset: str) -> Path:
    """The lines of the report's first tables, for `dvc plots`."""
    return Path("metrics", "rows", f"{dataset}.csv")


def row(space: str, optimizer: str) -> str:
    """Name of a policy's row in tables: `semantic_id-sage`. A baseline's row is its own name."""
    return f"{space}-{optimizer}"
