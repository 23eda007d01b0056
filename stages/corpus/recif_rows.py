"""One row of RecIF's official test files: a prompt (`messages`) and what is right (`metadata`), told apart.

Prompts are kept as they are; the Semantic IDs in them are told apart, so that a policy without words can be asked as
well.
"""

import json
import re
from typing import Any, NamedTuple

from stages.corpus.recif_parts import BEHAVIOURS, BY_BEHAVIOUR, CODES, LARGEST

SID = re.compile(r"<\|sid_begin\|><s_a_(\d+)><s_b_(\d+)><s_c_(\d+)><\|sid_end\|>")
YES, NO = ("是", "yes"), ("否", "no")
WORDS = {  # of a behaviour in a prompt; the files' first, and its column's name last
    "longview": ("长播", "有效观看", "长时间观看", "longview"),
    "like": ("点赞", "赞过", "like"),
    "follow": ("关注", "订阅", "follow"),
    "forward": ("转发", "分享", "forward"),
    "not_interested": ("不感兴趣", "不喜欢", "not_interested"),
}
EMPTY = ("messages", "metadata", "answer")


class Sample(NamedTuple):
    """One row of a test file."""

    messages: list[dict[str, str]]  # role, content
    shown: list[int]  # Semantic IDs of the prompt, in order
    behaviours: list[int]  # label_cond, label_pred: of each the behaviour that a heading above names, -1 for none
    condition: str  # label_cond: a behaviour | interactive: a keyword | ""
    answer: list[int]  # Semantic IDs, each once, in order; none for label_pred
    answer_ids: list[int]  # pids or iids, each once, in order
    candidate: int  # label_pred: a pid; -1
    label: bool | None  # label_pred


class EmptyError(Exception):
    """A row that is left out, and what it lacks."""


def sample_of(row: dict[str, Any], task: str) -> tuple[Sample, int]:
    """A row, and how many Semantic IDs of its answer stand there before."""
    messages = _from_json(row["messages"])
    if not messages:
        raise EmptyError("messages")
    metadata = _from_json(row["metadata"])
    if not metadata:
        raise EmptyError("metadata")
    if not isinstance(metadata, dict) or not isinstance(messages, list):
        raise ValueError("messages have to be a list, metadata an object")
    answer = metadata.get("answer")
    if not answer:
        raise EmptyError("answer")
    turns = [{"role": str(turn["role"]), "content": _words(turn["content"])} for turn in messages]
    if not any(turn["content"].strip() for turn in turns):
        raise EmptyError("messages")
    asked = "\n".join(turn["content"] for turn in turns if turn["role"] != "assistant")
    shown, answer = _sids(asked), _words(answer)
    behaviours = _headings(asked) if task in BY_BEHAVIOUR else []
    if task == "label_pred":
        word = answer.strip().lower()
        if word not in (*YES, *NO):
            raise ValueError(f"the answer '{word[:20]}' is neither of {', '.join((*YES, *NO))}")
        return Sample(turns, shown, behaviours, "", [], [], _pid(row["candidate_pid"]), word in YES), 0
    found = _sids(answer)
    if not found:
        raise ValueError(f"the answer '{answer[:40]}' holds no Semantic ID")
    once = list(dict.fromkeys(found))
    ids = metadata.get("answer_iid" if task == "product" else "answer_pid") or []
    ids = list(dict.fromkeys(map(_pid, ids if isinstance(ids, list) else [ids])))
    condition = {"label_cond": lambda: _asked_for(asked), "interactive": lambda: str(metadata.get("keyword") or "")}
    return Sample(turns, shown, behaviours, condition.get(task, str)(), once, ids, -1, None), len(found) - len(once)


def _from_json(value: Any) -> Any:
    """A column that holds JSON, or what it stands for; None where it is empty."""
    if isinstance(value, str):
        return json.loads(value) if value.strip() else None
    return value


def _words(content: Any) -> str:
    """Content as published: a string, or a list of {"type": "text", "text": ..}."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    parts = content if isinstance(content, list) else [content]
    if not all(isinstance(part, dict) and part.get("type", "text") == "text" for part in parts):
        raise ValueError("content has to be a string or a list of texts")
    return "".join(str(part["text"]) for part in parts)


def _sids(text: str) -> list[int]:
    """Semantic IDs of a text, as numbers. Raises ValueError where a code is out of range."""
    found = []
    for codes in SID.findall(text):
        a, b, c = map(int, codes)
        if max(a, b, c) >= CODES:
            raise ValueError(f"a code of {codes} is outside 0..{CODES - 1}")
        found.append((a * CODES + b) * CODES + c)
    return found


def _asked_for(prompt: str) -> str:
    """The behaviour that a prompt names last behind its last Semantic ID, the headings of empty lists, which end in a
    colon and are not its last line, aside; "" where it names none.
    """
    *lines, last = SID.split(prompt)[-1].rstrip().splitlines() or [""]
    return _last_named("\n".join([*(line for line in lines if not line.rstrip().endswith(("：", ":"))), last]))


def _headings(prompt: str) -> list[int]:
    """Of each Semantic ID the number of the behaviour that the prompt names last before it, -1 for none."""
    found, start, last = [], 0, ""
    for own in SID.finditer(prompt):
        last = _last_named(prompt[start : own.start()]) or last
        found.append(BEHAVIOURS.index(last) if last else -1)
        start = own.end()
    return found


def _last_named(text: str) -> str:
    """The behaviour that a text names last, the longer word where two end together; "" where it names none."""
    ends = [
        (text.rfind(word) + len(word), len(word), name) for name, own in WORDS.items() for word in own if word in text
    ]
    return max(ends)[2] if ends else ""


def _pid(value: Any) -> int:
    """A pid, also of a column that NaN made a floating-point one; -1 for none. Raises ValueError where it is no whole
    number of 64 bits, or one that floating point cannot tell from the next.
    """
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None or value != value:
        return -1
    broken = isinstance(value, float) and (abs(value) >= LARGEST or value % 1 != 0)
    if broken or isinstance(value, bool) or not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"'{value}' is no pid")
    return int(value)
