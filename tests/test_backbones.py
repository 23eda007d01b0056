"""What is made of a backbone: new tokens, adapters, their folder, the frozen reference, memory for time."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft.tuners.trainable_tokens import TrainableTokensLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, GraniteConfig, MistralConfig, PhiConfig, Qwen3Config, Qwen3ForCausalLM

from stages.action_spaces.base import Prompts
from stages.core.checkpoints import (
    Checkpoint,
    load_model_state,
    load_optimizer_state,
    model_state,
    optimizer_state,
    snapshot,
)
from stages.core.errors import InputError
from stages.core.seeding import derived_seed
from stages.policy import adapters, backbone, model_card, pretrained, sharing, weights
from stages.policy.sharing import ATTENTION, read_at_once
from tests import small_policy
from tests.small_backbone import ROWS, SHAPE, WORDS, pretrained_folder, settings, write_model

NEW = 5
CARD = backbone.Card("slate", "f00d", "sft@test 0")
IDS = torch.tensor([[1, 2, WORDS, WORDS + 1, WORDS + 4, 3]])
PROMPTS = Prompts(
    torch.tensor([[1, 2, WORDS, WORDS + 1], [3, WORDS + 4, 0, 0]]),
    torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    torch.full((2, 1), -1),
)
SLATES = torch.tensor([[[WORDS, WORDS + 1, 5], [4, 5, WORDS + 2]], [[WORDS + 3, WORDS + 4, 6], [7, 8, 9]]])
COLUMNS = torch.tensor([5, WORDS, WORDS + 4])

kinds = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
precisions = pytest.mark.parametrize("kept", ["fp32", "bf16"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """The folder of a small Qwen3, tied or not."""
    made = {tied: pretrained_folder(tmp_path_factory.mktemp("backbone"), tied=tied) for tied in (True, False)}
    return made.__getitem__


def trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def shake(model: torch.nn.Module, seed: int = 0) -> None:
    """Change every weight that is trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in trained(model).values():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(IDS).logits


def loss(model: torch.nn.Module) -> torch.Tensor:
    """Of slates behind prompts, by the tokens of COLUMNS, as RL computes it."""
    hidden = read_at_once(model, PROMPTS, SLATES).float()
    return (hidden @ backbone.output_rows(model, COLUMNS).float().T).log_softmax(-1)[..., 1].sum()


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss(model).backward()
    return {name: weight.grad.clone() for name, weight in trained(model).items()}


# --- From scratch ----------------------------------------------------------------------------------------------------


def test_weights_from_scratch_are_those_of_qwen3_at_the_seed(tmp_path: Path) -> None:
    body = small_policy.settings()
    pretrained.fetch(body, tmp_path)
    model = backbone.create(body, tmp_path, 31, 7)
    torch.manual_seed(derived_seed(7, "weights"))
    config = Qwen3Config(
        vocab_size=31,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=32,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        pad_token_id=0,
    )
    expected = Qwen3ForCausalLM(config).state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert model.config._attn_implementation == ATTENTION


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_scratch_backbone_that_is_damaged(tmp_path: Path, damage: str) -> None:
    if damage == "cut":
        (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"not a backbone that can be loaded .*rerun download_backbone"):
        backbone.create(small_policy.settings(), tmp_path, 31, 7)


# --- New tokens ------------------------------------------------------------------------------------------------------


@kinds
def test_new_rows_lie_near_the_mean_of_the_known_ones(source, tied: bool) -> None:
    """They stand behind the tokenizer's last token, where the model has rows that no token uses."""
    assert WORDS + NEW > ROWS
    assert len(backbone.tokenizer(source(tied))) == WORDS
    old = load_file(source(tied) / "model.safetensors")
    plain = settings(lora=None)
    model, again, other = (backbone.create(plain, source(tied), NEW, seed) for seed in (1, 1, 2))
    for name in ("model.embed_tokens.weight",) if tied else ("model.embed_tokens.weight", "lm_head.weight"):
        rows, known = model.state_dict()[name], old[name][:WORDS]
        assert rows.shape == (WORDS + NEW, 16)
        assert torch.equal(rows[:WORDS], known)
        away = (rows[WORDS:] - known.mean(0)) / (weights.NOISE * known.std(0))  # standard normal
        assert 0.7 < away.std() < 1.3
        assert torch.equal(rows, again.state_dict()[name])
        assert not torch.equal(rows[WORDS:], other.state_dict()[name][WORDS:])
        assert torch.equal(rows[:WORDS], other.state_dict()[name][:WORDS])


