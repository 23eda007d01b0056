"""The turn of a conversation that a prompt is put into, for models that were tuned to converse."""

from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from stages.core.errors import InputError

MARK = "[[THE PROMPT]]"
TODAY = "{% macro strftime_now(format) %}01 Jan 2026{% endmacro %}"  # or a prompt would hang on the day it is made


class ChatForm(NamedTuple):
    """What stands before a prompt and behind it, up to where the answer begins."""

    before: str
    behind: str


def chat_form(tokenizer: PreTrainedTokenizerBase | None) -> ChatForm:
    """The tokenizer's own chat template around one message of the user; empty where it has none.

    Models that think before they answer are told not to, where their template knows how (`enable_thinking`). Encode
    both parts without added special tokens: the template writes them. Raises InputError for a template that does not
    show the message once and as it is.
    """
    if tokenizer is None or not tokenizer.chat_template:
        return ChatForm("", "")
    parts = conversation(tokenizer, [{"role": "user", "content": MARK}]).split(MARK)
    if len(parts) != 2:
        raise InputError(
            f"{tokenizer.name_or_path}: its chat template shows the user's message {len(parts) - 1} times, it has to "
            "do so once; take a model with another template"
        )
    return ChatForm(*parts)


def conversation(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> str:
    """Turns (role, content) in the tokenizer's chat template, up to where the answer begins."""
    written = tokenizer.apply_chat_template(
        turns,
        chat_template=TODAY + tokenizer.get_chat_template(),
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    return str(written)
