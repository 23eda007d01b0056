"""TIGER's model, its loss and its lists: see stages/baselines/tiger.py.

Tokens: 0, which starts the decoder and pads; a token per bucket of users; level 0's codes, level 1's, ..

B users, J targets, D levels, C codes per level, S tokens of a history, h hidden size.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from transformers import T5Config, T5ForConditionalGeneration

from stages.action_spaces.base import pad
from stages.action_spaces.trie import Trie
from stages.baselines.asked import Asked
from stages.baselines.base import Given, Outcome
from stages.baselines.loop import train
from stages.baselines.prefixes import Examples, Prefixes
from stages.baselines.t5_steps import Steps
from stages.baselines.tiger import Params
from stages.baselines.trie_beam import Search
from stages.core.seeding import derived_seed
from stages.corpus.histories import Ints

START = PADDING = 0
GROUP = {"cpu": 32, "cuda": 512}  # histories encoded at once, in training: a CPU's caches, a GPU's cores


class Tiger(Search):
    """A T5 over the ids of a catalogue."""

    def __init__(self, given: Given, params: Params, codes: Ints) -> None:
        """Take the ids of the items, codes [N, D]."""
        self.given, self.params, self.beam_width = given, params, params.beam_width
        self.trie = Trie(codes).to(given.device)
        first = 1 + params.user_tokens + self.trie.size * np.arange(codes.shape[1])  # [D] the token of code 0
        self.tokens = codes + first  # [N, D]
        self.columns = torch.from_numpy(first[:, None] + np.arange(self.trie.size)).to(given.device)  # [D, C]
        self.user_token = np.array(
            [1 + derived_seed(name) % params.user_tokens for name in given.histories.users["user_id"].to_pylist()]
        )
        self.prefixes = Prefixes(
            given.histories,
            params.history_items,
            params.targets,
            given.exclude_seen,
            given.shuffle_ties,
            given.seed,
        )
        torch.manual_seed(derived_seed(given.seed, "tiger", "weights"))
        self.model = T5ForConditionalGeneration(_config(params, int(self.columns[-1, -1]) + 1)).to(given.device)

    def batches(self, epoch: int) -> Sequence[Examples]:
        """Prefixes, `batch_size` at a time."""
        return self.prefixes.batches(epoch, self.params.batch_size, self.params.max_examples)

    def loss(self, batch: Examples) -> tuple[Tensor, Tensor]:
        """Sum of the negative log-probabilities (nats) of the targets' codes, over the whole vocabulary; their number.

        The targets of a history stand side by side in the decoder, each of which sees itself alone.
        """
        total, count = torch.zeros((), device=self.given.device), 0
        order = np.argsort([-len(items) for items in batch.history], kind="stable")
        size = GROUP[self.given.device.type]
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            tokens, mask = self._read(batch.user[rows], [batch.history[row] for row in rows])
            labels = self._labels(batch.target[rows])
            logits = self.model(
                input_ids=tokens,
                attention_mask=mask,
                decoder_input_ids=self._shifted(labels),
                decoder_attention_mask=self._apart(labels),
                use_cache=False,
            ).logits
            total = total + cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
            count += int((labels >= 0).sum())
        return total, torch.tensor(count, device=self.given.device)

    def read(self, asked: Asked) -> "_Writer":
        """The decoder behind the last items of each context, and behind its user where he is told."""
        tokens, mask = self._read(asked.users, [own[-self.params.history_items :] for own in asked.contexts])
        with torch.no_grad():
            states = self.model.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return _Writer(self, Steps(self.model, states, mask))

    def logits(self, states: Tensor, columns: Tensor) -> Tensor:
        """Logits [.., C] of the tokens `columns` [C] from the decoder's states [.., h]."""
        return linear(states * self.model.model_dim**-0.5, self.model.lm_head.weight[columns])

    def _read(self, users: Ints | None, histories: list[Ints]) -> tuple[Tensor, Tensor]:
        """What the encoder reads [B, S], padded on the right, and its mask. Of nobody and nothing it is START."""
        rows = [self.tokens[items].ravel() for items in histories]
        if users is not None:
            rows = [np.r_[self.user_token[user], own] for user, own in zip(users, rows, strict=True)]
        tokens, mask = pad([own if len(own) else np.array([START]) for own in rows], PADDING)
        return tokens.to(self.given.device), mask.to(self.given.device)

    def _labels(self, target: Ints) -> Tensor:
        """Tokens [B, J * D] of the targets [B, J], -100 where there is none."""
        tokens = np.where(target[..., None] >= 0, self.tokens[target], -100)
        return torch.from_numpy(tokens).flatten(1).to(self.given.device)

    def _shifted(self, labels: Tensor) -> Tensor:
        """What the decoder reads [B, J * D]: START and all codes but the last of each target."""
        own = labels.unflatten(1, (-1, self.trie.depth)).clamp(min=0)
        return torch.cat([torch.full_like(own[..., :1], START), own[..., :-1]], 2).flatten(1)

    def _apart(self, labels: Tensor) -> Tensor | None:
        """What is added to the decoder's attention, [1, 1, J * D, J * D]: a code sees its own target's before it.

        None where there is one target: the causal mask is the decoder's own. Distances inside a target are the same
        wherever it stands, and T5 has no other positions.
        """
        place = torch.arange(labels.shape[1], device=labels.device)
        target = place // self.trie.depth
        if target[-1] == 0:
            return None
        seen = (target[:, None] == target) & (place[:, None] >= place)
        return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None]


class _Writer:
    """The decoder behind histories that were read, for the beam."""

    def __init__(self, tiger: Tiger, steps: Steps) -> None:
        self.tiger, self.steps = tiger, steps

    def start(self) -> Tensor:
        states = self.steps.read(torch.full((len(self.steps.mask), 1), START, device=self.steps.mask.device))
        return self.tiger.logits(states, self.tiger.columns[0])

    def go_on(self, beam: Tensor, code: Tensor, level: int) -> Tensor:
        self.steps.select(beam)
        return self.tiger.logits(self.steps.read(self.tiger.columns[level - 1][code]), self.tiger.columns[level])


def outcome(given: Given, params: Params, codes: Ints) -> Outcome:
    """Train on ids [N, D], and answer all that is asked."""
    learner = Tiger(given, params, codes)
    train(learner, params, given, "tiger")
    return Outcome.of(learner, given, params.list_length, codes=torch.from_numpy(codes))


def _config(params: Params, vocabulary: int) -> T5Config:
    return T5Config(
        vocab_size=vocabulary,
        d_model=params.hidden_size,
        d_kv=params.head_size,
        d_ff=params.feed_forward,
        num_layers=params.layers,
        num_decoder_layers=params.layers,
        num_heads=params.heads,
        dropout_rate=params.dropout,
        feed_forward_proj="relu",
        pad_token_id=PADDING,
        eos_token_id=None,
        decoder_start_token_id=START,
        attn_implementation="eager",
    )
