"""What a tokenizer did to the catalogue, in numbers."""

import numpy as np

from stages.semantic_ids.rkmeans import Floats, Ints


def collision_rate(codes: Ints) -> float:
    """Share of the items whose id another item has as well."""
    counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float((counts[2][counts[1].ravel()] > 1).mean())


def usage(codes: Ints, size: int) -> list[float]:
    """Share of each level's codes that some item uses."""
    return [len(np.unique(codes[:, level])) / size for level in range(codes.shape[1])]


def perplexity(codes: Ints) -> list[float]:
    """2 to the entropy (bits) of each level's codes: how many codes it uses in effect."""
    result = []
    for level in range(codes.shape[1]):
        share = np.bincount(codes[:, level]) / len(codes)
        share = share[share > 0]
        result.append(float(2 ** -(share * np.log2(share)).sum()))
    return result


def reconstruction_error(codes: Ints, vectors: Floats, codebooks: list[Floats]) -> float:
    """Mean squared distance of the items to the sum of their codewords, over that to the items' mean."""
    rebuilt = sum(book[codes[:, level]] for level, book in enumerate(codebooks))
    return float(((vectors - rebuilt) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum())
