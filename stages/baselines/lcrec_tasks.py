"""What LC-Rec is taught: the tasks of stages/baselines/lcrec.py as prompts and responses, spelled in tokens.

Each task begins with words of its own, so that none contradicts another; an id is one token per level, which stands in
no text.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from stages.baselines.lcrec import Tasks
from stages.baselines.windows import Window, Windows
from stages.core.seeding import numpy_generator
from stages.corpus.histories import Histories, Ints
from stages.rendering import tokenizer as scratch
from stages.rendering.names import unique_names

SEQREC = "What a user chose, in order: "
ITEM2INDEX = "The item of the title ", ": "
INDEX2ITEM = "The title of the item ", ": "
TITLES_TO_ID = "Titles that a user chose, in order:\n", "The item chosen next: "
IDS_TO_TITLE = "Items that a user chose, in order: ", "\nThe title chosen next: "
END = "\n"  # of a title
WORDS = (SEQREC, *ITEM2INDEX, *INDEX2ITEM, *TITLES_TO_ID, *IDS_TO_TITLE, END)


class Row(NamedTuple):
    """An example: tokens, of which the written ones are the response."""

    tokens: Ints  # [n]
    written: npt.NDArray[np.bool_]  # [n]
    weight: float
    """Of each written token in the loss."""


def trained_tokenizer(histories: Histories, vocabulary: int) -> PreTrainedTokenizerBase:
    """A tokenizer of the titles and the tasks' words, for a backbone that has none."""
    with tempfile.TemporaryDirectory(prefix="tokenizer-") as folder:
        return scratch.train([*WORDS, *_names(histories, lambda title: title)], vocabulary, Path(folder))


@dataclass(frozen=True)
class Spelling:
    """Tokens of ids, titles and words."""

    ids: Ints  # [N, D]
    titles: list[Ints]  # [N] with END
    words: dict[str, Ints]

    @classmethod
    def of(cls, ids: Ints, histories: Histories, tokenizer: PreTrainedTokenizerBase, longest: int) -> Self:
        """Spell with a tokenizer; titles are cut to their `longest` first tokens, then told apart."""

        def encode(text: str) -> Ints:
            return np.array(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True), dtype=np.int64)

        words = {text: encode(text) for text in WORDS}
        cut = _cutter(tokenizer, longest)
        titles = [np.concatenate([encode(name), words[END]]) for name in _names(histories, cut)]
        return cls(ids, titles, words)

    def history(self, items: Ints) -> Ints:
        """The prompt of `seqrec`: the response goes on with ids."""
        return np.concatenate([self.words[SEQREC], self.ids[items].ravel()])


@dataclass(frozen=True)
class Lessons:
    """The examples of all tasks that have weight."""

    spelling: Spelling
    windows: Windows
    tasks: Tasks
    title_items: int
    """Of a history that is told by titles, the latest."""
    seed: int

    def epoch(self, number: int, most: int | None) -> list[Row]:
        """At most so many examples of an epoch, drawn from (seed, epoch) as their order is.

        Every window of every history, every item both ways, and for each user a place in one window, both ways.
        """
        generator = numpy_generator(self.seed, "lcrec", number)
        windows = [window for batch in self.windows.batches(number, 1) for window in batch]
        items, cuts = np.arange(len(self.spelling.titles)), self._cuts(windows, generator)
        examples = [
            *((self._seqrec, window.items) for window in windows),
            *((self._item2index, item) for item in items if self.tasks.item2index),
            *((self._index2item, item) for item in items if self.tasks.index2item),
            *((task, cut) for task in (self._titles_to_id, self._ids_to_title) for cut in cuts if self.tasks.fusion),
        ]
        if not windows:
            return []
        return [examples[index][0](examples[index][1]) for index in generator.permutation(len(examples))[:most]]

    @staticmethod
    def _cuts(windows: list[Window], generator: np.random.Generator) -> list[Ints]:
        """One window of each user, in an order that was drawn, up to a place that is drawn: the last is the target."""
        first = {window.user: window.items for window in reversed(windows)}
        return [first[user][: generator.integers(2, len(first[user]), endpoint=True)] for user in sorted(first)]

    def _seqrec(self, items: Ints) -> Row:
        """Every item but the first is written behind those before it."""
        own = self.spelling
        return _row(self.tasks.seqrec, own.history(items[:1]), own.ids[items[1:]].ravel())

    def _item2index(self, item: int) -> Row:
        own, (before, behind) = self.spelling, ITEM2INDEX
        prompt = [own.words[before], own.titles[item], own.words[behind]]
        return _row(self.tasks.item2index, np.concatenate(prompt), own.ids[item])

    def _index2item(self, item: int) -> Row:
        own, (before, behind) = self.spelling, INDEX2ITEM
        prompt = [own.words[before], own.ids[item], own.words[behind]]
        return _row(self.tasks.index2item, np.concatenate(prompt), own.titles[item])

    def _titles_to_id(self, items: Ints) -> Row:
        own, (before, behind) = self.spelling, TITLES_TO_ID
        titles = [own.titles[item] for item in items[:-1][-self.title_items :]]
        return _row(
            self.tasks.fusion, np.concatenate([own.words[before], *titles, own.words[behind]]), own.ids[items[-1]]
        )

    def _ids_to_title(self, items: Ints) -> Row:
        own, (before, behind) = self.spelling, IDS_TO_TITLE
        prompt = [own.words[before], own.ids[items[:-1]].ravel(), own.words[behind]]
        return _row(self.tasks.fusion, np.concatenate(prompt), own.titles[items[-1]])


def _row(weight: float, prompt: Ints, response: Ints) -> Row:
    written = np.arange(len(prompt) + len(response)) >= len(prompt)
    return Row(np.concatenate([prompt, response]), written, weight)


def _names(histories: Histories, cut: Callable[[str], str]) -> list[str]:
    """One line per item, no two the same, from titles that are cut first."""
    titles, categories = (histories.items[name].to_pylist() for name in ("title", "categories"))
    return unique_names(list(map(cut, titles)), categories).names


def _cutter(tokenizer: PreTrainedTokenizerBase, longest: int) -> Callable[[str], str]:
    """Texts to their `longest` first tokens; a character that is cut in two goes."""

    def cut(text: str) -> str:
        tokens = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return text if len(tokens) <= longest else str(tokenizer.decode(tokens[:longest])).rstrip("\ufffd")

    return cut
