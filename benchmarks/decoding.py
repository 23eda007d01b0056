"""What constrained decoding costs, for catalogues of 12 thousand to 10 million items.

    python -m benchmarks.decoding

One step for 64 users x 50 beams, by three methods: log-probabilities [3200, codes] and states [3200] in; the allowed
continuations with their log-probabilities out (or all codes, -inf where not allowed), and the next states of one
continuation per row, the same for all methods. All ids have 3 levels of 8,192 codes. The other methods, written here
from their descriptions:
hf      a dictionary of prefixes asked by a Python call per row, and a mask over all codes, as transformers'
        prefix_allowed_tokens_fn has it (not tried with 10 million items: the dictionary does not fit)
static  STATIC (arXiv 2602.22647): two dense levels of masks and next states, below them rows of (code, next state)
Printed beside it: the same with the 50 best continuations of every row picked, as a beam search does behind any mask;
and what our search asks of the trie in fact, with 50 seen items left out per user, which the other two cannot.

Whole lists by beam search, beside transformers' generate with the same policy, ids and renormalised log-probabilities:
the SFT policy of `dvc repro` and its test users. Ours reads a prompt once per user, generate once per beam, and its
prefix_allowed_tokens_fn is a dictionary of the codes still open to the user, made beforehand and not timed.

The last line is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.rl_step import matmul_rate
from stages.action_spaces.base import Prompts
from stages.action_spaces.semantic_id import Actions
from stages.action_spaces.trie import Trie
from stages.core import params, paths
from stages.corpus import histories
from stages.policy import backbone
from stages.policy.beam import beam_items
from stages.policy.sharing import Reading

LEVELS, CODES, BATCH, BEAM, KEPT, SEEN = 3, 8192, 64, 50, 50, 50
CATALOGUES = {"12k": 12_000, "1m": 1_000_000, "10m": 10_000_000}


@dataclass
class Rows:
    """What a step is given."""

    log_probs: Tensor  # [N, codes]
    states: Tensor  # [N] nodes of the trie, which serve all methods as states
    prefixes: list[tuple[int, ...]]  # the same states as codes
    code: Tensor  # [N] the continuation that each row goes on with
    place: Tensor  # [N] its place among the node's children


Step = Callable[[Rows, int], tuple[Tensor, Any]]  # rows and level -> log-probs of continuations, next states


def catalogue(items: int) -> np.ndarray:
    """Distinct random ids [items, 3]."""
    drawn = np.random.default_rng(0).integers(CODES**LEVELS, size=items + items // 100 + 100)
    chosen = np.unique(drawn)
    np.random.default_rng(1).shuffle(chosen)
    return np.stack([chosen[:items] // CODES**n % CODES for n in reversed(range(LEVELS))], 1)


def ours(trie: Trie) -> Step:
    def step(rows: Rows, level: int) -> tuple[Tensor, Tensor]:
        choices = trie.children(rows.states, level)
        own = trie.pick(rows.log_probs, choices, level)
        own = own.masked_fill(~choices.open, -torch.inf) if level else own  # all of the root's children are open
        return own, choices.child.gather(1, rows.place[:, None])[:, 0]

    return step


def static(codes: np.ndarray, trie: Trie) -> Step:
    """Dense: mask and next state for the root [V] and for each first code [V, V]; then rows of (code, next state)."""
    first = torch.full((CODES,), -1, dtype=torch.int32)
    first[trie.code[1 : int(trie.first[1])].long()] = torch.arange(1, int(trie.first[1]), dtype=torch.int32)
    second = torch.full((CODES, CODES), -1, dtype=torch.int32)
    pairs = torch.from_numpy(codes[:, :2].astype(np.int64))
    second[pairs[:, 0], pairs[:, 1]] = trie.node[:, 2]
    closed = second < 0
    packed = torch.stack([trie.code, torch.arange(len(trie.code), dtype=torch.int32)], 1)
    limit = trie.widths[2]

    all_open = bool((first >= 0).all())  # then the root needs no mask

    def step(rows: Rows, level: int) -> tuple[Tensor, Tensor]:
        if level == 0:
            masked = rows.log_probs if all_open else rows.log_probs.masked_fill(first < 0, -torch.inf)
            return masked, first[rows.code]
        if level == 1:
            parent = trie.code[rows.states].long()
            return rows.log_probs.masked_fill(closed[parent], -torch.inf), second[parent, rows.code]
        start, end = trie.first[rows.states].long(), trie.first[rows.states + 1]
        at = start[:, None] + torch.arange(limit)
        edges = packed[at.clamp(max=len(packed) - 1)].long()
        own = rows.log_probs.gather(1, edges[..., 0]).masked_fill(at >= end[:, None], -torch.inf)
        return own, edges[..., 1].gather(1, rows.place[:, None])[:, 0]

    return step


def hf(codes: np.ndarray) -> Step:
    """A mask over all codes, row by row, as PrefixConstrainedLogitsProcessor fills it; the next state is the prefix."""
    allowed: dict[tuple[int, ...], list[int]] = {}
    for level in range(LEVELS):
        for row in np.unique(codes[:, : level + 1], axis=0).tolist():
            allowed.setdefault(tuple(row[:-1]), []).append(row[-1])

    def step(rows: Rows, level: int) -> tuple[Tensor, list[tuple[int, ...]]]:
        mask = torch.full_like(rows.log_probs, -torch.inf)
        for row, prefix in enumerate(rows.prefixes):
            mask[row, allowed[prefix]] = 0
        return rows.log_probs + mask, [
            (*prefix, code) for prefix, code in zip(rows.prefixes, rows.code.tolist(), strict=True)
        ]

    return step


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """The least of some runs after one that does not count."""
    run()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return min(taken)


def drawn_rows(codes: np.ndarray, trie: Trie) -> list[Rows]:
    """Rows of each level: random items, each of them on its way from the root."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(codes), (BATCH * BEAM,), generator=generator)
    log_probs = torch.log_softmax(torch.randn(BATCH * BEAM, CODES, generator=generator), 1)
    path, found = trie.node[chosen].long(), []
    for level in range(LEVELS):
        prefixes = [tuple(row) for row in codes[chosen.numpy(), :level].tolist()]
        place = path[:, level + 1] - trie.first[path[:, level]]
        found.append(Rows(log_probs, path[:, level], prefixes, trie.codes[chosen, level].long(), place))
    return found


