"""What the language-model stages ask of an action space, and the shapes of what it gives them.

B users, K slates, L items, T tokens of a slate, C choices at a token, P prompt tokens, h width of a hidden state.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.action_spaces.trie import Trie
from stages.corpus.histories import Histories, Ints


@dataclass(frozen=True)
class Asking:
    """How a context is put to a model; see the sections `sft`, `rl` and `text` of params.yaml."""

    label: str
    """sft.label: what the model was taught to write behind a prompt."""
    history_items: int
    """Items of the history that are shown."""
    exclude_seen: bool
    slate_length: int  # L


class Pool(NamedTuple):
    """Candidates of B users, N each; a candidate is spelled by at most D tokens out of the V that its pool has."""

    items: Tensor  # [B, N] item, -1 for none
    columns: Tensor  # [B, V] token of each choice
    spelled: Tensor  # [B, N, D] the candidate's tokens as numbers of choices, -1 behind the last


class Prompts(NamedTuple):
    """Contexts as the model reads them."""

    tokens: Tensor  # [B, P], padded on the right, where causal attention does not see it
    mask: Tensor  # [B, P] 1 where there is a token
    banned: Tensor  # [B, X] items that must not be recommended, -1 for none
    only: Tensor | None = None  # [B, Z] the items that may be recommended at all, -1 for none; None: the catalogue
    pool: Pool | None = None  # where slates are picked from candidates

    def to(self, device: torch.device | str) -> "Prompts":
        return self._mapped(lambda tensor: tensor.to(device))

    def of(self, users: Ints) -> "Prompts":
        """The prompts of some users, without the padding that only others needed."""
        width = int(self.mask[users].sum(1).max())
        chosen = self._mapped(lambda tensor: tensor[users])
        return chosen._replace(tokens=chosen.tokens[:, :width], mask=chosen.mask[:, :width])

    def with_choices(self, count: int) -> "Prompts":
        """The same, with room for `count` choices at each token where slates are picked from candidates."""
        if self.pool is None:
            return self
        columns = torch.nn.functional.pad(self.pool.columns, (0, max(0, count - self.pool.columns.shape[1])))
        return self._replace(pool=self.pool._replace(columns=columns))

    def _mapped(self, change) -> "Prompts":  # type: ignore[no-untyped-def]
        only = None if self.only is None else change(self.only)
        pool = None if self.pool is None else Pool(*map(change, self.pool))
        return Prompts(change(self.tokens), change(self.mask), change(self.banned), only, pool)


class Slates(NamedTuple):
    """K slates for each of B users, token by token."""

    items: Tensor  # [B, K, L], -1 for none
    tokens: Tensor  # [B, K, T]
    choice: Tensor  # [B, K, T] number of each token among the choices
    open: Tensor  # [B, K, T, C] the choices that there were; C = 1 where every token was one
    place: Tensor  # [B, K, T] 0 to L - 1: the item that a token belongs to
    real: Tensor  # [B, K, T] False for padding
    log_probs: Tensor  # [B, K, T] as they were written; 0 for padding

    @property
    def item_log_probs(self) -> Tensor:
        """Log-probability of each item given those before it: [B, K, L]."""
        return self.log_probs.new_zeros(self.items.shape).scatter_add(2, self.place, self.log_probs)

    def of(self, users: Ints) -> "Slates":
        """The slates of some users."""
        return Slates(*(tensor[users] for tensor in self))

    def with_groups(self, users: Tensor, fresh: "Slates") -> "Slates":
        """The groups of `fresh` in the place of those of `users`."""
        both = joined([self, fresh])
        count = len(self.items)
        place = torch.arange(count, device=users.device)
        place[users] = count + torch.arange(len(users), device=users.device)
        return Slates(*(tensor[place] for tensor in both))


def joined(parts: list[Slates]) -> Slates:
    """Slates of several groups of users as one, padded to the longest slate and the largest number of choices."""
    if len(parts) == 1:
        return parts[0]
    return Slates(*(_stacked(list(tensors)) for tensors in zip(*parts, strict=True)))


def _stacked(tensors: list[Tensor]) -> Tensor:
    """Rows [B, K, ..] one below the other; in [B, K, T, C] what is padding has one choice, which is no choice."""
    size = [max(own) for own in zip(*(tensor.shape[2:] for tensor in tensors), strict=True)]
    rows = []
    for tensor in tensors:
        grown = tensor.new_zeros(*tensor.shape[:2], *size)
        grown[tuple(slice(length) for length in tensor.shape)] = tensor
        if tensor.ndim == 4:
            grown[:, :, tensor.shape[2] :, 0] = True
        rows.append(grown)
    return torch.cat(rows)


class Walk(Protocol):
    """K slates of L items for each of B users while they are written, all rows token by token together."""

    items: Tensor
    """[B, K, L] what is written, -1 behind it."""
    place: Tensor
    """[B, K] 0 to L - 1: the item that is being written."""
    writing: Tensor
    """[B, K] False where a slate is whole; it has one choice then, which means nothing."""

    def open(self) -> Tensor:
        """[B, K, C] the choices that there are; [B, K, 1] where every token of the vocabulary is one."""

    def towards(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The choice [B, K] that goes on with the slate `items` [B, K, L], and whether there is one."""

    def take(self, choice: Tensor) -> Tensor:
        """Write one token of each slate; the tokens [B, K]."""


