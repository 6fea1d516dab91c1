"""A preview of a suite: a few of its maps, and an estimate of the time for all."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from spurious.errors import UserError
from spurious.simulation.design import spread
from spurious.simulation.suite import Suite
from spurious.simulation.tasks import Outcome, Task
from spurious.simulation.workers import Processes


@dataclass(frozen=True)
class Preview:
    """A few maps of a suite, and the times measured while making them.

    Attributes:
        maps: (n, N, N) counts, along the first line of sight.
        labels: (n, 2) Omega_m and sigma_8.
        start: seconds from nothing to the first map: imports and compilation.
        each: seconds per simulation, on one thread.
        new: additional seconds for the linear power of an Omega_m that a worker has not met.
    """

    maps: np.ndarray
    labels: np.ndarray
    start: float
    each: float
    new: float

    def estimate(self, nodes: np.ndarray, simulations: int, workers: int) -> float:
        """Seconds for a whole suite if workers did not slow each other down."""
        omega_m = len(np.unique(nodes[:simulations, 0]))
        extra = self.new * min(omega_m * workers, simulations)
        return self.start + (self.each * simulations + extra) / workers


def preview(suite: Suite, count: int) -> Preview:
    """Make up to `count` maps of a suite, spread over its design, by one worker process.

    Raises:
        UserError: a field is not finite, or the worker died.
    """
    rows = spread(suite.nodes[: suite.settings.simulations], count)
    tasks = [suite.task(int(row)) for row in rows]
    settings = suite.settings.model_copy(update={"fields": False})
    outcomes: list[Outcome] = []
    began, start = time.perf_counter(), 0.0
    # Twice: the second time, nothing is compiled any more and no linear power is new.
    with closing(Processes(settings, 1).outcomes([*tasks, *tasks])) as made:
        for outcome in made:
            if outcome.problem:
                raise UserError(outcome.problem)
            outcomes.append(outcome)
            start = start or time.perf_counter() - began
    first, again = outcomes[: len(tasks)], outcomes[len(tasks) :]
    each = float(np.median([outcome.seconds for outcome in again]))
    return Preview(
        maps=np.stack([outcome.maps[0] for outcome in first if outcome.maps is not None]),
        labels=suite.nodes[rows],
        start=start,
        each=each,
        new=max(0.0, _seconds_where_new(tasks, first) - each),
    )


def _seconds_where_new(tasks: list[Task], outcomes: list[Outcome]) -> float:
    """Median over the simulations whose Omega_m had not come before, the very first left out."""
    seen = {tasks[0].cosmology.omega_m}
    seconds = []
    for task, outcome in zip(tasks, outcomes, strict=True):
        if task.cosmology.omega_m not in seen:
            seconds.append(outcome.seconds)
            seen.add(task.cosmology.omega_m)
    return float(np.median(seconds)) if seconds else 0.0
