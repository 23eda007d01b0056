"""What a tokenizer did to the catalogue, in numbers."""

from typing import Any

import numpy as np

from stages.core.seeding import numpy_generator
from stages.semantic_ids.quantised import Floats, Ints, Quantised

PAIRS = 200_000  # random pairs of items that the purity by chance is taken from


def describe(
    found: Quantised, codes: Ints, vectors: Floats, categories: list[list[str] | None], seed: int
) -> dict[str, Any]:
    """The report on ids [N, D] of items embedded as `vectors`: scalars to compare tokenizers by, lists by level."""
    table = category_table(categories)
    suffixed = codes.shape[1] > found.codes.shape[1]
    return {
        "items": len(codes),
        "levels": codes.shape[1],
        "collision_rate_before": collision_rate(found.codes),
        "collision_rate_after": collision_rate(codes),
        "items_reassigned": float((found.codes != codes[:, : found.codes.shape[1]]).any(1).mean()),
        "items_suffixed": float((codes[:, -1] > 0).mean()) if suffixed else 0.0,
        "reconstruction_error_before": reconstruction_error(found.decode(found.codes), vectors),
        "reconstruction_error_after": reconstruction_error(found.decode(codes[:, : found.codes.shape[1]]), vectors),
        "purity_by_chance": purity_by_chance(table, numpy_generator(seed, "purity")),
        "usage": usage(codes, found.sizes(codes)),
        "perplexity": perplexity(codes),
        "items_per_prefix": items_per_prefix(codes),
        "purity": purity(codes, table),
    }


def code_counts(codes: Ints) -> list[dict[str, float | int | str]]:
    """How many items each level's codes have, from the most used on: one row per rank, for a plot."""
    counts = [-np.sort(-np.bincount(codes[:, level])) for level in range(codes.shape[1])]
    ranks = range(max(map(len, counts)))
    return [
        {"rank": rank + 1, **{f"level_{level}": int(own[rank]) for level, own in enumerate(counts) if rank < len(own)}}
        for rank in ranks
    ]


def collision_rate(codes: Ints) -> float:
    """Share of the items whose id another item has as well."""
    counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float((counts[2][counts[1].ravel()] > 1).mean())


def usage(codes: Ints, sizes: list[int]) -> list[float]:
    """Share of each level's codes that some item uses."""
    return [len(np.unique(codes[:, level])) / size for level, size in enumerate(sizes)]


def perplexity(codes: Ints) -> list[float]:
    """2 to the entropy (bits) of each level's codes: how many codes it uses in effect."""
    result = []
    for level in range(codes.shape[1]):
        share = np.bincount(codes[:, level]) / len(codes)
        share = share[share > 0]
        result.append(float(2 ** -(share * np.log2(share)).sum()))
    return result


def items_per_prefix(codes: Ints) -> list[float]:
    """Mean number of items behind each prefix of 1, 2, .. D codes that is in use."""
    return [len(codes) / len(np.unique(codes[:, : level + 1], axis=0)) for level in range(codes.shape[1])]


def reconstruction_error(rebuilt: Floats, vectors: Floats) -> float:
    """Mean squared distance of the items to what their codes say, over that to the items' mean."""
    return float(((vectors - rebuilt) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum())


def purity(codes: Ints, categories: Floats) -> list[float | None]:
    """How alike the items of a prefix are, for prefixes of 1, 2, .. D codes.

    Of the items with a category: mean over those that share their prefix of the share of the others there that share
    a category with them; None where no prefix has two. categories [N, C]: above 0 where the item is in the category.
    """
    named = (categories > 0).any(1)
    member, codes = (categories[named] > 0).astype(np.float32), codes[named]
    found: list[float | None] = []
    for level in range(codes.shape[1]):
        prefix = np.unique(codes[:, : level + 1], axis=0, return_inverse=True)[1].ravel()
        order = np.argsort(prefix, kind="stable")
        shares = [_shared(member[own]) for own in np.split(order, np.cumsum(np.bincount(prefix))[:-1]) if len(own) > 1]
        found.append(float(np.concatenate(shares).mean()) if shares else None)
    return found


def purity_by_chance(categories: Floats, generator: np.random.Generator) -> float | None:
    """Share of random pairs of items with a category that share one: what `purity` would be without any order.

    None where fewer than two items have a category.
    """
    member = categories[(categories > 0).any(1)] > 0
    if len(member) < 2:
        return None
    one, other = generator.integers(len(member), size=(2, PAIRS))
    return float((member[one] & member[other]).any(1)[one != other].mean())


def _shared(member: Floats) -> Floats:
    """Of n items [n, C], each with a category: the share of the other n - 1 with which it shares one."""
    alike = member @ member.T > 0
    return ((alike.sum(1) - 1) / (len(member) - 1)).astype(np.float32)


def category_table(categories: list[list[str] | None]) -> Floats:
    """[N, C] 1 where the item is in the category."""
    names = {name: column for column, name in enumerate(sorted({name for own in categories for name in own or []}))}
    table = np.zeros((len(categories), max(1, len(names))), dtype=np.float32)
    for row, own in enumerate(categories):
        table[row, [names[name] for name in own or []]] = 1
    return table