class ActionSpace(Protocol):
    """How items are spelled. A module of this folder offers one as `Actions`."""

    LABELS: ClassVar[tuple[str, ...]]
    """Values of sft.label that it has, the default first."""
    item_count: int
    histories: Histories
    """Those that it was given; where items share their spelling, with one of them in the place of all."""
    new_tokens: int
    """Tokens that the model has to have beside those of its own tokenizer."""
    put_target: bool
    """Whether SFT's prompts take in the logged items that pools lack; see text.policy."""
    answers: Ints | None
    """Tokens of yes and no [2], where the corpus has tasks; see Tasked."""
    unaided: bool
    """Whether SFT's softmax over a slate's tokens is the whole vocabulary's; otherwise it is held to the choices."""
    fingerprint: str
    """Hash of the spelling: a policy refuses to run on another one."""

    def __init__(
        self, folder: Path, histories: Histories, tokenizer: PreTrainedTokenizerBase | None, policy: Any
    ) -> None:
        """Load what the stage before wrote. Raises InputError where it is damaged.

        tokenizer: the pretrained model's, None from scratch; policy: the key `policy` of the space's section.
        """

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors."""

    def free(self) -> Self:
        """The same with slates of any tokens: lines, of which those that name no candidate are the null action, -1.

        Raises InputError where items have no names to write.
        """

    def prompts(self, contexts: Ints, asking: Asking, wanted: Ints | None = None) -> Prompts:
        """Prompts of contexts [B, 2] of (user, position): what the user did before is known.

        wanted [B, J]: items, -1 for none, that have to be among what can be recommended; for training alone.
        """

    def offered(self, contexts: Ints) -> Ints | None:
        """The pools of contexts [C, 2], best first: [C, N], -1 for none. None where the whole catalogue is offered."""

    def walk(self, prompts: Prompts, slates: int, length: int) -> Walk:
        """Begin `slates` slates of `length` items per user. Raises InputError where a user has fewer items left."""

    def logits(self, model: PreTrainedModel, hidden: Tensor, prompts: Prompts, first: int = 0) -> Tensor:
        """Logits [B, K, S, C] of the choices behind S tokens of each slate, the first of which is number `first`.

        hidden [B, K, S, h].
        """


class Catalogue(ActionSpace, Protocol):
    """An action space whose items are spelled the same everywhere, by one code per level."""

    trie: Trie
    columns: Tensor
    """[D, C] token of each code at each level."""
    width: int
    """W, tokens of an item in a history: its D codes, and marks around them where there are any."""
    lead: int
    """Those before its first code."""
    marks: Ints
    """[0 or 2] the tokens around the codes."""

    def history(self, items: Ints) -> Ints:
        """Token ids of a history that starts a sequence, oldest item first: [1 + W * items]."""


def pad(rows: list[Ints], value: int) -> tuple[Tensor, Tensor]:
    """Stack rows of different lengths into [B, P] with a mask of the same shape."""
    width = max(1, *(len(row) for row in rows))
    tokens = np.full((len(rows), width), value, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)
