"""Fetch a data set's files as its source publishes them: data/<dataset>/raw.

Nothing is read or changed here beyond the check that the files are there, and those that are pinned the right ones;
`prepare` reads them. The source, a module of stages/corpus, is named by corpora.<dataset>.source in params.yaml.

    python -m stages.download --dataset ml-100k
"""

from stages.core import params, paths, stage
from stages.core.files import fresh_folder


def main(dataset: str) -> None:
    settings = params.load().corpus(dataset)
    source = params.load_module("corpus", settings.source, f"corpora.{dataset}.source")
    stage.log.info("%s: fetching from source %s", dataset, settings.source)
    with fresh_folder(paths.raw(dataset)) as folder:
        source.download(settings, folder)
        files = sorted(folder.iterdir())
        for file in files:
            size = sum(part.stat().st_size for part in [file, *file.rglob("*")] if part.is_file())
            stage.log.info("%s: %s, %s bytes", dataset, file.name, f"{size:,}")


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset")
