"""What preparing a log costs, up to the size of RecIF: 200,000 users, 15 million items, 120 million interactions.

    python -m benchmarks.prepare --folder /tmp/prepare --sizes 1000000 120000000

A log is drawn for each size, with users and items in proportion, and written as parquet to the folder, where it stays
for the next run (4 GB at full size, and as much again for the corpus). Users' activity is log-normal, items are chosen
by a power law, the file is in the order of time with users mixed, one row in ten out of order, ids are large numbers
without order, and there are five feedback columns at RecIF's rates. Then the stage `prepare` runs on it in a process of
its own, started once per repetition; the start of Python and its imports, alike for all sizes, are not in the seconds.
Drawing the log is not timed. A second process loads the corpus, as sft and rl do, and looks up the rewards of 1,000
contexts.

With --recif the log lies in RecIF-Bench's own files (benchmarks/recif_log.py), and its tasks, captions and counts are
prepared as well.

The last line is one JSON object: seconds and peak memory of the largest log, and what an interaction of it costs over
what one of the smallest costs (each the median of its repetitions).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from benchmarks import recif_log

ROOT = Path(__file__).parents[1]
FULL, USERS, ITEMS = 120_000_000, 200_000, 15_000_000
RATES = {"longview": 0.24, "like": 0.017, "follow": 0.004, "forward": 0.003, "not_interested": 0.0006}
BLOCK = 1 << 20
DATASET = "log"


def ids(numbers: np.ndarray) -> np.ndarray:
    """Large numbers without order, one for each number below 2^61."""
    return ((numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(3)).astype(np.int64)


def draw_items(path: Path, count: int) -> None:
    """The catalogue: titles of four words or so, a brand in three of four, two levels of categories."""
    fields = {"item_id": pa.int64(), "title": pa.string(), "brand": pa.string(), "categories": pa.list_(pa.string())}
    with pq.ParquetWriter(path, pa.schema(fields.items())) as writer:
        for start in range(0, count, BLOCK):
            numbers = np.arange(start, min(start + BLOCK, count))
            text = pa.array(numbers).cast(pa.string())
            brand = pc.binary_join_element_wise("brand", pa.array(numbers % 997).cast(pa.string()), " ")
            brand = pc.if_else(pa.array(numbers % 4 > 0), brand, pa.scalar(None, pa.string()))
            leaves = pc.binary_join_element_wise("class", pa.array(numbers % 61).cast(pa.string()), " ")
            entries = pa.chunked_array([pa.array(["root"] * len(numbers)), leaves]).combine_chunks()
            order = np.stack([np.arange(len(numbers)), np.arange(len(numbers)) + len(numbers)], 1).ravel()
            offsets = np.arange(0, 2 * len(numbers) + 1, 2, dtype=np.int32)
            lists = pa.ListArray.from_arrays(pa.array(offsets), entries.take(pa.array(order)))
            title = pc.binary_join_element_wise("a product of number", text, " ")
            writer.write_table(pa.table([pa.array(ids(numbers)), title, brand, lists], schema=writer.schema))


def draw_log(path: Path, size: int, users: int, items: int) -> None:
    """The log, a block at a time."""
    draw = np.random.default_rng(1)
    activity = np.cumsum(draw.lognormal(0, 1, users))
    fields = {"user_id": pa.int64(), "item_id": pa.int64(), "timestamp": pa.int64()}
    with pq.ParquetWriter(path, pa.schema([*fields.items(), *((name, pa.int8()) for name in RATES)])) as writer:
        for start in range(0, size, BLOCK):
            count = min(BLOCK, size - start)
            user = np.searchsorted(activity, draw.random(count) * activity[-1])
            item = (items * draw.random(count) ** 3).astype(np.int64)
            stamp = 1_700_000_000 + (np.arange(start, start + count) * (90 * 86_400)) // size
            late = draw.random(count) < 0.1
            stamp[late] -= draw.integers(3_600, size=int(late.sum()))
            carried = [(draw.random(count) < rate).astype(np.int8) for rate in RATES.values()]
            writer.write_table(pa.table([ids(user), ids(item), stamp, *carried], schema=writer.schema))


def project(folder: Path, size: int, k_core: int, recif: bool) -> Path:
    """A folder with graph and code, params.yaml and a raw log of this size."""
    root = folder / (f"recif-{size}" if recif else f"{size}")
    raw = root / "data" / DATASET / "raw"
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    own = {"source": "local", "path": str(raw), "k_core": k_core, "repeats": "keep", "category_level": 2}
    own["feedback"] = {name: {"rule": "flag"} for name in RATES}
    own["objectives"] = dict.fromkeys(RATES, 1.0)
    shipped = values["corpora"]
    shipped[DATASET] = {**shipped["recif"], "path": str(raw)} if recif else {**shipped["ml-100k"], **own}
    raw.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.copy(ROOT / "dvc.yaml", root / "dvc.yaml")
    if not (root / "stages").exists():
        (root / "stages").symlink_to(ROOT / "stages", target_is_directory=True)
    if recif and not (raw / recif_log.RELEASE).exists():
        say(f"drawing {size:,} interactions in RecIF's files")
        recif_log.draw(raw, size)
    elif not recif and not (raw / "interactions.parquet").exists():
        say(f"drawing {size:,} interactions")
        share = size / FULL
        draw_items(raw / "items.parquet", max(1_000, round(ITEMS * share)))
        draw_log(raw / ".part", size, max(100, round(USERS * share)), max(1_000, round(ITEMS * share)))
        (raw / ".part").rename(raw / "interactions.parquet")
    return root


def timed(root: Path, what: str) -> tuple[float, int, float]:
    """Seconds inside, peak memory, bytes, and seconds of CPU, imports included, of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.prepare", "--inside", what]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{what} failed in {root}")
    return float(said.splitlines()[-1]), used.ru_maxrss * 1024, used.ru_utime + used.ru_stime


