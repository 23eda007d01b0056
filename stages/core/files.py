"""Write once, atomically: what stands under its name is whole."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DIGITS = 6  # significant digits of a float in metrics and curves, so that a diff shows a change and not noise


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Give a scratch folder that takes the place of `path` when the block ends well, and vanishes when it does not."""
    new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        scratch.rename(path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        if new:
            with suppress(OSError):
                path.parent.rmdir()
        raise


@contextmanager
def fresh_file(path: Path) -> Iterator[Path]:
    """Give a scratch file name that takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        yield scratch
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def rounded(value: Any) -> Any:
    """Round the floats of a JSON value to DIGITS significant digits; NaN and infinities become null."""
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def write_json(path: Path, value: Any) -> None:
    """Write sorted JSON with rounded floats."""
    with fresh_file(path) as scratch:
        scratch.write_text(json.dumps(rounded(value), indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file whose bytes depend on the table alone."""
    with fresh_file(path) as scratch:
        pq.write_table(table, scratch, compression="zstd")
