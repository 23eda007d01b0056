"""What is said of items, as columns: clean strings, the text for the tokenizers, categories at one level.

All of it works on whole columns, for catalogues of millions.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.corpus.faults import Faults
from stages.corpus.tables import Table, listed

Ints = npt.NDArray[np.int64]
BLANK = r"[\p{Z}\x{09}-\x{0d}\x{1c}-\x{1f}\x{85}]+"  # what Python's str.split takes for space


def check_kinds(items: Table, faults: Faults) -> None:
    """Add what is wrong with the types of the columns that describe items to the faults."""
    if "title" not in items.kinds:
        faults.add(f"{items.name}: column 'title' is missing; {listed(items.kinds)}")
    for name in ("title", "brand"):
        kind = items.kinds.get(name, pa.string())
        if not (pa.types.is_string(kind) or pa.types.is_null(kind)):
            faults.add(f"{items.name}: column '{name}' is {kind}, it has to be string")
    kind = items.kinds.get("categories", pa.string())
    inner = kind
    for _ in range(2):
        inner = inner.value_type if pa.types.is_list(inner) else inner
    if not (pa.types.is_string(inner) or pa.types.is_null(kind)):
        faults.add(f"{items.name}: column 'categories' is {kind}, it has to be a list of strings or a string")


def clean(column: pa.Array) -> pa.Array:
    """Strings with single spaces, none at the ends; null becomes empty."""
    return pc.utf8_trim(pc.replace_substring_regex(column.fill_null(""), BLANK, " "), " ")


def paths_of(column: pa.Array, is_csv: bool) -> pa.Array:
    """Each item's category paths; a string is a path of one, in a CSV of its parts between |."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        if is_csv:
            return one_path(pc.split_pattern(column, "|"))
        return one_path(as_lists(column.drop_null(), column.is_valid().to_numpy(False).astype(int)))
    return clean_paths(column) if pa.types.is_list(column.type.value_type) else one_path(column)


def one_path(lists: pa.Array) -> pa.Array:
    """A list of entries per item, root first, as a list of one path; an item without entries has no path."""
    length = lengths(lists)
    paths = as_lists(clean(lists.flatten()), length[length > 0])
    return as_lists(paths, (length > 0).astype(np.int64))


def clean_paths(lists: pa.Array) -> pa.Array:
    """Lists of paths with clean entries; an empty path is none."""
    paths = lists.flatten()
    length = lengths(paths)
    owner = np.repeat(np.arange(len(lists)), lengths(lists))
    found = as_lists(clean(paths.flatten()), length[length > 0])
    return as_lists(found, np.bincount(owner[length > 0], minlength=len(lists)))


def path_text(paths: pa.Array) -> pa.Array:
    """`Beauty, Hair Care; Beauty, Tools`: the entries of each path that are not empty, [items]."""
    inner = paths.flatten()
    owner = np.repeat(np.arange(len(inner)), lengths(inner))
    entries, owner = _not_empty(inner.flatten(), owner)
    words = pc.binary_join(as_lists(entries, np.bincount(owner, minlength=len(inner))), ", ")
    owner = np.repeat(np.arange(len(paths)), lengths(paths))
    words, owner = _not_empty(words, owner)
    return pc.binary_join(as_lists(words, np.bincount(owner, minlength=len(paths))), "; ")


def joined(parts: list[pa.Array]) -> pa.Array:
    """`Title. Brand. Categories`: the parts that are not empty, [items]."""
    told = parts[0]
    for part in parts[1:]:  # null_handling="skip" would do, but drops rows of nulls alone (pyarrow 26)
        alone = pc.or_(pc.equal(told, ""), pc.equal(part, ""))
        told = pc.binary_join_element_wise(told, part, pc.if_else(alone, "", ". "))
    return told


def at_level(paths: pa.Array, level: int | None) -> pa.Array:
    """The categories that diversity is measured on: all entries, or the n-th of each path; each once, and no empty one.

    paths: list of paths per item [items]; returns a list of entries per item.
    """
    inner = paths.flatten()
    length = lengths(inner)
    of_path = np.repeat(np.arange(len(paths)), lengths(paths))
    start = np.cumsum(length) - length
    if level is None:
        chosen, owner = np.arange(length.sum()), np.repeat(of_path, length)
    else:
        chosen, owner = start[length >= level] + level - 1, of_path[length >= level]
    entries, owner = _not_empty(inner.flatten().take(pa.array(chosen)), owner)
    codes = entries.dictionary_encode()
    pairs = owner * max(1, len(codes.dictionary)) + codes.indices.to_numpy()
    first = np.sort(np.unique(pairs, return_index=True)[1])
    return as_lists(entries.take(pa.array(first)), np.bincount(owner[first], minlength=len(paths)))


def lengths(lists: pa.Array) -> Ints:
    """Of each list; null has none."""
    return np.asarray(pc.list_value_length(lists).fill_null(0).to_numpy(), dtype=np.int64)


def as_lists(values: pa.Array, length: Ints) -> pa.Array:
    """Lists of these lengths out of a flat array."""
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    kind = pa.list_(values.type)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)


def _not_empty(values: pa.Array, owner: Ints) -> tuple[pa.Array, Ints]:
    full = pc.not_equal(values, "")
    return values.filter(full), owner[full.to_numpy(zero_copy_only=False)]
