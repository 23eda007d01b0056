"""The six test files of the drawn set, of the users that are held out: prompts in words of our own, and answers.

Each file has one of the forms that the published ones come in: `messages` as JSON or as a list, contents as strings or
as lists of texts. Of each, the first row lacks its messages, the second its metadata, the third its answer; answers of
videos name their first Semantic ID again at the end.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.corpus.raw_log import Ints
from stages.corpus.recif_drawn import Items, User, keywords, sid_text
from stages.corpus.recif_files import TESTS
from stages.corpus.recif_parts import BEHAVIOURS, SHOWN
from stages.corpus.recif_rows import WORDS

TURN = {"role": pa.string(), "content": pa.string()}
TEXTS = pa.list_(pa.struct({"type": pa.string(), "text": pa.string()}))
AS_JSON, AS_LIST = pa.string(), pa.list_(pa.struct(TURN))
AS_TEXTS = pa.list_(pa.struct({**TURN, "content": TEXTS}))
FORM = {
    "video": AS_JSON,
    "ad": AS_LIST,
    "product": AS_JSON,
    "label_cond": AS_TEXTS,
    "interactive": AS_JSON,
    "label_pred": AS_JSON,
}
DOMAIN = {"video": "video", "ad": "ad", "product": "goods"}
Row = dict[str, Any]


def write_tests(users: list[User], items: dict[str, Items], into: Path) -> None:
    """Write benchmark_data/<task>/<task>_test.parquet."""
    for task, file in TESTS.items():
        rows = [row for user in users for row in ROWS[task](user, items)]
        _empty(rows)
        form = FORM[task]
        messages = [row.pop("messages") for row in rows]
        if pa.types.is_string(form):
            said = [None if turns is None else json.dumps(turns, ensure_ascii=False) for turns in messages]
        else:
            said = [None if turns is None else [_turn(turn, form) for turn in turns] for turns in messages]
        columns = {"messages": pa.array(said, form), "metadata": [row.pop("metadata") for row in rows]}
        further = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
        (into / file).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({**columns, **further}), into / file)


def _turn(turn: dict[str, str], form: pa.DataType) -> Row:
    texts = form == AS_TEXTS
    return {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}] if texts else turn["content"]}


def _empty(rows: list[Row]) -> None:
    rows[0]["messages"], rows[1]["metadata"] = None, ""
    answered = json.loads(rows[2]["metadata"])
    rows[2]["metadata"] = json.dumps({**answered, "answer": ""})


def _prompt(said: str) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "你是推荐系统。"},
        {"role": "user", "content": f"{said} /no_think"},
    ]


def _sids(items: Items, places: Ints) -> str:
    return "".join(sid_text(items.codes[place]) for place in places)


def _recommend(task: str) -> Callable[[User, dict[str, Items]], list[Row]]:
    """Rows of video, ad and product."""
    domain = DOMAIN[task]

    def rows(user: User, items: dict[str, Items]) -> list[Row]:
        if not len(user.target[domain]):
            return []
        own, target = items[domain], user.target[domain]
        said = f"用户看过的{task}：{_sids(own, user.history[domain][-SHOWN[domain] :])}"
        if task != "video":
            longview = user.history["video"][user.behaviours["history"][:, 0] == 1][-SHOWN["longview"] :]
            said = f"用户长播的视频：{_sids(items['video'], longview)}\n{said}"
        answer = _sids(own, np.r_[target, target[:1]] if task == "video" else target)
        name = "answer_iid" if task == "product" else "answer_pid"
        metadata = json.dumps({"uid": user.uid, "answer": answer, name: own.ids[target].tolist()})
        lists = {f"hist_{domain}_pid": own.ids[user.history[domain]].tolist()}
        return [{"messages": _prompt(f"{said}\n请推荐下一个{task}。"), "metadata": metadata, **lists}]

    return rows


def _history_by_behaviour(user: User, items: dict[str, Items]) -> str:
    lines = []
    for column, name in enumerate(BEHAVIOURS):
        seen = user.history["video"][user.behaviours["history"][:, column] == 1][-SHOWN["behaviour"] :]
        lines.append(f"{WORDS[name][0]}：{_sids(items['video'], seen)}")
    return "\n".join(lines)


def _label_cond(user: User, items: dict[str, Items]) -> list[Row]:
    """A row for each behaviour but the negative one that the user's targets show."""
    rows = []
    for column, name in enumerate(BEHAVIOURS[:-1]):
        target = user.target["video"][user.behaviours["target"][:, column] == 1]
        if len(target):
            said = f"{_history_by_behaviour(user, items)}\n请推荐用户会{WORDS[name][0]}的视频。"
            answer = {"answer": _sids(items["video"], target), "answer_pid": items["video"].ids[target].tolist()}
            rows.append({"messages": _prompt(said), "metadata": json.dumps({"uid": user.uid, **answer})})
    return rows


def _interactive(user: User, items: dict[str, Items]) -> list[Row]:
    rows = []
    for word, pids in keywords(user, items, "target").items():
        places = np.flatnonzero(np.isin(items["video"].ids, pids))
        said = f"用户看过的视频：{_sids(items['video'], user.history['video'][-SHOWN['video'] :])}\n用户想看：{word}"
        answer = {"answer": _sids(items["video"], places), "keyword": word}
        rows.append({"messages": _prompt(said), "metadata": json.dumps({"uid": user.uid, **answer})})
    return rows


def _label_pred(user: User, items: dict[str, Items]) -> list[Row]:
    """A row for each of the first targets: whether the user watches it for long."""
    rows = []
    for place, shown in list(zip(user.target["video"], user.behaviours["target"], strict=True))[:4]:
        said = f"{_history_by_behaviour(user, items)}\n用户会长播{sid_text(items['video'].codes[place])}吗？"
        metadata = json.dumps({"uid": user.uid, "answer": "是" if shown[0] else "否"}, ensure_ascii=False)
        rows.append({"messages": _prompt(said), "metadata": metadata, "candidate_pid": int(items["video"].ids[place])})
    return rows


ROWS: dict[str, Callable[[User, dict[str, Items]], list[Row]]] = {
    **{task: _recommend(task) for task in DOMAIN},
    "label_cond": _label_cond,
    "interactive": _interactive,
    "label_pred": _label_pred,
}
