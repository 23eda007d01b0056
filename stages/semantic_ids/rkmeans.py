"""Residual k-means: each level clusters what the levels before it left over (OneRec, arXiv 2506.13695: RQ-Kmeans)."""

from stages.core.spelling_sections import SemanticId
from stages.semantic_ids.quantised import Floats, Ints, Quantised, kmeans, residual


def quantise(vectors: Floats, levels: int, settings: SemanticId) -> Quantised:
    """Quantise vectors [N, width] into `levels` codes of `settings.codebook_size` each."""

    def cluster(left: Floats, level: int) -> tuple[Ints, Floats]:
        return kmeans(left, settings.codebook_size, settings.seed, level)

    return residual(vectors, levels, settings.codebook_size, cluster)
