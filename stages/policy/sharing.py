"""One row per user: the prompt once, and K slates behind it, each of which sees the prompt and itself alone.

A decoder of transformers with plain causal attention (Qwen3, Llama, grouped keys) runs on this layout: its attention
is replaced by `attend`, which the models look up by name, and everything else of a decoder works on single tokens. So a
prompt is read once for its K slates, in sampling, in beam search and in the update with gradients alike, and its keys
and values are never copied. Left out: sliding windows, soft caps and sinks, which are refused; and, outside a layout,
key-value caches and padding on the left, of which transformers tells no attention of ours.

B users, K slates (or beams), P prompt tokens (padded on the right), T tokens per slate, H heads, G key-value heads, d
width of a head, h hidden size.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from stages.action_spaces.base import Prompts
from stages.core.errors import InputError

ATTENTION = "shared_prompt"  # the name under which models look `attend` up
ROOM = 32  # tokens that there is room for behind a prompt at first
PASS = 4096  # tokens of prompts, padding included, that are read in one pass: what a CPU's caches hold


class Layout(Protocol):
    """Which keys each query of an input sees."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, dropout: float) -> Tensor:
        """Outputs [B, H, S, d] of queries [B, H, S, d] over keys and values [B, G, S, d]."""


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    layout: Layout | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it. Without a layout it is causal; padding on the right is out of sight then.

    Raises InputError for a model whose attention is another one.
    """
    for name in ("sliding_window", "softcap", "s_aux"):
        if options.get(name) is not None:
            raise InputError(f"{type(module).__name__}: attention with {name} is not supported; take another backbone")
    assert attention_mask is None, "padding belongs on the right, where causal attention does not see it"
    if layout is None:
        assert query.shape[2] == key.shape[2], "a key-value cache needs a layout"
        out = _causal(query, key, value, scaling, dropout)
    else:
        out = layout.attend(module.layer_idx, query, key, value, scaling, dropout)
    return out.transpose(1, 2), None


AttentionInterface.register(ATTENTION, attend)


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float, dropout: float = 0.0) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
    )


def _over_prompt_and_slate(
    query: Tensor,
    prompt: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    hidden: tuple[Tensor, Tensor],
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """One softmax over the prompt's keys, the same for all K slates, and the slate's own.

    query [B, H, K, T, d]; prompt: keys and values [B, G, P, d]; own: [B, G, K, t, d]; hidden: what is out of sight,
    [B, P] of the prompt and [T, t] of the slate. Returns [B, H, K, T, d].
    """
    users, heads, slates, steps, width = query.shape
    groups, length = prompt[0].shape[1:3]
    query = query.reshape(users, groups, -1, width)  # heads that share keys, slates and steps in one matrix
    far = (query @ prompt[0].transpose(2, 3)).mul_(scale).masked_fill_(hidden[0][:, None, None], -torch.inf)
    split = (users, groups, heads // groups, slates, steps)
    near = (query.view(*split, width) @ own[0].transpose(3, 4)[:, :, None]).mul_(scale)
    near = near.masked_fill_(hidden[1], -torch.inf).view(users, groups, query.shape[2], -1)
    weights = torch.cat([far, near], -1).softmax(-1, dtype=torch.float32).to(query.dtype)
    if dropout:
        weights = torch.dropout(weights, dropout, train=True)
    far, near = weights.split([length, near.shape[-1]], -1)
    out = (far @ prompt[1]).view(*split, width) + near.view(*split, -1) @ own[1][:, :, None]
    return out.view(users, heads, slates, steps, width)


@dataclass
class _OnePass:
    """Prompt and slates together, [prompt | slate 1 | .. | slate K], with gradients through both."""

    padding: Tensor  # [B, P] True where the prompt has no token
    slates: int
    future: Tensor  # [T, T] True where a key comes after the query

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, dropout: float) -> Tensor:
        length = self.padding.shape[1]
        prompt, own = zip(
            *(tensor.split([length, tensor.shape[2] - length], 2) for tensor in (query, key, value)), strict=True
        )
        out = _causal(*prompt, scaling, dropout)
        if not self.future.numel():
            return out
        query, *pair = (tensor.unflatten(2, (self.slates, -1)) for tensor in own)
        behind = _over_prompt_and_slate(query, prompt[1:], tuple(pair), (self.padding, self.future), scaling, dropout)
        return torch.cat([out, behind.flatten(2, 3)], 2)


def read_at_once(model: PreTrainedModel, prompts: Prompts, tokens: Tensor) -> Tensor:
    """Hidden state before each token of `tokens` [B, K, T], which predicts it: [B, K, T, h]. With gradients."""
    users, slates, steps = tokens.shape
    length, width = prompts.mask.sum(1), prompts.tokens.shape[1]
    device = tokens.device
    future = torch.ones(steps - 1, steps - 1, dtype=torch.bool, device=device).triu(1)
    behind = (length[:, None, None] + torch.arange(steps - 1, device=device)).expand(-1, slates, -1)
    positions = torch.cat([torch.arange(width, device=device).expand(users, -1), behind.flatten(1)], 1)
    hidden = model.get_decoder()(
        input_ids=torch.cat([prompts.tokens, tokens[..., :-1].flatten(1)], 1),
        position_ids=positions,
        use_cache=False,
        layout=_OnePass(prompts.mask == 0, slates, future),
    ).last_hidden_state
    first = _last(hidden, length)[:, None, None].expand(-1, slates, -1, -1)
    return torch.cat([first, hidden[:, width:].unflatten(1, (slates, -1))], 2)


def _last(hidden: Tensor, length: Tensor) -> Tensor:
    """State [B, h] of each prompt's last token."""
    return hidden[torch.arange(len(hidden), device=hidden.device), length - 1]