def test_without_new_tokens_the_vocabulary_stays(source) -> None:
    model = backbone.create(settings(), source(True), 0, 1)
    assert model.config.vocab_size == ROWS
    assert all("lora_" in name for name in trained(model))


# --- Adapters --------------------------------------------------------------------------------------------------------


@kinds
@precisions
def test_what_is_trained(source, tied: bool, kept: str) -> None:
    """Adapters and new rows, in fp32 whatever the frozen weights are in."""
    model = backbone.create(settings(weights=kept), source(tied), NEW, 1)
    found = trained(model)
    layers = {re.sub(r".*\.(\w+)\.(lora_[AB])\.default\.weight", r"\1.\2", name) for name in found if "lora_" in name}
    assert layers == {f"{name}.lora_{side}" for name in ("q_proj", "v_proj", "down_proj") for side in "AB"}
    rows = [name for name in found if "lora_" not in name]
    assert [name.split(".token_adapter")[0].split(".")[-1] for name in rows] == ["embed_tokens", "lm_head"][: 2 - tied]
    assert all(found[name].shape == (NEW, 16) for name in rows)
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    frozen = {weight.dtype for weight in model.parameters() if not weight.requires_grad}
    assert frozen == {backbone.DTYPES[kept]}


def test_the_seed_draws_the_adapters(source) -> None:
    first, again, other = (trained(backbone.create(settings(), source(True), NEW, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(*(next(w for n, w in own.items() if "lora_A" in n) for own in (first, other)))


@kinds
@precisions
def test_new_rows_learn_in_the_input_and_in_the_output(source, tied: bool, kept: str) -> None:
    model = backbone.create(settings(weights=kept), source(tied), NEW, 1)
    before = backbone.output_rows(model, COLUMNS).detach(), logits(model)
    found = gradients(model)
    embedded = next(grad for name, grad in found.items() if "embed_tokens" in name)
    assert embedded.abs().sum(1).bool().tolist() == [True, True, False, True, True]  # a slate's last is never read
    if not tied:
        head = next(grad for name, grad in found.items() if "lm_head" in name)
        assert head.abs().sum(1).bool().tolist() == [True, False, False, False, True]  # those among COLUMNS
    shake(model)
    rows, scores = backbone.output_rows(model, COLUMNS).detach(), logits(model)
    assert (rows != before[0]).any(1).tolist() == [False, True, True]
    assert (scores[..., WORDS:] != before[1][..., WORDS:]).any()


@kinds
@precisions
def test_own_rows_are_those_of_peft(source, tied: bool, kept: str) -> None:
    """The outputs and gradients that peft's copy of the whole embedding gives, bit for bit where all is fp32.

    On a bf16 base peft adds up the gradients of a row in bf16, and ours in fp32.
    """
    model = backbone.create(settings(weights=kept), source(tied), NEW, 1)
    shake(model)
    rows = model.get_output_embeddings().weight[COLUMNS]
    assert torch.equal(backbone.output_rows(model, COLUMNS), rows)
    assert torch.equal(backbone.output_rows(model, COLUMNS[:, None].expand(-1, 2)), rows[:, None].expand(-1, 2, -1))
    own, scores = gradients(model), logits(model)
    for module in model.modules():
        if isinstance(module, adapters.OwnRows):
            module.__class__ = TrainableTokensLayer
            module.rows = lambda tokens, module=module: module.get_merged_weights(module.active_adapters)[tokens]
    assert torch.equal(logits(model), scores)
    theirs = gradients(model)
    assert own.keys() == theirs.keys()
    for name in own:
        torch.testing.assert_close(own[name], theirs[name], rtol=0 if kept == "fp32" else 0.02, atol=0)


def test_output_rows_of_a_whole_model(source) -> None:
    model = backbone.create(settings(lora=None), source(True), NEW, 1)
    assert torch.equal(backbone.output_rows(model, COLUMNS), model.get_output_embeddings().weight[COLUMNS])
    assert {weight.dtype for weight in trained(model).values()} == {torch.float32}
    assert len(trained(model)) == len(list(model.parameters()))


def test_a_target_that_is_no_layer(source) -> None:
    lora = {"r": 2, "alpha": 4.0, "targets": ["q_proj", "up_project"]}
    with pytest.raises(InputError, match=r"lora\.targets: 'up_project' is none of the linear layers.*mean 'up_proj'"):
        backbone.create(settings(lora=lora), source(True), NEW, 1)


# --- A policy's folder -----------------------------------------------------------------------------------------------


@kinds
@precisions
@pytest.mark.parametrize("new", [0, NEW])
def test_adapters_round_trip(source, tmp_path: Path, tied: bool, kept: str, new: int) -> None:
    """No weight of the base and no path of this machine is saved, and the same model gives the same bytes."""
    chosen = settings(weights=kept)
    model = backbone.create(chosen, source(tied), new, 1).eval()
    shake(model)
    for name in ("policy", "again"):
        backbone.save(model, CARD, tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "policy").iterdir()}
    assert sorted(files) == ["adapter_config.json", "adapter_model.safetensors", "policy.json"]
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    root = str(source(tied).parents[2]).encode()
    assert not any(root in content for content in files.values())
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "models/backbones/small"
    assert config["target_modules"] == sorted(config["target_modules"])
    with safe_open(tmp_path / "policy" / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    assert all("lora_" in name or "trainable_tokens_delta" in name for name in names)
    assert len(names) == len(trained(model))
    ids = IDS if new else IDS.clamp(max=WORDS)
    for trainable in (False, True):
        loaded, card = backbone.load(tmp_path / "policy", "f00d", source(tied), chosen, trainable)
        assert card == CARD
        assert not loaded.training
        assert trained(loaded).keys() == (trained(model).keys() if trainable else set())
        with torch.no_grad():
            assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_a_whole_model_round_trip(source, tmp_path: Path) -> None:
    chosen = settings(lora=None)
    model = backbone.create(chosen, source(False), NEW, 1).eval()
    shake(model)
    backbone.save(model, CARD, tmp_path)
    loaded, _ = backbone.load(tmp_path, "f00d", source(False), chosen)
    assert torch.equal(logits(loaded), logits(model))
    assert str(source(False)) not in (tmp_path / "config.json").read_text()


def facts(chosen, path: str) -> model_card.Facts:
    return model_card.Facts(
        cell="rl@beauty-text-sage-1",
        dataset="beauty",
        space="text",
        optimizer="sage",
        base="small (folder)",
        source=Path("models/backbones/small"),
        path=Path(path),
        weights=chosen.weights,
        params={"sage": {"eps_boost": 0.3}, "lr": 1e-6},
        metrics={"recall@10": 0.1234567891, "made": [["cell", "x"]], "users": 3},
    )


@kinds
@pytest.mark.parametrize("lora", [True, False], ids=["adapters", "whole"])
def test_the_card_loads_the_model_without_the_project(source, tmp_path, monkeypatch, tied: bool, lora: bool) -> None:
    """Its lines are run as they stand: transformers and peft alone, whose attention is another one."""
    chosen = settings() if lora else settings(lora=None)
    model = backbone.create(chosen, source(tied), NEW, 1).eval()
    shake(model)
    folder = tmp_path / "models/beauty/text/sage/seed-1"
    folder.mkdir(parents=True)
    backbone.save(model, CARD, folder)
    model_card.write_readme(folder, facts(chosen, "models/beauty/text/sage/seed-1"))
    text = (folder / "README.md").read_text()
    assert "- backbone: small (folder)" in text
    assert "| recall@10 | 0.123457 |\n| users | 3 |" in text
    assert "made" not in text.split("## Metrics")[1]
    assert '"lr": 1e-06' in text
    assert str(tmp_path) not in text
    code = text.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line and "import" not in line]) == (3 if lora else 1)
    (tmp_path / "models/backbones").symlink_to(source(tied).parent)
    monkeypatch.chdir(tmp_path)
    made: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        exec(code, made)
    torch.testing.assert_close(logits(made["model"].eval()), logits(model), rtol=1e-4, atol=1e-5)


DAMAGES = {
    "no card": lambda folder: (folder / "policy.json").unlink(),
    "no weights": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "cut weights": lambda folder: cut(folder / "adapter_model.safetensors"),
    "cut config": lambda folder: cut(folder / "adapter_config.json"),
    "no config": lambda folder: (folder / "adapter_config.json").unlink(),
    "a tensor is missing": lambda folder: retouched(folder, lambda tensors: dict(list(tensors.items())[1:])),
    "a tensor too many": lambda folder: retouched(folder, lambda tensors: {**tensors, "model.more": torch.ones(1)}),
    "another shape": lambda folder: retouched(folder, lambda tensors: {n: t[:1] for n, t in tensors.items()}),
    "another backbone": lambda folder: renamed(folder / "adapter_config.json"),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def retouched(folder: Path, change: Callable) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor.clone() for name, tensor in change(load_file(path)).items()}, path)


