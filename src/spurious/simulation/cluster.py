"""Workers of a Dask cluster: one that is running, or one that SLURM starts for us.

Needs `spurious[cluster]`, and the same environment on all machines, the scheduler's included. A
worker that dies costs a retry, which Dask does itself.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from distributed import CancelledError, Client, Future, get_worker
from distributed.scheduler import KilledWorker

from spurious import config
from spurious.errors import UserError
from spurious.simulation.engine import Engine, make_engine
from spurious.simulation.tasks import ENVIRONMENT, Outcome, Task, Workers, simulate, versions

logger = logging.getLogger(__name__)

PATIENCE = 10  # seconds for a scheduler to answer
LOOK = 5.0  # seconds between two looks at the cluster
ALONE = 60.0  # seconds without any worker before it is said
AHEAD = 2  # tasks in flight for each thread of the cluster, so that none waits for us
LEAST = 32  # tasks in flight, for workers that are still to come

Names = set[str]


@contextmanager
def open_cluster(
    place: config.Dask | config.Slurm, settings: config.Simulation, folder: Path
) -> Iterator[Workers]:
    """The workers of a cluster, for as long as the block lasts.

    Args:
        place: `execution.workers` of params.yaml.
        settings: of the simulations.
        folder: for the logs of SLURM jobs.

    Raises:
        UserError: no scheduler answers, or SLURM takes no job.
    """
    if isinstance(place, config.Dask):
        with _client(place.scheduler) as client:
            yield DaskWorkers(settings, client, place.scheduler)
        return
    from spurious.simulation import slurm  # its library is not needed on the workers

    with slurm.open_jobs(place, folder) as jobs:
        address = jobs.cluster.scheduler_address
        with Client(address, timeout=PATIENCE, set_as_default=False) as client:
            yield DaskWorkers(settings, client, address, jobs.look)


@dataclass(frozen=True)
class DaskWorkers:
    """Simulates on a Dask cluster.

    Attributes:
        settings: of the simulations.
        client: of the cluster.
        address: of its scheduler, for messages.
        look: called every few seconds with the names of the workers that are connected.
    """

    settings: config.Simulation
    client: Client
    address: str
    look: Callable[[Names], None] = lambda names: None

    def outcomes(self, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """See `spurious.simulation.tasks.Workers`."""
        waiting = iter(tasks)
        ended: SimpleQueue[Future] = SimpleQueue()
        in_flight: dict[Any, tuple[Future, Task]] = {}
        try:
            with _Watch(self.client, self.look) as watch:
                while True:
                    for task in islice(waiting, max(0, watch.room - len(in_flight))):
                        with self._connected():
                            future = self.client.submit(_work, self.settings, task, pure=False)
                        in_flight[future.key] = future, task
                        future.add_done_callback(ended.put)
                    if not in_flight:
                        return
                    batch = [in_flight.pop(future.key) for future in _batch(ended)]
                    with self._connected():
                        results = self._collect(batch)
                    yield from results
        finally:
            if self.client.status == "running":
                self.client.cancel([future for future, _ in in_flight.values()])

    def _collect(self, batch: list[tuple[Future, Task]]) -> list[Outcome]:
        for future, task in batch:
            if future.status == "error":
                self._explain(future, task)
        outcomes = []
        for theirs, outcome in self.client.gather([future for future, _ in batch]):
            if theirs != (ours := versions(self.settings)):
                raise UserError(f"worker {outcome.worker} has {theirs}, but here are {ours}")
            outcomes.append(outcome)
        return outcomes

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Say in one line that the scheduler is lost, which cancels all that it was to do."""
        try:
            yield
        except (OSError, CancelledError) as error:
            raise UserError(
                f"the connection to the scheduler {self.address} was lost: "
                "run again to go on from the last finished shard"
            ) from error

    def _explain(self, future: Future, task: Task) -> None:
        """Raise what went wrong, in one line where it is known."""
        error = future.exception()
        if isinstance(error, KilledWorker):
            raise UserError(
                f"{error.allowed_failures + 1} workers died in simulation {task.index}, perhaps "
                "for want of memory: run again to go on from the last finished shard"
            ) from error
        for cause in (error, getattr(error, "__cause__", None)):
            if isinstance(cause, ModuleNotFoundError):
                raise UserError(
                    f"on the cluster: {cause}: scheduler and workers need the same environment as "
                    "this process"
                ) from error
        raise error


class _Watch:
    """Looks at a cluster every few seconds.

    In a thread, because we may be waiting for a result that died with its worker, and that comes
    only when a job that ended is replaced.

    Attributes:
        room: how many tasks may be in flight.
    """

    def __init__(self, client: Client, look: Callable[[Names], None]) -> None:
        self.room = LEAST
        self._client, self._look = client, look
        self._seen = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                workers = self._client.scheduler_info()["workers"].values()
                self.room = max(LEAST, AHEAD * sum(worker["nthreads"] for worker in workers))
                self._warn(bool(workers))
                self._look({str(worker["name"]) for worker in workers})
            except OSError:
                pass  # a lost scheduler cancels the tasks, which is reported then
            except Exception as error:
                logger.warning("the cluster: %s", " ".join(str(error).split()))
            self._stop.wait(LOOK)

    def _warn(self, workers: bool) -> None:
        now = time.monotonic()
        if workers:
            self._seen = now
        elif now - self._seen > ALONE:
            logger.warning("no worker is connected to the scheduler: waiting")
            self._seen = now


def _batch(ended: SimpleQueue[Future]) -> list[Future]:
    """The futures that have ended; none if none does within a few seconds."""
    batch = []
    with suppress(Empty):
        batch.append(ended.get(timeout=LOOK))
        while True:
            batch.append(ended.get_nowait())
    return batch


def _work(settings: config.Simulation, task: Task) -> tuple[dict[str, str], Outcome]:
    """One task, on a worker of the cluster; and the versions that it was done with."""
    return versions(settings), simulate(_engine(settings), task, f"dask-{get_worker().name}")


@lru_cache(maxsize=1)
def _engine(settings: config.Simulation) -> Engine:
    """One engine a worker process; TensorFlow, imported here, reads the thread counts."""
    os.environ.update(ENVIRONMENT)
    return make_engine(settings)


@contextmanager
def _client(address: str) -> Iterator[Client]:
    reason = None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
    if reason is not None:
        # What was half made of the client closes itself when it is collected. If that were while
        # the next one starts, each would wait for the other.
        gc.collect()
        raise UserError(
            f"execution.workers.scheduler = {address!r}: must be the address of a running "
            f"Dask scheduler, such as tcp://head:8786 ({reason})"
        )
    with client:
        yield client