@dataclass
class Reading:
    """Prompts that have been read, and slates that grow behind them token by token; without gradients.

    The slates' keys and values are written into buffers [B, G, K, room, d] per layer, which grow where they are full.
    """

    model: PreTrainedModel
    prompts: Prompts
    written: int = 0
    first: Tensor | None = None
    passes: defaultdict[int, list[tuple[Tensor, Tensor]]] = field(default_factory=lambda: defaultdict(list))
    prompt: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    own: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @torch.no_grad()
    def start(self) -> Tensor:
        """Read the prompts, once; the state that predicts what comes first: [B, h]. What was behind them is gone."""
        self.written, self.own = 0, []
        if self.first is None:
            users = max(1, PASS // self.prompts.tokens.shape[1])
            parts = zip(self.prompts.tokens.split(users), self.prompts.mask.sum(1).split(users), strict=True)
            decoder = self.model.get_decoder()
            self.first = torch.cat(
                [
                    _last(decoder(input_ids=tokens, use_cache=False, layout=self).last_hidden_state, length)
                    for tokens, length in parts
                ]
            )
            self.prompt = [
                tuple(map(torch.cat, zip(*self.passes.pop(layer), strict=True))) for layer in sorted(self.passes)
            ]
        return self.first

    @torch.no_grad()
    def read(self, tokens: Tensor) -> Tensor:
        """Read one more token of each slate [B, K]; the states that predict the next: [B, K, h]."""
        positions = (self.prompts.mask.sum(1) + self.written)[:, None].expand(-1, tokens.shape[1])
        hidden = self.model.get_decoder()(
            input_ids=tokens, position_ids=positions, use_cache=False, layout=self
        ).last_hidden_state
        self.written += 1
        return hidden

    def select(self, slates: Tensor) -> None:
        """Go on with the slates named [B, K'], in that order: a beam search keeps some several times, others never."""
        users = torch.arange(len(slates), device=slates.device)[:, None]
        self.own = [tuple(part.transpose(1, 2)[users, slates].transpose(1, 2) for part in pair) for pair in self.own]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, dropout: float) -> Tensor:
        if self.first is None:  # the prompts are being read
            self.passes[layer].append((key, value))
            return _causal(query, key, value, scaling)
        if layer == len(self.own):
            users, groups, slates, width = key.shape
            self.own.append(tuple(key.new_empty(users, groups, slates, ROOM, width) for _ in range(2)))
        end = self.written + 1
        if end > self.own[layer][0].shape[3]:
            self.own[layer] = tuple(torch.cat([buffer, torch.empty_like(buffer)], 3) for buffer in self.own[layer])
        for buffer, new in zip(self.own[layer], (key, value), strict=True):
            buffer[:, :, :, self.written] = new
        seen = tuple(buffer[:, :, :, :end] for buffer in self.own[layer])
        nothing = torch.zeros(1, end, dtype=torch.bool, device=key.device)
        hidden = (self.prompts.mask == 0, nothing)
        return _over_prompt_and_slate(query[:, :, :, None], self.prompt[layer], seen, hidden, scaling)[:, :, :, 0]
