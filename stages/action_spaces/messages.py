"""Official prompts of RecIF's test files as a pretrained model reads them: its chat template, and ids as tokens.

The tokenizer is copied and taught the names of the tokens that are new behind its own, so that an id in a message,
`<|sid_begin|><s_a_17>..<|sid_end|>`, is read as the tokens that a policy writes.
"""

import copy
import json
import re

import numpy as np
from transformers import AddedToken, PreTrainedTokenizerBase

from stages.core.errors import InputError
from stages.corpus.histories import Ints
from stages.rendering.chat import conversation

ID = re.compile(r"<\|sid_begin\|>((?:<s_[a-z]_\d+>)+)<\|sid_end\|>")
YES, NO = "是", "否"  # as the files' answers have them


class Messages:
    """Reads messages. answers [2]: the tokens that yes and no begin with."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None, names: dict[int, str], count: int) -> None:
        """names: of tokens; count: of tokens behind the tokenizer's own. Raises InputError without a chat template."""
        if tokenizer is None or not tokenizer.chat_template:
            raise InputError(
                "semantic_id.policy.prompts: official prompts are for pretrained backbones with a chat template; "
                "use own, or another backbone"
            )
        first, self.tokenizer = len(tokenizer), copy.deepcopy(tokenizer)
        new = [names.get(first + place, f"<|new_{place}|>") for place in range(count)]  # in the order of their numbers
        self.tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in new])
        vocabulary = self.tokenizer.get_vocab()
        assert all(vocabulary[name] == token for token, name in names.items()), "a token has the number of its row"
        self.names = set(names.values())
        self.answers = np.array([self._ids(word)[0] for word in (YES, NO)])
        if self.answers[0] == self.answers[1]:
            raise InputError(f"the backbone's tokenizer begins {YES} and {NO} alike; take another backbone")

    def read(self, messages: str) -> Ints:
        """Tokens of messages, JSON, up to where the answer begins. What an assistant says in them is left out, and ids
        with a code that no item has.
        """
        turns = [turn for turn in json.loads(messages) if turn["role"] != "assistant"]
        return self._ids(ID.sub(self._known, conversation(self.tokenizer, turns)))

    def _known(self, found: re.Match[str]) -> str:
        codes = re.findall("<[^>]+>", found[1])
        return found[0] if self.names.issuperset(codes) else ""

    def _ids(self, text: str) -> Ints:
        found = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=False)
        return np.array(found, dtype=np.int64)