def steps(name: str, items: int, repeats: int) -> dict[str, float]:
    """Milliseconds per step, mean over the three levels, of each method; build time and bytes of our index."""
    codes = catalogue(items)
    started = time.perf_counter()
    trie = Trie(codes)
    found = {"build_seconds": time.perf_counter() - started, "index_bytes": float(index_bytes(trie))}
    methods: dict[str, Step] = {"ours": ours(trie), "static": static(codes, trie)}
    if name != "10m":
        methods["hf"] = hf(codes)
    seen = torch.from_numpy(np.random.default_rng(2).integers(items, size=(BATCH, SEEN)))
    for level, rows in enumerate(drawn_rows(codes, trie)):
        reference, line = methods["ours"](rows, level)[0], []
        best = reference.topk(min(KEPT, reference.shape[1]), 1).values
        for method, step in methods.items():
            given, states = step(rows, level)
            assert torch.equal(given.topk(best.shape[1], 1).values, best), method
            assert method == "hf" or torch.equal(states.long(), trie.advance(rows.states, rows.code)), method
            taken = seconds(lambda step=step, rows=rows, level=level: step(rows, level), repeats)
            picking = seconds(lambda given=given: given.topk(min(KEPT, given.shape[1]), 1), repeats)
            found[method] = found.get(method, 0.0) + 1e3 * taken / LEVELS
            found[f"{method}_top"] = found.get(f"{method}_top", 0.0) + 1e3 * (taken + picking) / LEVELS
            line.append(f"{method} {1e3 * taken:.2f} (with top-{KEPT} {1e3 * (taken + picking):.1f})")
        users = rows.states.view(BATCH, -1)[:, : 1 if level == 0 else None]  # a search has one row per user at the root
        taken = seconds(lambda users=users, level=level: trie.choices(users, level, seen), repeats)
        found["choices"] = found.get("choices", 0.0) + 1e3 * taken / LEVELS
        line.append(f"ours, choices of a search with {SEEN} items seen {1e3 * taken:.2f}")
        print(f"{name} items, level {level}, ms: {', '.join(line)}", flush=True)
    return found


