"""SAGE as a graph of DVC stages, from raw data to the paper's tables.

    download ─ prepare ─┬─ tokenize ─┬─ sft ── rl ── recommend ── evaluate ─┐
                        ├─ render ───┘                                      ├─ tabulate
                        └─ baseline, sequential, generative ── evaluate_.. ─┘

Modules in this folder are the stages, `python -m stages.rl --help`, and `show`, which looks at what they made. Folders
are libraries: they import no stage, read no params and know no paths. dvc.yaml wires the stages, and params.yaml holds
every number.
"""

import os

# Read once, when the first library with OpenMP loads. Threads that wait must soon sleep: on two cores, spinning threads
# of two processes slow each other 5 to 30 times. A short spin (GNU's OpenMP, which torch has on Linux) spares most of
# the waking: a step of SFT takes 0.7 of its time alone, and 1.15 of it beside a second such process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
PROCESSES = os.environ.get(
    "SAGE_PROCESSES", "1"
)  # which share the cores; stages/core/stage.py refuses what is no number
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, CORES // max(1, int(PROCESSES) if PROCESSES.isdecimal() else 1))))
# Large pages for torch's buffers: a training step on a CPU otherwise spends up to half its time on page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the bars of stages say what is going on
