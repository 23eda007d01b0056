"""A language model out of a folder of safetensors, and what is done to it before anything is trained.

Its attention is ours (stages/policy/sharing.py), for which a family of models has to hand on what it is given: Llama,
Qwen, Mistral and their like do, and others are refused. Left out: adapters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from stages.core.errors import InputError
from stages.core.seeding import derived_seed
from stages.policy.sharing import ATTENTION

NOISE = 0.1  # of new rows, as a share of the old ones' spread
FAULTS = (OSError, ValueError, TypeError, LookupError, ImportError, RuntimeError, SafetensorError)


@contextmanager
def loading(folder: Path, fault: str, remedy: str) -> Iterator[None]:
    """Turn what reading a folder raises into an InputError of one line."""
    try:
        yield
    except FAULTS as error:
        raise InputError(f"{folder}: {fault} ({' '.join(str(error).split())}); rerun {remedy}") from error


def read(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A model as the folder has it. Raises what is in FAULTS where it is damaged or a weight is missing."""
    require_config(folder)
    model, found = AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation=ATTENTION,
        dtype=dtype,
        output_loading_info=True,
    )
    if found["missing_keys"]:  # transformers would draw them
        raise ValueError(f"no weights for {min(found['missing_keys'])}")
    return model


def require_config(folder: Path) -> None:
    """Raise ValueError where the file is missing for which transformers has a default, of billions of weights."""
    if not (folder / "config.json").exists():
        raise ValueError("no config.json")


def require_sharing(model: PreTrainedModel, where: Path) -> None:
    """Raise InputError for a model that does not hand a layout to the attention of each of its layers, or whose logits
    are not its last states times the rows of its output layer.
    """
    layout, token = _Counter(), torch.zeros(1, 1, dtype=torch.int64)
    try:
        with torch.no_grad():
            model.get_decoder()(input_ids=token, position_ids=token, use_cache=False, layout=layout)
            state = model.get_decoder()(input_ids=token, use_cache=False).last_hidden_state
            logits = model(input_ids=token, use_cache=False).logits
            plain = state @ model.get_output_embeddings().weight.T
    except TypeError as error:
        raise InputError(f"{where}: {type(model).__name__} cannot be used ({error}); take another backbone") from error
    if layout.calls != model.config.num_hidden_layers:
        raise InputError(
            f"{where}: {type(model).__name__} has layers whose attention cannot be replaced; take another backbone"
        )
    if not torch.allclose(plain.float(), logits.float(), rtol=1e-2, atol=1e-2):
        raise InputError(
            f"{where}: {type(model).__name__} changes its logits behind the output layer (a scale, a bias, a cap); "
            "take another backbone"
        )


class _Counter:
    """A layout that counts the layers that ask it."""

    calls = 0

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, dropout: float) -> Tensor:
        self.calls += 1
        return value.new_zeros(*query.shape[:3], value.shape[3])


def grow(model: PreTrainedModel, known: int, new: int, seed: int) -> None:
    """Cut or grow the vocabulary to `known` tokens and `new` ones behind them, which start near the mean of the known.

    A model may have more rows than its tokenizer has tokens (Qwen3); they are the first to be new ones.
    """
    model.resize_token_embeddings(known + new, mean_resizing=False)
    generator = torch.Generator().manual_seed(derived_seed(seed, "new tokens"))
    layers = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    with torch.no_grad():
        for weight in layers[:1] if layers[0] is layers[1] else layers:
            spread, mean = torch.std_mean(weight[:known].float(), 0)
            noise = torch.randn(new, weight.shape[1], generator=generator)
            weight[known:] = (mean + NOISE * spread * noise).to(weight)


def recompute(model: torch.nn.Module) -> None:
    """Have layers computed again on the way back, for memory, whether or not the model is in training mode.

    Training mode is that of dropout as well, and RL scores slates without it.
    """
    model.activation_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True  # of the layer itself: what is inside keeps its mode
