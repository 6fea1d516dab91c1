"""Workers that simulate: this process, spawned processes on this machine, or a cluster.

All of them are `Workers`: they take tasks and yield outcomes in any order.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeAlias

from spurious import config
from spurious.errors import UserError
from spurious.simulation.engine import Engine, make_engine
from spurious.simulation.tasks import ENVIRONMENT, Outcome, Task, Workers, simulate

logger = logging.getLogger(__name__)

Place: TypeAlias = config.Local | config.Dask | config.Slurm

MOST_WORKERS = 16  # when their number is left to us
DEATHS = 3  # of workers, in one simulation, before it is given up
AHEAD = 2  # tasks a worker holds, so that it need not wait while a shard is written


@contextmanager
def open_workers(place: Place, settings: config.Simulation, folder: Path) -> Iterator[Workers]:
    """The workers that `place` names, for as long as the block lasts.

    Args:
        place: `execution.workers` of params.yaml.
        settings: of the simulations.
        folder: for the logs of batch jobs.

    Raises:
        UserError: a cluster cannot be reached, or Dask is not installed.
    """
    if isinstance(place, config.Local):
        count = local_count(place)
        yield ThisProcess(settings) if count == 1 else Processes(settings, count)
        return
    try:
        from spurious.simulation import cluster
    except ModuleNotFoundError as error:
        raise UserError(
            f"execution.workers.kind = {place.kind!r}: {str(error.name).split('.')[0]} is missing; "
            "install it with: pip install 'spurious[cluster]'"
        ) from error
    with cluster.open_cluster(place, settings, folder) as workers:
        yield workers


def local_count(place: config.Local) -> int:
    """Number of local workers: as asked for, or one a core that this process may use."""
    if place.workers is not None:
        return place.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MOST_WORKERS)


def expected_count(place: Place) -> int | None:
    """The number of workers; None if only the cluster knows."""
    if isinstance(place, config.Local):
        return local_count(place)
    return place.jobs * place.workers_per_job if isinstance(place, config.Slurm) else None


@dataclass(frozen=True)
class ThisProcess:
    """Simulates in this process, one simulation after another."""

    settings: config.Simulation

    def outcomes(self, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """See `Workers`."""
        engine: Engine | None = None
        for task in tasks:
            engine = engine or make_engine(self.settings)
            yield simulate(engine, task, "this process")


@dataclass(frozen=True)
class Processes:
    """Spawned processes of one thread each; one that dies is replaced and its work repeated."""

    settings: config.Simulation
    count: int

    def outcomes(self, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """See `Workers`."""
        waiting = _Queue(tasks)
        processes: list[_Process] = []
        deaths: Counter[int] = Counter()
        try:
            while self._deal(waiting, processes):
                ready = set(wait([process.connection for process in processes]))
                for process in [p for p in processes if p.connection in ready]:
                    outcome = process.outcome()
                    if outcome is not None:
                        yield outcome
                    else:
                        processes.remove(process)
                        waiting.put_back(process.tasks)
                        self._died(process, deaths)
        finally:
            for process in processes:
                process.process.terminate()
            for process in processes:
                process.join()

    def _deal(self, waiting: _Queue, processes: list[_Process]) -> bool:
        """Give tasks to processes, the idlest first; False if nothing is left to do."""
        while True:
            free = min(processes, key=lambda process: len(process.tasks), default=None)
            start = len(processes) < self.count and (free is None or bool(free.tasks))
            if not start and (free is None or len(free.tasks) >= AHEAD):
                return True
            task = waiting.get()
            if task is None:
                return any(process.tasks for process in processes)
            if start or free is None:
                numbers = {process.number for process in processes}
                number = next(n for n in range(1, self.count + 1) if n not in numbers)
                free = _Process.start(self.settings, number)
                processes.append(free)
            free.give(task)

    def _died(self, process: _Process, deaths: Counter[int]) -> None:
        """Warn of a dead worker, or give up if one simulation killed too many."""
        how = process.join()
        if not process.tasks:  # idle: nobody's fault, and nothing to be done again
            return
        index = process.tasks[0].index
        deaths[index] += 1
        if deaths[index] >= DEATHS:
            raise UserError(
                f"a simulation worker died {DEATHS} times in simulation {index}, at last {how}, "
                "perhaps for want of memory: run again to go on from the last finished shard, "
                f"if need be with fewer than {self.count} workers"
            )
        logger.warning(
            "worker %s died (%s) in simulation %d: another one does it again",
            process.name,
            how,
            index,
        )


class _Queue:
    """Tasks in order; those put back come first."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._new = iter(tasks)
        self._again: deque[Task] = deque()

    def get(self) -> Task | None:
        return self._again.popleft() if self._again else next(self._new, None)

    def put_back(self, tasks: Iterable[Task]) -> None:
        self._again.extend(tasks)


@dataclass
class _Process:
    """A spawned worker, our end of its pipe, and the tasks that it holds."""

    number: int
    process: BaseProcess
    connection: Connection
    tasks: deque[Task] = field(default_factory=deque)

    @classmethod
    def start(cls, settings: config.Simulation, number: int) -> _Process:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(settings, f"local-{number}", theirs), daemon=True
        )
        with _environment(ENVIRONMENT):
            process.start()
        theirs.close()  # else the line would not break when the worker dies
        return cls(number, process, ours)

    @property
    def name(self) -> str:
        return f"local-{self.number} (process {self.process.pid})"

    def give(self, task: Task) -> None:
        self.tasks.append(task)
        with suppress(OSError):  # dead: the next look at the line says so
            self.connection.send(task)

    def outcome(self) -> Outcome | None:
        """What it sent; None if it died."""
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, Exception):
            raise answer
        self.tasks.popleft()
        return answer

    def join(self) -> str:
        """Wait a while for an ending process, then kill it; return how it ended."""
        self.connection.close()
        self.process.join(10)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"status {code}"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes that the block starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(settings: config.Simulation, name: str, line: Connection) -> None:
    """The loop of a worker process: do what comes down the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        engine = make_engine(settings)
        while True:
            line.send(simulate(engine, line.recv(), name))
    except (EOFError, BrokenPipeError):
        return
    except UserError as error:
        line.send(error)
    except Exception:
        line.send(RuntimeError(f"in worker {name}: {traceback.format_exc()}"))


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
