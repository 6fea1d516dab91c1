"""What a worker costs before its first map, and how much memory it holds."""

from __future__ import annotations

import multiprocessing
import statistics
import time

import numpy as np

from benchmarks import box
from benchmarks.measure import Start, children, peak_memory
from benchmarks.result import Claim, Result
from spurious.simulation.growth import leapfrog
from spurious.simulation.tasks import Task
from spurious.simulation.workers import Processes


def run(quick: bool) -> Result:
    n, repeats, simulations = (16, 1, 3) if quick else (64, 3, 20)
    workers = [_worker(n, simulations) for _ in range(repeats)]
    with children({"ours": Start("benchmarks.box:ours", "one", (n,))}) as running:
        facts = running["ours"][0].facts
    first = statistics.median(seconds for seconds, _ in workers)
    memory = max(gigabytes for _, gigabytes in workers)
    return Result(
        "First call and memory of a worker",
        [
            Claim("fresh worker until its first map", 10, first, "s", "at most"),
            Claim("peak memory of a worker", 1.5, memory, "GB", "at most"),
            Claim("growth, kicks and drifts of the grid's Omega_m", 2, _growth(), "s", "at most"),
        ],
        [
            *(
                {"what": f"real worker {i}", "first map s": s, "peak GB": gb}
                for i, (s, gb) in enumerate(workers, start=1)
            ),
            {"what": "of it: import tensorflow", "first map s": facts["import_s"]},
            {"what": "of it: CAMB and growth", "first map s": facts["linear_power_s"]},
            {"what": "of it: compile and run", "first map s": facts["first_s"]},
        ],
        [
            "A real worker process of a suite, from its start to its first outcome; peak resident "
            f"memory after {simulations} simulations. The parts are of another process; what they "
            "leave is the start of Python and the imports of NumPy, SciPy and CAMB.",
        ],
    )


def _growth() -> float:
    """Seconds to solve for all growth, kick and drift factors of the paper's eleven Omega_m."""
    began = time.perf_counter()
    for omega_m in np.linspace(0.05, 0.55, 11):
        leapfrog(float(omega_m), np.linspace(0.1, 1.0, 10))
    return time.perf_counter() - began


def _worker(n: int, simulations: int) -> tuple[float, float]:
    """Seconds until a fresh worker's first outcome, and its peak memory in GB at the end."""
    others = {process.pid for process in multiprocessing.active_children()}
    began = time.perf_counter()
    tasks = [Task(i, box.PLANCK, i) for i in range(simulations)]
    outcomes = Processes(box.settings(n), 1).outcomes(iter(tasks))
    next(outcomes)
    first = time.perf_counter() - began
    for _ in range(simulations - 2):
        next(outcomes)
    worker = {process.pid for process in multiprocessing.active_children()} - others
    memory = max(peak_memory(pid) for pid in worker if pid)
    outcomes.close()
    return first, memory
