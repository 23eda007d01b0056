"""The tables that stages hand to one another, as parquet: columns, types and checks.

corpus/items.parquet         one row per item, sorted by `item` = 0..N-1
corpus/users.parquet         one row per user, sorted by `user` = 0..U-1; further string columns are the user's profile
corpus/interactions.parquet  one row per interaction, sorted by user, then time; further int8 columns are the
                             objectives R_m (1 where the interaction carries that feedback)
actions/semantic_id/ids.parquet  one row per item: its code at each level
actions/text/items.parquet   one row per item: its name, and its line in a pool of candidates
actions/text/users.parquet   one row per user: the profile in words
actions/text/pools.parquet   one row per interaction, in the corpus's order: candidates for what the user does there,
                             drawn from what is before it
actions/text/task_lessons.parquet, task_pools.parquet  of a corpus with tasks (RecIF's)
heldout/<row>/seed-<n>.parquet   one row per context of the reserve's reporting half and decoder
harvest/<row>/seed-<n>.parquet   one row per context in which RL came upon a slate that earned something
slates/<row>/seed-<n>.parquet    one row per user, split, decoder and rank
per_user/<row>/seed-<n>.parquet  one row per user, split and decoder: the value of each measure
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import InputError

ITEMS = pa.schema(
    [
        ("item", pa.int32()),  # dense number
        ("item_id", pa.string()),  # the source's name for it; shown to people, never to a model
        ("title", pa.string()),
        ("text", pa.string()),  # title, categories and whatever else describes it, for the tokenizers
        ("categories", pa.list_(pa.string())),  # of the level that diversity is measured on
        ("train_count", pa.int32()),  # interactions in the training part
        ("cold", pa.bool_()),  # by the rule corpora.<name>.cold_share, cold_ties
    ]
)
USERS = pa.schema([("user", pa.int32()), ("user_id", pa.string())])
INTERACTIONS = pa.schema(
    [
        ("user", pa.int32()),
        ("item", pa.int32()),
        ("position", pa.int32()),  # 0 = the user's oldest
        ("timestamp", pa.int64()),  # Unix seconds; null where unknown
        ("split", pa.string()),  # train | valid | test: the last item is test, the last but one valid; see EVERY_SPLIT
    ]
)
SLATES = pa.schema(
    [
        ("user", pa.int32()),
        ("split", pa.string()),  # valid: the context is the training part; test: the valid item as well
        (
            "decoder",
            pa.string(),
        ),  # slate: the policy's L items | free | beam: likeliest next items | pool | list: a baseline's
        ("rank", pa.int32()),  # 1 = first
        ("item", pa.int32()),  # -1 where the output is no item
        ("score", pa.float32()),  # decoder slate: log-probability of the item given those before it
    ]
)
HELD_OUT = pa.schema(
    [
        ("user", pa.int32()),
        ("position", pa.int32()),
        ("decoder", pa.string()),  # slate: the greedy slate | sampled: the mean over several
        ("temperature", pa.float32()),  # 0 for the greedy slate
        ("reward", pa.float32()),
    ]
)
HARVEST = pa.schema(
    [
        ("user", pa.int32()),
        ("position", pa.int32()),  # the context is what the user did before it
        ("reward", pa.float32()),  # of the slate
        ("items", pa.list_(pa.int32())),  # of it, those that the user went on to, in its order
    ]
)
ITEM_TEXT = pa.schema([("item", pa.int32()), ("name", pa.string()), ("line", pa.string())])
USER_TEXT = pa.schema([("user", pa.int32()), ("profile", pa.string())])
# Of a corpus with RecIF's tasks: what the logs say of them, drawn by `render`, and pools of the test rows
TASK_LESSONS = pa.schema(
    [
        ("draw", pa.int32()),  # which of text.tasks.draws
        ("task", pa.string()),
        ("condition", pa.string()),  # see RECIF_TASK
        ("shown", pa.list_(pa.int32())),  # items, oldest first
        ("behaviours", pa.list_(pa.int8())),  # see RECIF_TASK
        ("answer", pa.list_(pa.int32())),  # items, each once
        ("candidate", pa.int32()),  # label_pred: the item that is judged; -1
        ("label", pa.bool_()),  # label_pred
        ("user", pa.int32()),
        ("pool", pa.list_(pa.int32())),  # candidates, best first; none for label_pred
    ]
)
TASK_POOLS = pa.schema([("task", pa.string()), ("sample", pa.int32()), ("pool", pa.list_(pa.int32()))])
TASK_FILES = "task_lessons.parquet", "task_pools.parquet"
SPLITS = ("train", "valid", "test")
# RecIF's tables in the corpus: see stages/corpus/recif.py
RECIF_SIDS = pa.schema(
    [
        ("item", pa.int32()),
        *((f"code_{level}", pa.int32()) for level in range(3)),
        ("kind", pa.int8()),  # 0 photo: video or advertisement | 1 product
        ("stands", pa.bool_()),  # whether its Semantic ID, among those of its kind, stands for it
    ]
)
RECIF_DOMAINS = pa.schema(
    [
        ("user", pa.int32()),
        ("held_out", pa.bool_()),
        *((f"{part}_{name}", pa.int32()) for name in ("ad", "goods", "video") for part in ("hist", "target")),
        # whether it is known of each of these videos if it was watched for long; where not, 0 stands for want of better
        *((f"{part}_video_known", pa.bool_()) for part in ("hist", "target")),
    ]
)
RECIF_KEYWORDS = pa.schema([("user", pa.int32()), ("keyword", pa.string()), ("items", pa.list_(pa.int32()))])
RECIF_TASK = pa.schema(
    [
        ("sample", pa.int32()),
        ("messages", pa.string()),  # JSON: the prompt, [{"role": .., "content": ..}, ..]
        ("shown", pa.list_(pa.int64())),  # Semantic IDs of the prompt, in order
        (
            "behaviours",
            pa.list_(pa.int8()),
        ),  # label_cond, label_pred: of each, number in recif_parts.BEHAVIOURS; -1: none
        ("condition", pa.string()),  # label_cond: a behaviour | interactive: a keyword
        ("answer", pa.list_(pa.int64())),  # Semantic IDs, each once, in order
        ("answer_item", pa.list_(pa.int32())),  # of the answer's pids or iids, each once, in order; -1 for no item here
        ("candidate", pa.int32()),  # label_pred: an item, -1 for no item here
        ("label", pa.bool_()),  # label_pred
    ]
)
# Where whole users are held out: what is known of them, which nothing is learnt from, and what they did behind `test`
EVERY_SPLIT = (*SPLITS, "known", "later")


def pools(size: int) -> pa.Schema:
    """Columns of the pools of `size` candidates."""
    return pa.schema(
        [
            ("timestamp", pa.int64()),  # the interaction's, as in the corpus
            ("pool", pa.list_(pa.int32(), size)),  # best first, -1 behind the last
        ]
    )


def slate_table(
    users: npt.NDArray[Any], split: str, decoder: str, items: npt.NDArray[Any], scores: npt.NDArray[Any]
) -> pa.Table:
    """Lists of users [B] as rows of SLATES: items and scores [B, n], best first."""
    count, length = items.shape
    columns = {
        "user": np.repeat(users, length).astype(np.int32),
        "split": [split] * (count * length),
        "decoder": [decoder] * (count * length),
        "rank": np.tile(np.arange(1, length + 1, dtype=np.int32), count),
        "item": items.ravel().astype(np.int32),
        "score": scores.ravel().astype(np.float32),
    }
    return pa.table(columns, schema=SLATES)


def read(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read a table, or some columns of its schema, and hold it to that; columns beyond the schema are kept.

    Raises InputError that names the file and the column, type or damage.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; run the stage that writes it (`dvc repro`) or `dvc pull`")
    try:
        table = pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file ({error}); fetch or make it again") from error
    return conform(table, schema if columns is None else pa.schema([schema.field(name) for name in columns]), str(path))


def conform(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Check that the schema's columns are there with its types; `where` names the table in errors."""
    for field in schema:
        if field.name not in table.column_names:
            have = ", ".join(table.column_names)
            raise InputError(f"{where}: column '{field.name}' ({field.type}) is missing; the columns are: {have}")
        found = table.schema.field(field.name).type
        if found != field.type:
            raise InputError(f"{where}: column '{field.name}' is {found}, it has to be {field.type}")
    return table