def renamed(path: Path) -> None:
    path.write_text(path.read_text().replace("backbones/small", "backbones/large"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_adapters_are_refused(source, tmp_path: Path, damage: str) -> None:
    backbone.save(backbone.create(settings(), source(True), NEW, 1), CARD, tmp_path)
    DAMAGES[damage](tmp_path)
    with pytest.raises(InputError, match=r"not a policy that can be loaded .*rerun the stage that made it") as caught:
        backbone.load(tmp_path, "f00d", source(True), settings())
    assert "\n" not in str(caught.value)


def test_a_damaged_backbone_is_named_as_such(source, tmp_path: Path) -> None:
    backbone.save(backbone.create(settings(), source(True), NEW, 1), CARD, tmp_path / "policy")
    other = pretrained_folder(tmp_path)
    tensors = load_file(other / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    for read in (
        lambda: backbone.create(settings(), other, NEW, 1),
        lambda: backbone.load(tmp_path / "policy", "f00d", other, settings()),
    ):
        with pytest.raises(InputError, match=r"small: not a backbone .*no weights for model\.norm\.weight.*download_b"):
            read()


# --- Architectures ---------------------------------------------------------------------------------------------------


def test_llama_is_read_alike(tmp_path: Path) -> None:
    """Slates behind a prompt that is read once are scored as one sequence after the other."""
    model = backbone.create(settings(), pretrained_folder(tmp_path, "llama"), NEW, 1).eval()
    shake(model)
    with torch.no_grad():
        together = read_at_once(model, PROMPTS, SLATES)
        one = torch.cat([PROMPTS.tokens[1, :2], SLATES[1, 0, :-1]])[None]
        alone = model.get_decoder()(input_ids=one, use_cache=False).last_hidden_state[0, 1:]
    torch.testing.assert_close(together[1, 0], alone)


def test_architectures_whose_attention_is_another_one(tmp_path: Path) -> None:
    """Bloom would be read as if no layout were given, each slate seeing those before it."""
    write_model(tmp_path / "bloom", BloomConfig(vocab_size=ROWS, hidden_size=16, n_layer=2, n_head=2))
    with pytest.raises(InputError, match="bloom: BloomForCausalLM has layers whose attention cannot be replaced"):
        backbone.create(settings(lora=None), tmp_path / "bloom", NEW, 1)
    write_model(tmp_path / "mistral", MistralConfig(sliding_window=4, **SHAPE))
    with pytest.raises(InputError, match="attention with sliding_window is not supported; take another backbone"):
        backbone.create(settings(lora=None), tmp_path / "mistral", NEW, 1)


# --- The reference ---------------------------------------------------------------------------------------------------


@kinds
@precisions
def test_the_reference_stays_while_the_policy_learns(source, tmp_path: Path, tied: bool, kept: str) -> None:
    model = backbone.create(settings(weights=kept), source(tied), NEW, 1).eval()
    shake(model)
    before, rows, mine = logits(model), backbone.output_rows(model, COLUMNS), trained(model).keys()
    count = sum(weight.numel() for weight in model.parameters())
    reference = backbone.reference_of(model)
    added = sum(weight.numel() for weight in model.parameters()) - count
    assert added == sum(weight.numel() for weight in trained(model).values())  # the base is there once
    assert trained(model).keys() == mine
    with torch.no_grad(), reference() as frozen:
        assert torch.equal(logits(frozen), before)
    shake(model, 1)
    after = logits(model)
    assert not torch.equal(after, before)
    with torch.no_grad(), reference() as frozen:
        assert torch.equal(logits(frozen), before)
        assert torch.equal(backbone.output_rows(frozen, COLUMNS), rows)
        assert not trained(frozen)
    assert torch.equal(logits(model), after)
    assert trained(model).keys() == mine
    backbone.save(model, CARD, tmp_path)
    loaded, _ = backbone.load(tmp_path, "f00d", source(tied), settings(weights=kept))
    assert torch.equal(logits(loaded), after)
    assert len(load_file(tmp_path / "adapter_model.safetensors")) == len(mine)


def test_a_fault_inside_the_reference_gives_the_policy_back(source) -> None:
    model = backbone.create(settings(), source(True), NEW, 1)
    reference = backbone.reference_of(model)
    shake(model)
    after, mine = logits(model), trained(model).keys()
    with pytest.raises(RuntimeError, match="stop"), reference():
        raise RuntimeError("stop")
    assert torch.equal(logits(model), after)
    assert trained(model).keys() == mine


def test_the_reference_of_a_whole_model_is_a_second_one(source) -> None:
    model = backbone.create(settings(lora=None), source(True), NEW, 1).train()
    before = logits(model)
    reference = backbone.reference_of(model)
    shake(model)
    with reference() as frozen:
        assert torch.equal(logits(frozen), before)
        assert not trained(frozen)
        assert not frozen.training
    assert model.training
    assert len(trained(model)) == len(list(model.parameters()))


# --- Memory and resume -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("lora", [True, False], ids=["adapters", "whole"])
def test_layers_computed_again_give_the_same_gradients(source, tmp_path, monkeypatch, training, lora) -> None:
    """In eval mode as well, that of RL; and the layers are indeed computed twice."""
    calls = []
    attend = sharing._OnePass.attend
    monkeypatch.setattr(sharing._OnePass, "attend", lambda *given: calls.append(1) or attend(*given))
    plain = settings() if lora else settings(lora=None)
    thrifty = plain.model_copy(update={"gradient_checkpointing": True})
    backbone.save(backbone.create(plain, source(True), NEW, 1), CARD, tmp_path)
    found = []
    for chosen in (plain, thrifty):
        model, _ = backbone.load(tmp_path, "f00d", source(True), chosen, trainable=True)
        if training:
            model.train()
        else:
            assert not model.training
            assert not model.get_decoder().layers[0].self_attn.training
        calls.clear()
        found.append(gradients(model))
        assert len(calls) == (2 if chosen is plain else 4)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    made = backbone.create(thrifty, source(True), NEW, 1)
    calls.clear()
    gradients(made)
    assert len(calls) == 4


def test_dropout_is_the_same_when_a_layer_is_computed_again(tmp_path: Path) -> None:
    body = small_policy.settings(dropout=0.5)
    pretrained.fetch(body, tmp_path)
    found = []
    for chosen in (body, body.model_copy(update={"gradient_checkpointing": True})):
        model = backbone.create(chosen, tmp_path, WORDS + NEW, 1).train()
        torch.manual_seed(3)
        model.get_decoder()(input_ids=IDS, use_cache=False).last_hidden_state.square().sum().backward()
        found.append([weight.grad for weight in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    loss(model).backward()
    optimizer.step()
    optimizer.zero_grad()


def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(trained(model).values(), 1e-2, weight_decay=0.1, fused=True)


@kinds
def test_a_resumed_run_of_adapters(source, checkpoint: Checkpoint, tied: bool) -> None:
    """Two steps, a checkpoint of what is trained alone, two more in a model made anew: as four steps at a stretch."""
    whole = backbone.create(settings(), source(tied), NEW, 1)
    optimizer = optimizer_of(whole)
    for _ in range(4):
        step(whole, optimizer)
    first = backbone.create(settings(), source(tied), NEW, 1)
    optimizer = optimizer_of(first)
    for _ in range(2):
        step(first, optimizer)
    state = model_state("model", first)
    assert {name.removeprefix("model.") for name in state} == trained(first).keys()
    assert snapshot("best", first).keys() == model_state("best", first).keys()
    checkpoint.save({**state, **optimizer_state(optimizer)}, {})
    second = backbone.create(settings(), source(tied), NEW, 1)
    backbone.reference_of(second)
    tensors, _ = checkpoint.load()
    load_model_state("model", second, tensors)
    optimizer = optimizer_of(second)
    load_optimizer_state(optimizer, tensors)
    for _ in range(2):
        step(second, optimizer)
    expected, found = trained(whole), trained(second)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("kind", ["scale", "bias"])
def test_models_that_change_their_logits_are_refused(tmp_path, kind):
    """What is behind the output layer would be left out of every probability."""
    config = {
        "scale": lambda: GraniteConfig(logits_scaling=4.0, **SHAPE),
        "bias": lambda: PhiConfig(**SHAPE),
    }[kind]()
    write_model(tmp_path / "base", config)
    if kind == "bias":
        tensors = load_file(tmp_path / "base" / "model.safetensors")
        tensors["lm_head.bias"] = torch.ones_like(tensors["lm_head.bias"])
        save_file(tensors, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="changes its logits behind the output layer"):
        backbone.create(settings(lora=None), tmp_path / "base", 0, 1)
