"""What constrained decoding costs, for catalogues of 12 thousand to 10 million items.

    python -m benchmarks.decoding

One step of mask and advance, beside two other ways to do it: log-probabilities [batch x beam, codes] in; of each row
the best allowed continuations, their log-probabilities and next states out. All ids have 3 levels of 8,192 codes. The
other ways, written here from their descriptions:
hf      a dictionary of prefixes asked by a Python call per row, and a mask over all codes, as transformers'
        prefix_allowed_tokens_fn has it (not tried with 10 million items: the dictionary does not fit)
static  STATIC (arXiv 2602.22647): two dense levels of masks and next states, below them rows of (code, next state)

Whole lists by beam search, beside transformers' generate with the same policy, ids and renormalised log-probabilities:
the SFT policy of `dvc repro` and its test users. The last line is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen3ForCausalLM

from stages.action_spaces.base import Prompts, prompts
from stages.action_spaces.semantic_id import Actions
from stages.action_spaces.trie import Trie
from stages.core import params, paths
from stages.corpus import histories
from stages.policy import backbone
from stages.policy.beam import beam_items

LEVELS, CODES, BATCH, BEAM, KEPT = 3, 8192, 64, 50, 50
CATALOGUES = {"12k": 12_000, "1m": 1_000_000, "10m": 10_000_000}
Step = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]  # log-probs [N, codes], states [N], level -> best, states


def catalogue(items: int) -> np.ndarray:
    """Distinct random ids [items, 3]."""
    drawn = np.random.default_rng(0).integers(CODES**LEVELS, size=items + items // 100 + 100)
    chosen = np.unique(drawn)
    np.random.default_rng(1).shuffle(chosen)
    return np.stack([chosen[:items] // CODES**n % CODES for n in reversed(range(LEVELS))], 1)


def ours(trie: Trie) -> Step:
    def step(log_probs: Tensor, states: Tensor, level: int) -> tuple[Tensor, Tensor]:
        choices = trie.children(states, level)
        own = trie.pick(log_probs, choices, level)
        own = own.masked_fill(~choices.open, -torch.inf) if level else own
        best, place = own.topk(min(KEPT, own.shape[1]), 1)
        return best, choices.child.gather(1, place)

    return step


def static(codes: np.ndarray, trie: Trie) -> Step:
    """Dense: mask and next state for the root [V] and for each first code [V, V]; then rows of (code, next state)."""
    first = torch.full((CODES,), -1, dtype=torch.int32)
    first[trie.code[1 : int(trie.first[1])].long()] = torch.arange(1, int(trie.first[1]), dtype=torch.int32)
    second = torch.full((CODES, CODES), -1, dtype=torch.int32)
    pairs = torch.from_numpy(codes[:, :2].astype(np.int64))
    second[pairs[:, 0], pairs[:, 1]] = trie.node[:, 2]
    allowed = second >= 0
    packed = torch.stack([trie.code, torch.arange(len(trie.code), dtype=torch.int32)], 1)
    limit = trie.widths[2]

    def step(log_probs: Tensor, states: Tensor, level: int) -> tuple[Tensor, Tensor]:
        if level < 2:
            row = trie.code[states].long()
            mask = (first >= 0).expand(len(states), -1) if level == 0 else allowed[row]
            best, code = log_probs.masked_fill(~mask, -torch.inf).topk(KEPT, 1)
            return best, (first[code] if level == 0 else second[row[:, None], code]).long()
        start, end = trie.first[states].long(), trie.first[states + 1]
        at = start[:, None] + torch.arange(limit)
        edges = packed[at.clamp(max=len(packed) - 1)].long()
        own = log_probs.gather(1, edges[..., 0]).masked_fill(at >= end[:, None], -torch.inf)
        best, place = own.topk(min(KEPT, limit), 1)
        return best, edges[..., 1].gather(1, place)

    return step


def dictionary(codes: np.ndarray) -> dict[tuple[int, ...], list[int]]:
    """Allowed codes by prefix, as a prefix_allowed_tokens_fn looks them up."""
    found: dict[tuple[int, ...], list[int]] = {}
    for level in range(LEVELS):
        for row in np.unique(codes[:, : level + 1], axis=0).tolist():
            found.setdefault(tuple(row[:-1]), []).append(row[-1])
    return found


def hf_step(allowed: dict[tuple[int, ...], list[int]], prefixes: list[tuple[int, ...]], log_probs: Tensor) -> Tensor:
    """A mask over all codes, row by row, as PrefixConstrainedLogitsProcessor fills it, and the best of what is left."""
    mask = torch.full_like(log_probs, -torch.inf)
    for row, prefix in enumerate(prefixes):
        mask[row, allowed[prefix]] = 0
    return (log_probs + mask).topk(KEPT, 1).values


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """The least of some runs after one that does not count."""
    run()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return min(taken)


def steps(name: str, items: int, repeats: int) -> dict[str, float]:
    """Milliseconds per step, mean over the three levels, of each method; build time and bytes of our index."""
    codes = catalogue(items)
    started = time.perf_counter()
    trie = Trie(codes)
    built = time.perf_counter() - started
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(items, (BATCH * BEAM,), generator=generator)
    log_probs = torch.log_softmax(torch.randn(BATCH * BEAM, CODES, generator=generator), 1)
    found = {"build_seconds": built, "index_bytes": float(index_bytes(trie))}
    reference = static(codes, trie)
    total: dict[str, float] = {"ours": 0.0, "static": 0.0}
    slow = dictionary(codes) if name != "10m" else None
    for level in range(LEVELS):
        states = trie.node[chosen, level].long()
        own, other = (method(log_probs, states, level) for method in (ours(trie), reference))
        width = min(own[0].shape[1], other[0].shape[1])
        assert torch.equal(own[0][:, :width], other[0][:, :width])
        real = own[0][:, :width] > -torch.inf
        same = (own[1][:, :width] == other[1][:, :width])[real].float().mean()
        assert same > 0.999, same  # equal log-probabilities may change places
        for method, step in (("ours", ours(trie)), ("static", reference)):
            taken = seconds(lambda step=step, states=states, level=level: step(log_probs, states, level), repeats)
            print(f"{name} level {level} {method}: {1e3 * taken:.1f} ms", flush=True)
            total[method] += taken
        if slow is not None:
            prefixes = [tuple(row) for row in codes[chosen.numpy(), :level].tolist()]
            values = hf_step(slow, prefixes, log_probs)[:, :width]
            assert torch.equal(values, own[0][:, :width])
            taken = seconds(lambda p=prefixes: hf_step(slow, p, log_probs), 2)
            print(f"{name} level {level} hf: {1e3 * taken:.1f} ms", flush=True)
            total["hf"] = total.get("hf", 0.0) + taken
    return {**found, **{method: 1e3 * taken / LEVELS for method, taken in total.items()}}


def index_bytes(trie: Trie) -> int:
    """Bytes of all tensors of the trie."""
    tensors = [value for value in vars(trie).values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def lists(dataset: str, users: int, beam: int) -> tuple[float, float, float]:
    """Users per second of ours and of generate, and the share of equal lists, on the test users of a data set."""
    corpus, space = histories.load(paths.corpus(dataset)), Actions(paths.actions(dataset, "semantic_id"))
    folder = paths.model(dataset, "semantic_id", "warmup", 1)
    model, card = backbone.load(folder, space.fingerprint)
    plain = Qwen3ForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    settings = params.load()
    judged = np.flatnonzero(corpus.test >= 0)[:users]
    contexts = [corpus.context(user, "test") for user in judged]
    batches = [contexts[start : start + BATCH] for start in range(0, len(contexts), BATCH)]
    own, theirs, taken = [], [], [0.0, 0.0]
    for batch in batches:
        started = time.perf_counter()
        asked = prompts(space, batch, settings.sft.history_items, card.label, True)
        own.append(beam_items(model, asked, space, beam, 10)[0])
        taken[0] += time.perf_counter() - started
        known = [open_codes(space, banned) for banned in asked.banned.tolist()]
        started = time.perf_counter()
        theirs.append(generate(plain, asked, space, beam, known))
        taken[1] += time.perf_counter() - started
    same = (torch.cat(own) == torch.cat(theirs)).all(1).float().mean()
    return len(contexts) / taken[0], len(contexts) / taken[1], float(same)


def open_codes(space: Actions, banned: list[int]) -> dict[tuple[int, ...], set[int]]:
    """Tokens by prefix of codes, over the items that are not banned."""
    first, hidden, found = space.columns[:, 0].tolist(), set(banned), {}
    for item, row in enumerate(space.trie.codes.tolist()):
        if item not in hidden:
            for level, code in enumerate(row):
                found.setdefault(tuple(row[:level]), set()).add(first[level] + code)
    return found


@torch.no_grad()
def generate(model: Qwen3ForCausalLM, asked: Prompts, space: Actions, beam: int, known: list[dict]) -> Tensor:
    """Lists [B, 10] by transformers' generate, its prompts padded on the left."""
    width, length, depth = asked.tokens.shape[1], asked.mask.sum(1), space.trie.depth
    shift = (torch.arange(width)[None] - (width - length)[:, None]) % width
    tokens, mask = asked.tokens.gather(1, shift), asked.mask.gather(1, shift)
    first = space.columns[:, 0].tolist()
    item_of = {tuple(row): item for item, row in enumerate(space.trie.codes.tolist())}

    def allowed(user: int, sequence: Tensor) -> list[int]:
        own = sequence[width:].tolist()
        return list(known[user][tuple(token - first[level] for level, token in enumerate(own))])

    found = model.generate(
        input_ids=tokens,
        attention_mask=mask,
        max_new_tokens=depth,
        num_beams=beam,
        num_return_sequences=10,
        do_sample=False,
        length_penalty=0.0,
        renormalize_logits=True,
        prefix_allowed_tokens_fn=allowed,
        eos_token_id=None,
        pad_token_id=0,
    )
    codes = (found[:, width:] - space.columns[:, 0]).view(len(tokens), 10, depth)
    return torch.tensor([[item_of[tuple(code)] for code in row] for row in codes.tolist()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each step, of which the best counts (5)")
    parser.add_argument("--users", type=int, default=512, help="test users whose lists are decoded (512)")
    parser.add_argument("--datasets", nargs="*", default=["ml-100k"], help="with an SFT policy at hand (ml-100k)")
    chosen = parser.parse_args()
    found = {name: steps(name, items, chosen.repeats) for name, items in CATALOGUES.items()}
    for name, values in found.items():
        print(name, json.dumps({key: round(value, 3) for key, value in values.items()}))
    speedups = []
    for dataset in chosen.datasets:
        if not Path(paths.model(dataset, "semantic_id", "warmup", 1)).is_dir():
            raise SystemExit(f"{dataset}: no SFT policy; run `dvc repro` first")
        for beam in (10, 50):
            own, theirs, same = lists(dataset, chosen.users, beam)
            speedups.append(own / theirs)
            print(f"{dataset} beam {beam}: {own:.0f} and {theirs:.0f} users/s, {100 * same:.1f}% of the lists the same")
    print(
        json.dumps(
            {
                "mask_speedup_hf_1m": round(found["1m"]["hf"] / found["1m"]["ours"], 2),
                "mask_speedup_static_10m": round(found["10m"]["static"] / found["10m"]["ours"], 2),
                "cost_10m_over_12k": round(found["10m"]["ours"] / found["12k"]["ours"], 2),
                "index_bytes_10m": int(found["10m"]["index_bytes"]),
                "build_seconds_10m": round(found["10m"]["build_seconds"], 1),
                "users_per_second_speedup_hf": round(min(speedups), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
