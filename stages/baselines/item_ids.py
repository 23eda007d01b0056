"""The ids that a generative baseline writes: RQ-VAE on the embedded text of the items, made in its own cell."""

import torch
from threadpoolctl import threadpool_limits

from stages.baselines.base import GivenModels
from stages.core.errors import InputError
from stages.core.spelling_sections import Ids
from stages.core.stage import log, progress
from stages.corpus.histories import Ints
from stages.semantic_ids import rqvae
from stages.semantic_ids.collisions import RULES
from stages.semantic_ids.embedding import embed
from stages.semantic_ids.quantised import fewest_levels


def item_codes(given: GivenModels, ids: Ids, name: str) -> Ints:
    """Codes [N, D] of the catalogue, no two items the same. name: of the baseline, for messages.

    A run that is taken up again has those that it began with. Raises InputError where the catalogue is too small, or
    too large, for the codes.
    """
    codes = given.checkpoint.once("codes", lambda: torch.from_numpy(_made(given, ids, name))).numpy()
    log.info("%s: ids of %d codes for %d items", name, codes.shape[1], len(codes))
    return codes


def _made(given: GivenModels, ids: Ids, name: str) -> Ints:
    vectors = embed(given.histories.items["text"].to_pylist(), given.encoder, progress)
    settings = ids.model_copy(update={"seed": given.seed if ids.seed is None else ids.seed})
    try:
        levels = ids.levels or fewest_levels(len(vectors), ids.codebook_size)
        with threadpool_limits(1):  # or sums, and what hangs on a tie, would depend on the number of threads
            return RULES[ids.collisions](rqvae.quantise(vectors, levels, settings))
    except InputError as error:  # which speaks of the section that policies' ids have
        raise InputError(str(error).replace("semantic_id.", f"{name}.ids.")) from error
