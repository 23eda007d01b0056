"""LC-Rec's model, its loss and its lists: see stages/baselines/lcrec.py.

Tokens: those of the backbone's tokenizer, or of one that is trained on the titles; behind them level 0's codes, level
1's, .. B users, K beams, D levels, C codes per level, h hidden size.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stages.action_spaces.base import Prompts, pad
from stages.action_spaces.trie import Trie
from stages.baselines.asked import Asked
from stages.baselines.base import GivenModels, Outcome
from stages.baselines.lcrec import Params
from stages.baselines.lcrec_tasks import Lessons, Row, Spelling, trained_tokenizer
from stages.baselines.loop import train
from stages.baselines.trie_beam import Search
from stages.baselines.windows import Windows
from stages.core.gpu import leaves_idle
from stages.core.language_models import Backbone
from stages.corpus.histories import Ints
from stages.policy import backbone
from stages.policy.constrained import output_logits
from stages.policy.sharing import Reading

PASS, MANY = 4096, 16384  # tokens of examples, padding included, read at once; many by a small model on a GPU


class LcRec(Search):
    """A language model with the ids of a catalogue."""

    def __init__(self, given: GivenModels, params: Params, codes: Ints, body: Backbone) -> None:
        """Take the ids of the items, codes [N, D]."""
        self.given, self.params, self.mixed = given, params, body.precision == "bf16"
        self.beam_width = params.beam_width
        own = backbone.tokenizer(given.backbone)
        self.tokenizer = tokenizer = own or trained_tokenizer(given.histories, params.vocabulary)
        self.trie = Trie(codes).to(given.device)
        first = len(tokenizer) + self.trie.size * np.arange(codes.shape[1])  # [D] the token of code 0
        self.columns = torch.from_numpy(first[:, None] + np.arange(self.trie.size)).to(given.device)  # [D, C]
        self.spelling = Spelling.of(codes + first, given.histories, tokenizer, params.title_tokens)
        windows = Windows(given.histories, params.history_items, given.shuffle_ties, given.seed)
        self.lessons = Lessons(self.spelling, windows, params.tasks, params.title_items, given.seed)
        new_tokens = self.columns.numel() + (len(tokenizer) if own is None else 0)
        self.model = backbone.create(body, given.backbone, new_tokens, given.seed).to(given.device)

    def batches(self, epoch: int) -> Sequence[list[Row]]:
        """Examples of all tasks, `batch_size` at a time."""
        rows, size = self.lessons.epoch(epoch, self.params.max_examples), self.params.batch_size
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def loss(self, batch: list[Row]) -> tuple[Tensor, Tensor]:
        """Weighted sum of the negative log-probabilities (nats) of the responses' tokens, and of their weights."""
        total = torch.zeros((), device=self.given.device)
        for rows in _passes(batch, MANY if leaves_idle(self.model) else PASS):
            with torch.autocast(self.given.device.type, torch.bfloat16, enabled=self.mixed):
                losses = self._losses(rows)
            weights = np.repeat([row.weight for row in rows], [row.written.sum() for row in rows])
            total = total + losses @ torch.from_numpy(weights).to(losses)
        return total, torch.tensor(sum(row.weight * float(row.written.sum()) for row in batch), device=total.device)

    def _losses(self, rows: list[Row]) -> Tensor:
        """Negative log-probability of each token of the responses, over the whole vocabulary, row by row."""
        tokens, _ = (tensor.to(self.given.device) for tensor in pad([row.tokens for row in rows], 0))
        written = (pad([row.written for row in rows], 0)[0] == 1).to(self.given.device)
        states = self.model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state
        before = states[:, :-1][written[:, 1:]]  # a response has a prompt before it
        return cross_entropy(output_logits(self.model, before, None), tokens[written], reduction="none")

    def read(self, asked: Asked) -> "_Writer":
        """The model behind the last items of each context."""
        tokens, mask = pad([self.spelling.history(own[-self.params.history_items :]) for own in asked.contexts], 0)
        nothing = torch.full((len(tokens), 1), -1)
        return _Writer(Reading(self.model, Prompts(tokens, mask, nothing).to(self.given.device)), self.columns)


class _Writer:
    """The model behind prompts that were read, for the beam."""

    def __init__(self, reading: Reading, columns: Tensor) -> None:
        self.reading, self.columns = reading, columns

    def start(self) -> Tensor:
        return output_logits(self.reading.model, self.reading.start()[:, None], self.columns[0])

    def go_on(self, beam: Tensor, code: Tensor, level: int) -> Tensor:
        self.reading.select(beam)
        return output_logits(self.reading.model, self.reading.read(self.columns[level - 1][code]), self.columns[level])


def _passes(batch: list[Row], most: int) -> Iterator[list[Row]]:
    """The examples, longest first, in parts of at most so many tokens, padding included, or of one example."""
    part: list[Row] = []
    for row in sorted(batch, key=lambda own: -len(own.tokens)):
        if part and len(part[0].tokens) * (len(part) + 1) > most:
            yield part
            part = []
        part.append(row)
    yield part


def outcome(given: GivenModels, params: Params, codes: Ints) -> Outcome:
    """Train on ids [N, D], and answer all that is asked."""
    learner = LcRec(given, params, codes, given.language_model)
    train(learner, params, given, "lcrec")
    return Outcome.of(learner, given, params.list_length, codes=torch.from_numpy(codes))