def index_bytes(trie: Trie) -> int:
    """Bytes of all tensors of the trie."""
    tensors = [value for value in vars(trie).values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def lists(dataset: str, users: int, beam: int) -> tuple[float, float, float, float]:
    """Users per second of ours, of generate and of the floor, and the share of equal lists, on a set's test users."""
    corpus = histories.load(paths.corpus(dataset))
    space = Actions(paths.actions(dataset, "semantic_id"), corpus)
    folder = paths.model(dataset, "semantic_id", "warmup", 1)
    settings = params.load()
    model, card = backbone.load(folder, space.fingerprint, paths.backbone(settings.axes.backbone), settings.backbone)
    plain = Qwen3ForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    judged = np.flatnonzero(corpus.test >= 0)[:users]
    contexts = [corpus.context(user, "test") for user in judged]
    batches = [contexts[start : start + BATCH] for start in range(0, len(contexts), BATCH)]
    own, theirs, taken, floor = [], [], [0.0, 0.0], 0.0
    exclude_seen = settings.corpus(dataset).exclude_seen
    for number, batch in enumerate([batches[0], *batches]):
        if number == 1:  # the first round, a warm-up, does not count
            own, theirs, taken, floor = [], [], [0.0, 0.0], 0.0
        started = time.perf_counter()
        asked = space.prompts_of(batch, settings.sft.history_items, card.label, exclude_seen)
        own.append(beam_items(Reading(model, asked), space, beam, 10)[0])
        taken[0] += time.perf_counter() - started
        floor += operations(model.config, asked, space, beam)
        known = [open_codes(space, banned) for banned in asked.banned.tolist()]
        started = time.perf_counter()
        theirs.append(generate(plain, asked, space, beam, known))
        taken[1] += time.perf_counter() - started
    same = (torch.cat(own) == torch.cat(theirs)).all(1).float().mean()
    rate = 1e9 * matmul_rate(512)
    return len(contexts) / taken[0], len(contexts) / taken[1], len(contexts) * rate / floor, float(same)


def operations(config: Qwen3Config, asked: Prompts, space: Actions, beam: int) -> float:
    """Floating-point operations that a search cannot do without: every prompt and every kept prefix read once.

    A multiply and an add per weight and token; scores against, and sums over, the keys before a token; the columns of a
    level for every prefix.
    """
    hidden, depth = config.hidden_size, space.trie.depth
    weights = config.num_hidden_layers * (4 * hidden**2 + 3 * hidden * config.intermediate_size)
    length = asked.mask.sum(1).double()
    codes = float(space.trie.size)
    total = float((2 * weights * length + 2 * config.num_hidden_layers * hidden * length**2).sum())  # half of it causal
    total += 2 * hidden * codes * len(length)
    for level in range(1, depth):
        seen = length + level
        per_prefix = 2 * weights + 4 * config.num_hidden_layers * hidden * seen + 2 * hidden * codes
        total += float((min(beam, space.trie.size**level) * per_prefix).sum())
    return total


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
    for dataset in chosen.datasets:
        if not Path(paths.model(dataset, "semantic_id", "warmup", 1)).is_dir():
            raise SystemExit(f"{dataset}: no SFT policy; run `dvc exp run -S 'datasets=[{dataset}]'` first")
    found = {name: steps(name, items, chosen.repeats) for name, items in CATALOGUES.items()}
    for name, values in found.items():
        print(name, json.dumps({key: round(value, 3) for key, value in values.items()}))
    speedups = []
    for dataset in chosen.datasets:
        for beam in (10, 50):
            own, theirs, floor, same = lists(dataset, chosen.users, beam)
            speedups.append(own / theirs)
            print(
                f"{dataset} beam {beam}: {own:.0f} users/s, generate {theirs:.1f}, {100 * same:.1f}% of lists equal; "
                f"the operations that have to be done allow {floor:.0f}"
            )
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
