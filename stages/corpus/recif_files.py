"""RecIF-Bench's files: which there are, where they come from, and what their columns have to be.

The set is gated: the hub wants an account that accepted its terms, and a token of it in HF_TOKEN or from `hf auth
login`. A folder with the files as published serves as well: corpora.<name>.path, or else RECIF_DIR.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import get_token, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from stages.core.corpora import Corpus, Recif
from stages.core.errors import InputError
from stages.core.stage import log
from stages.corpus.tables import listed, plain_kind, unreadable

NAME_IT = "name the folder that holds the published files, by corpora.<name>.path or RECIF_DIR"
FOLDER, TOKEN, MIRROR = "RECIF_DIR", "HF_TOKEN", "HF_ENDPOINT"
RELEASE = "onerec_bench_release.parquet"
PHOTO_SIDS, PRODUCT_SIDS, CAPTIONS = "video_ad_pid2sid.parquet", "product_pid2sid.parquet", "pid2caption.parquet"
PHOTO_COUNTS, PRODUCT_COUNTS = "benchmark_data/sid2pid.json", "benchmark_data/sid2iid.json"
TASKS = ("video", "ad", "product", "label_cond", "interactive", "label_pred")
TESTS = {task: f"benchmark_data/{task}/{task}_test.parquet" for task in TASKS}
FILES = (RELEASE, PHOTO_SIDS, PRODUCT_SIDS, CAPTIONS, PHOTO_COUNTS, PRODUCT_COUNTS, *TESTS.values())


def fetch(settings: Corpus, into: Path) -> None:
    """Bring the files: from the user's folder if one is named, otherwise from the hub. Raises InputError."""
    assert settings.recif is not None, "params.yaml is checked"
    own = own_folder(settings)
    source = own or _from_hub(settings.recif)
    demand(source, NAME_IT if own else "the repository lacks them; correct corpora.<name>.recif.repository")
    for name in FILES:
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, into / name)


def own_folder(settings: Corpus) -> Path | None:
    """The user's folder with the files, if one is named."""
    named = settings.path or os.environ.get(FOLDER)
    return Path(named) if named else None


def demand(folder: Path, otherwise: str) -> None:
    """Hold a folder to the published files: all there, none cut off. Raises InputError that names every fault.

    otherwise: what to do where nothing of it is there.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not folder.is_dir() or len(missing) == len(FILES):
        what = "none of RecIF's files is there" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {what} (seen from {Path.cwd()}), {RELEASE} first of all; {otherwise}")
    parts = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.incomplete"))
    if missing:
        begun = f"; begun and not finished: {', '.join(parts)}" if parts else ""
        raise InputError(
            f"{folder}: a partial download: {', '.join(missing)} missing{begun}. Run it again, it goes on where it "
            "stopped; or copy the published files there"
        )
    for name in FILES:
        if name.endswith(".parquet"):
            opened(folder / name).close()
        elif (folder / name).stat().st_size < 2:
            raise InputError(f"{folder / name}: empty, a partial download; fetch it again")


def opened(path: Path) -> pq.ParquetFile:
    """A parquet file. Raises InputError where it is damaged, such as by a download that was cut off."""
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run the download stage") from error
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def demand_columns(file: pq.ParquetFile, path: Path, names: Sequence[str]) -> dict[str, pa.DataType]:
    """The types of a file's columns. Raises InputError where one is missing: another version of the set."""
    kinds = {field.name: plain_kind(field.type) for field in file.schema_arrow}
    if missing := [name for name in names if name not in kinds]:
        raise InputError(
            f"{path}: another version of the schema: no column {', '.join(missing)}; {listed(kinds)}. Fetch the "
            "revision that stages/corpus/recif_files.py reads, or name the columns as there"
        )
    return kinds


def demand_kind(path: Path, name: str, found: pa.DataType, allowed: bool, wanted: str) -> None:
    """Raise InputError where a column is of another type than the published one."""
    if not allowed:
        raise InputError(f"{path}: another version of the schema: column '{name}' is {found}, it has to be {wanted}")


def _from_hub(settings: Recif) -> Path:
    """The hub's own cache with the files, which goes on with a download that was cut off."""
    where, token = f"hub data set {settings.repository}", get_token()
    if not token:
        raise InputError(
            f"{where}: it is gated, and {TOKEN} holds no token; accept its terms on its page, make a token that may "
            f"read, and set {TOKEN} or run `hf auth login`; or name a folder with the files by corpora.<name>.path or "
            f"{FOLDER}"
        )
    if settings.revision is None:
        log.warning("%s: corpora.<name>.recif.revision is null, so the newest commit is taken", where)
    try:
        found = snapshot_download(
            settings.repository,
            repo_type="dataset",
            revision=settings.revision,
            token=token,
            endpoint=os.environ.get(MIRROR),
            allow_patterns=list(FILES),
        )
    except GatedRepoError as error:
        raise InputError(
            f"{where}: the token's account has not accepted the terms, or waits for leave; open the page of the data "
            "set with that account, accept them, and run again"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{where}: no such revision; correct corpora.<name>.recif.revision") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{where}: not found by this token: check corpora.<name>.recif.repository, and that the token is valid and "
            "may read gated sets"
        ) from error
    except Exception as error:  # what a broken connection raises differs between versions of the hub's client
        said = " ".join(str(error).split())
        raise InputError(
            f"{where}: no connection, or a partial download ({said}); run it again, it goes on where it stopped, or "
            f"name a folder with the files by corpora.<name>.path or {FOLDER}"
        ) from error
    return Path(found)