def inside(what: str) -> None:
    """What the process does, in its folder."""
    from stages import prepare
    from stages.core import params, paths
    from stages.corpus import histories, local, recif  # noqa: F401 - loaded by name
    from stages.rewards.environment import LoggedFeedback

    params.load()  # which imports all optimizers
    started = time.perf_counter()
    if what == "prepare":
        prepare.main(DATASET)
    else:
        log = histories.load(paths.corpus(DATASET))
        users = np.flatnonzero(log.train_length > 20)[:1_000]
        contexts = np.stack([users, log.train_length[users] - 10], axis=1)
        slates = np.random.default_rng(1).integers(log.item_count, size=(len(users), 16, 10))
        rewards = LoggedFeedback(log, dict.fromkeys(RATES, 1.0), 5, np.zeros((1, 1))).rewards(contexts, slates)
        assert rewards.shape == (len(users), 16, len(RATES))
    print(time.perf_counter() - started)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("prepare-benchmark"), help="of logs and corpora")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1_000_000, FULL], help="interactions (1 and 120 million)"
    )
    parser.add_argument("--repeat", type=int, default=7, help="times for logs of up to 10 million (7)")
    parser.add_argument("--k-core", type=int, default=5, help="(5)")
    parser.add_argument("--recif", action="store_true", help="the log in RecIF-Bench's files")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        inside(chosen.inside)
        return
    cost, seconds, peak = [], 0.0, 0
    for size in sorted(chosen.sizes):
        root = project(chosen.folder.resolve(), size, chosen.k_core, chosen.recif)
        runs = [timed(root, "prepare") for _ in range(chosen.repeat if size <= 10_000_000 else 1)]
        seconds, peak = statistics.median(run[0] for run in runs), max(run[1] for run in runs)
        cost.append(seconds / size)
        used = f"peak {peak / 2**30:.2f} GiB, CPU {runs[-1][2]:.1f} s with imports"
        say(f"{size:,}: {seconds:.1f} s, {cost[-1] * 1e6:.2f} us each, {used}")
        loading, memory, _ = timed(root, "load")
        say(f"{size:,}: loaded, and rewards of 1,000 contexts, in {loading:.1f} s, peak {memory / 2**30:.2f} GiB")
        shutil.rmtree(root / "data" / DATASET / "corpus")
    ratio = cost[-1] / cost[0]
    print(
        json.dumps({"seconds": round(seconds, 1), "peak_rss_bytes": peak, "cost_ratio_120m_over_1m": round(ratio, 3)})
    )


if __name__ == "__main__":
    main()
