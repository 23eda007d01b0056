"""Low-rank adapters and rows for new tokens on a frozen model, by peft (arXiv 2106.09685).

What is trained are the adapters, and the rows of new tokens in the embedding; where the output layer is not tied to
the embedding, its rows of new tokens as well, as a set of their own. Only these are saved, in peft's own format.

A model can hold two sets, the policy and a frozen reference, on one copy of the base.
"""

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.utils.other import TrainableTokensWrapper
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from stages.core.errors import one_of
from stages.core.language_models import Lora
from stages.core.seeding import derived_seed

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
POLICY, REFERENCE = "default", "reference"  # sets of adapters; peft saves `default` at the folder's root


def attach(model: PreTrainedModel, settings: Lora, new_tokens: int, seed: int) -> PeftModel:
    """Freeze a model and put adapters on it, drawn from the seed; its last `new_tokens` tokens are trained as well.

    Adapters are fp32 whatever the model is. Raises InputError for a target that is no layer of the model.
    """
    linear = {name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    for target in settings.targets:  # peft would leave out what it does not find
        one_of("backbones.<name>.lora.targets", target, sorted(linear), "linear layers of the model")
    tokens = list(range(model.config.vocab_size - new_tokens, model.config.vocab_size))
    layers = [model.get_input_embeddings()]
    if model.get_output_embeddings().weight is not layers[0].weight:
        layers.append(model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if any(module is layer for layer in layers)]
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        target_modules=list(settings.targets),
        trainable_token_indices=dict.fromkeys(names, tokens) if tokens else None,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(derived_seed(seed, "adapters"))
    return _wrapped(model, config)


def save(model: PeftModel, base: Path, folder: Path) -> None:
    """Write the policy's set, never a weight of the base, whose folder is named as the project sees it."""
    model.save_pretrained(folder, selected_adapters=[POLICY], save_embedding_layers=False)
    (folder / "README.md").unlink()  # peft's card: it says nothing, and names a folder of this machine
    config = json.loads((folder / CONFIG).read_text())
    config["base_model_name_or_path"] = base.as_posix()
    config["target_modules"] = sorted(config["target_modules"])  # a set, in an order of its own in each process
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def restore(base: PreTrainedModel, folder: Path, trainable: bool) -> PeftModel:
    """Put the adapters of a folder on a model. Raises ValueError where they do not fit it, and what reading raises."""
    config = LoraConfig.from_pretrained(folder)
    if Path(named := config.base_model_name_or_path).name != Path(base.name_or_path).name:
        raise ValueError(f"its adapters are for {named}")
    config.base_model_name_or_path = None  # or peft would warn of the other path
    config.inference_mode = not trainable
    for tokens in (config.trainable_token_indices or {}).values():
        base.resize_token_embeddings(tokens[-1] + 1, mean_resizing=False)
    model = _wrapped(base, config)
    tensors = load_file(folder / WEIGHTS)
    if strange := tensors.keys() ^ get_peft_model_state_dict(model, save_embedding_layers=False).keys():
        raise ValueError(f"{WEIGHTS}: {min(strange)} is missing, or has no place in the model")
    set_peft_model_state_dict(model, tensors)
    model.set_requires_grad(POLICY, trainable)
    return model


def add_reference(model: PeftModel) -> None:
    """Freeze a copy of the policy's set, as it is now, beside it."""
    model.add_adapter(REFERENCE, copy.deepcopy(model.peft_config[POLICY]))
    tensors = get_peft_model_state_dict(model, adapter_name=POLICY, save_embedding_layers=False)
    set_peft_model_state_dict(model, tensors, REFERENCE)
    model.set_requires_grad(REFERENCE, False)  # on a bf16 base, casting new rows to fp32 has made them trainable


@contextmanager
def as_reference(model: PeftModel) -> Iterator[PeftModel]:
    """Inside the block the model is the reference, and nothing of it is trained."""
    model.set_adapter(REFERENCE, inference_mode=True)
    try:
        yield model
    finally:
        model.set_adapter(POLICY)


class OwnRows(TrainableTokensLayer):
    """An embedding whose new tokens are looked up in their own rows.

    peft copies the whole embedding with the new rows in it at every pass, and again on the way back; of SmolLM2's 113
    MB that is a third of the time of a decoding step.
    """

    def forward_adapters(self, x: Tensor, active_adapters: list[str], *args: object, **kwargs: object) -> Tensor:
        plain = type(self.base_layer) is torch.nn.Embedding and len(active_adapters) == 1
        if not plain or self.disable_adapters or self.merged:
            return super().forward_adapters(x, active_adapters, *args, **kwargs)
        return self.rows(x)

    def rows(self, tokens: Tensor) -> Tensor:
        """Rows [.., h] of tokens [..]: the frozen ones' of the base, the new ones' of the active set."""
        (active,) = self.active_adapters
        first, new = self.token_indices[active][0], self.trainable_tokens_delta[active]
        old = self.base_layer.weight[tokens]
        rows = embedding((tokens - first).clamp(min=0), new).to(old)
        return torch.where((tokens >= first)[..., None], rows, old)


def new_rows(model: torch.nn.Module) -> set[int]:
    """Ids of the parameters that are rows of new tokens alone."""
    layers = [module for module in model.modules() if isinstance(module, TrainableTokensLayer)]
    return {id(weight) for layer in layers for weight in layer.trainable_tokens_delta.values()}


def output_rows(layer: torch.nn.Module, tokens: Tensor) -> Tensor:
    """Rows [.., h] of an output layer for tokens [..], with gradients."""
    return layer.token_adapter.rows(tokens) if isinstance(layer, TrainableTokensWrapper) else layer.weight[tokens]


def _wrapped(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Let peft put adapters into the model, and look new tokens up our way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # peft 0.21 asks for it
        wrapped = get_peft_model(model, config)
    for module in wrapped.modules():
        if isinstance(module, TrainableTokensLayer):
            module.__class__ = OwnRows
    return wrapped
