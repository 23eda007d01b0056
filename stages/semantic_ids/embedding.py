"""Item text to vectors with a sentence encoder: mean of the token states, scaled to length 1."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from stages.core.errors import InputError

MAX_TOKENS = 128
BATCH = 64


@torch.no_grad()
def embed(texts: list[str], encoder: Path, progress=lambda batches, what: batches) -> npt.NDArray[np.float32]:
    """Embed texts as [N, width] unit vectors, longest first, so that a batch holds texts of like length.

    Raises InputError for a model that is no encoder of texts, or makes something else than numbers of one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=True)
        model = AutoModel.from_pretrained(encoder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
        _mean_state(model.eval(), tokenizer, ["a", "b c"])
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{encoder}: not a sentence encoder that transformers can load and run ({error})") from error
    order = sorted(range(len(texts)), key=lambda index: (-len(texts[index]), index))
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    for start in progress(range(0, len(texts), BATCH), "embed items"):
        rows = order[start : start + BATCH]
        mean = _mean_state(model, tokenizer, [texts[row] for row in rows])
        vectors[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    if len(wrong := np.flatnonzero(~np.isfinite(vectors).all(1))):
        raise InputError(f"{encoder}: no vector for item {wrong[0]}, of text '{texts[wrong[0]]}'; take another encoder")
    return vectors


def _mean_state(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tensor:
    """Mean over the tokens of each of n texts of the model's last states: [n, width]."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    states, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
    mean: Tensor = (states * mask).sum(1) / mask.sum(1)
    return mean
