"""One simulation as a task, and its outcome.

An outcome depends only on its task, so maps do not depend on the worker.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

import numpy as np

from spurious import config
from spurious.cosmology import Cosmology
from spurious.simulation.engine import Engine, project, white_noise

# What a worker process is started with. TensorFlow reads the thread counts when it is imported,
# glibc its own tunables when the process starts: this is the place for both.
ENVIRONMENT: Mapping[str, str] = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True)
class Task:
    """One simulation: its number in the suite, its cosmology, the seed of its white noise."""

    index: int
    cosmology: Cosmology
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The result of a task.

    Attributes:
        index: number of the simulation.
        worker: name of the worker.
        seconds: time that it took.
        maps: (lines of sight, n, n) float32 counts; None if the density is not finite.
        field: (n, n, n) float32 density in units of the mean, if `fields` are kept.
        problem: why there are no maps.
    """

    index: int
    worker: str
    seconds: float
    maps: np.ndarray | None = None
    field: np.ndarray | None = None
    problem: str | None = None


class Workers(Protocol):
    """Simulates many tasks."""

    def outcomes(self, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """Yield the outcome of each task in any order; takes tasks only shortly before they begin.

        Closing the generator ends all work in progress.

        Raises:
            UserError: the work cannot go on; the message says what to do.
        """
        ...


def simulate(engine: Engine, task: Task, worker: str) -> Outcome:
    """Do one task. A density that is not finite is an outcome: a retry would give it again."""
    began = time.perf_counter()
    settings, cosmology = engine.settings, task.cosmology
    density = engine.density(cosmology, white_noise(task.seed, settings.n_cells))
    maps = np.stack([project(density, axis) for axis in settings.axes])
    seconds = time.perf_counter() - began
    if not np.isfinite(maps).all():
        problem = (
            f"simulation {task.index}: the density is not finite at omega_m = "
            f"{cosmology.omega_m}, sigma_8 = {cosmology.sigma_8}, seed = {task.seed}"
        )
        return Outcome(task.index, worker, seconds, problem=problem)
    return Outcome(task.index, worker, seconds, maps, density if settings.fields else None)


def versions(settings: config.Simulation) -> dict[str, str]:
    """Versions of the packages that determine maps."""
    packages = ["spurious", "tensorflow", "camb", "numpy"]
    if settings.engine == "flowpm":
        packages.append("flowpm")
    return {package: metadata.version(package) for package in packages}
