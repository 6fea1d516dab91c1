"""A training step that keeps the memory it frees against one that gives it back."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import training
from benchmarks.measure import Facts, Programs, Start, Turn, children, interleaved
from benchmarks.result import Claim, Result
from spurious.memory import keep_freed

WHAT = {"returned": "glibc's defaults", "kept": "freed memory is kept, as every stage does"}


def run(quick: bool) -> Result:
    n, maps, batch, steps, rounds = (16, 32, 8, 2, 1) if quick else (64, 1024, 32, 40, 10)
    arguments = (n, maps, batch, steps)
    starts = {name: Start(f"benchmarks.memory:{name}", "one", arguments) for name in WHAT}
    with children(starts) as c:
        turns = {name: Turn(c[name], "pipeline") for name in WHAT}
        timings = interleaved(turns, rounds, "memory")
        peaks = {name: c[name][0].peak_memory() for name in WHAT}
    ratio = float(np.median(np.divide(timings["kept"].wall, timings["returned"].wall)))
    processor = sum(timings["kept"].cpu) / sum(timings["returned"].cpu)
    rows: list[dict[str, Any]] = [
        {**timings[name].row(WHAT[name], steps), "peak GB": peaks[name]} for name in WHAT
    ]
    claim = Claim(
        f"training step that keeps freed memory over one that does not, batch {batch}",
        1.0,
        ratio,
        sense="at most",
    )
    return Result(
        f"A training step and the memory it frees, preset compact, {batch} maps of {n} x {n}",
        [claim],
        rows,
        [
            f"One thread each, batches from the pipeline, {steps} steps a call. The ratio is the "
            f"median over calls that follow each other; of processor time it is {processor:.2f}. "
            "What is saved is the system's time for mapping and clearing pages, dear on virtual "
            "machines.",
        ],
    )


def kept(n: int, maps: int, batch: int, steps: int) -> tuple[Programs, Facts]:
    """The step of `training`, in a process that keeps what it frees."""
    keep_freed()
    return training.ours(n, maps, batch, steps)


def returned(n: int, maps: int, batch: int, steps: int) -> tuple[Programs, Facts]:
    """The step of `training`, in a process with the C library's defaults."""
    return training.ours(n, maps, batch, steps)
