"""Item text to vectors with a sentence encoder: mean of the token states, scaled to length 1."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

from stages.core.errors import InputError

MAX_TOKENS = 128
BATCH = 64


@torch.no_grad()
def embed(texts: list[str], encoder: Path, progress=lambda batches, what: batches) -> npt.NDArray[np.float32]:
    """Embed texts as [N, width] unit vectors, longest first, so that a batch holds texts of like length."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=True)
        model = AutoModel.from_pretrained(encoder, local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise InputError(f"{encoder}: not a sentence encoder that transformers can load ({error})") from error
    order = sorted(range(len(texts)), key=lambda index: (-len(texts[index]), index))
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    for start in progress(range(0, len(texts), BATCH), "embed items"):
        rows = order[start : start + BATCH]
        batch = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        states = model(**batch).last_hidden_state  # [n, tokens, width]
        mask = batch["attention_mask"][..., None]
        mean = (states * mask).sum(1) / mask.sum(1)
        vectors[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return vectors
