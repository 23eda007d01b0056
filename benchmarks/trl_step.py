"""TRL's side of rl_step.py: GRPOTrainer on the same model, prompts and sizes. Runs in TRL's own environment.

Started by rl_step.py; prints one JSON object: seconds per rollout with its updates, and peak memory.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Clock(TrainerCallback):
    """The time after every rollout's last update."""

    def __init__(self, updates: int) -> None:
        self.updates, self.times = updates, []

    def on_step_end(self, args, state, control, **_):
        if state.global_step % self.updates == 0:
            self.times.append(time.perf_counter())


def main(job: dict) -> None:
    torch.set_num_threads(job["threads"])
    model = Qwen3ForCausalLM.from_pretrained(job["model"], attn_implementation="sdpa", dtype=torch.float32)
    words = {f"t{i}": i for i in range(model.config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    processing = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="t0", eos_token="t1", unk_token="t0")
    processing.padding_side = "left"
    prompts = [" ".join(f"t{token}" for token in row) for row in job["prompts"]]
    clock = Clock(job["updates"])
    tokens = job["completion_tokens"]

    def first(completion_ids, **_):
        return [float(row[0] % 7) for row in completion_ids]

    def last(completion_ids, **_):
        return [float(row[-1] % 5) for row in completion_ids]

    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=job["micro_batch"],
        gradient_accumulation_steps=len(prompts) * job["group"] // job["micro_batch"],
        num_generations=job["group"],
        max_completion_length=tokens,
        num_iterations=job["updates"],
        max_steps=(job["rollouts"] + 1) * job["updates"],
        temperature=job["temperature"],
        beta=0.0,
        loss_type="grpo",
        importance_sampling_level="sequence",
        multi_objective_aggregation="normalize_then_sum",
        learning_rate=1e-4,
        gradient_checkpointing=False,
        generation_kwargs={"min_new_tokens": tokens},
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        shuffle_dataset=False,
    )
    data = Dataset.from_dict({"prompt": prompts})
    GRPOTrainer(
        model=model,
        reward_funcs=[first, last],
        args=config,
        train_dataset=data,
        processing_class=processing,
        callbacks=[clock],
    ).train()
    seconds = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
