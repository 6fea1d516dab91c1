"""Timing competitors fairly: each in its own process, in turns, warm.

A factory, named by a string such as "benchmarks.force:ours", is called once in a fresh process
and returns the programs to time, by name. It loads what it needs inside, after the process has
been given its threads.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import psutil

from spurious.progress import Bar, track
from spurious.simulation.tasks import ENVIRONMENT

Threads = Literal["one", "all"]
Programs: TypeAlias = dict[str, Callable[[], Any]]  # what is timed, by name
Facts: TypeAlias = dict[str, Any]  # what else is found out

# The one difference between one thread and all cores; the rest of the workers' environment, such
# as the allocator's settings, all competitors get.
THREADS = {name: value for name, value in ENVIRONMENT.items() if name.endswith("_THREADS")}
COMMON = {name: value for name, value in ENVIRONMENT.items() if name not in THREADS}
CPU_ONLY = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class Timing:
    """Wall and processor seconds of repeated calls."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median wall seconds."""
        return float(np.median(self.wall))

    @property
    def minimum(self) -> float:
        """Least wall seconds."""
        return min(self.wall)

    def row(self, what: str, per: int = 1) -> dict[str, Any]:
        """A row of a table; `per` simulations, or other units of work, a call."""
        return {
            "what": what,
            "median ms": 1e3 * self.median / per,
            "min ms": 1e3 * self.minimum / per,
            "cores used": sum(self.cpu) / sum(self.wall),
            "calls": len(self.wall),
        }


class Start(NamedTuple):
    """Processes to start: what they do, with how many threads, how many of them at once."""

    factory: str
    threads: Threads
    arguments: tuple[Any, ...]
    processes: int = 1
    accelerator: bool = False


class Child:
    """A fresh process that holds programs and times them when told to.

    Attributes:
        facts: what the factory found out while it prepared the programs.
    """

    def __init__(self, start: Start) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(start.factory, start.arguments, theirs), daemon=True
        )
        extra = THREADS if start.threads == "one" else {}
        hidden = {} if start.accelerator else CPU_ONLY
        unset = () if start.threads == "one" else tuple(THREADS)
        with _environment({**COMMON, **extra, **hidden}, unset):
            self._process.start()
        theirs.close()
        self.facts: Facts = {}

    def ready(self) -> Child:
        """Wait until the factory is done."""
        self.facts = self._receive()
        return self

    def begin(self, program: str, repeats: int) -> None:
        """Start to time calls of a program; `end` collects them."""
        self._line.send((program, repeats))

    def end(self) -> Timing:
        """The calls that `begin` started."""
        return self._receive()

    def peak_memory(self) -> float:
        """Most memory that the process has held until now, in GB."""
        return peak_memory(self._process.pid or 0)

    def close(self) -> None:
        """End the process."""
        self._line.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()

    def _receive(self) -> Any:
        try:
            answer = self._line.recv()
        except EOFError:
            self._process.join(5)
            raise RuntimeError(
                f"a benchmark process ended early, exit code {self._process.exitcode}"
            ) from None
        if isinstance(answer, str):
            raise RuntimeError(f"in a benchmark process:\n{answer}")
        return answer


class Turn(NamedTuple):
    """A competitor: a program in one process or, side by side, in several."""

    children: Sequence[Child]
    program: str
    repeats: int = 1


@contextmanager
def children(starts: Mapping[str, Start]) -> Iterator[dict[str, list[Child]]]:
    """Processes by name, ended with the block; those of one name are prepared side by side."""
    with ExitStack() as stack:
        running: dict[str, list[Child]] = {}
        for name, start in track(starts.items(), "start", unit="competitor"):
            running[name] = [Child(start) for _ in range(start.processes)]
            for child in running[name]:
                stack.callback(child.close)
            for child in running[name]:
                child.ready()
        yield running


def interleaved(turns: Mapping[str, Turn], rounds: int, label: str) -> dict[str, Timing]:
    """Time competitors in turns, so that a busy spell of the machine meets all of them.

    Of programs that run side by side, the time is from the start of the first call to the end of
    the last one, over the calls of one process.
    """
    timings = {name: Timing() for name in turns}
    with Bar(total=rounds * len(turns), name=label) as bar:
        for _ in range(rounds):
            for name, turn in turns.items():
                bar.note = name
                new = _timed(turn)
                timings[name].wall += new.wall
                timings[name].cpu += new.cpu
                bar.update()
    return timings


def peak_memory(pid: int) -> float:
    """Most memory that a process has held, in GB; without /proc, what it holds now.

    Not `getrusage`, whose maximum a new process inherits from the one that started it.
    """
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return psutil.Process(pid).memory_info().rss / 1e9


def _timed(turn: Turn) -> Timing:
    began = time.perf_counter()
    for child in turn.children:
        child.begin(turn.program, turn.repeats)
    each = [child.end() for child in turn.children]
    if len(each) == 1:
        return each[0]
    wall = (time.perf_counter() - began) / turn.repeats
    return Timing([wall], [sum(sum(timing.cpu) for timing in each) / turn.repeats])


def _serve(factory: str, arguments: Sequence[Any], line: Connection) -> None:
    """A child: prepare the programs, then time the calls asked for."""
    # TensorFlow's start-up messages heed no log level; a traceback goes down the line.
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
    try:
        module, function = factory.split(":")
        programs, facts = getattr(importlib.import_module(module), function)(*arguments)
        line.send(facts)
        while True:
            program, repeats = line.recv()
            timing = Timing()
            for _ in range(repeats):
                wall, cpu = time.perf_counter(), time.process_time()
                programs[program]()
                timing.wall.append(time.perf_counter() - wall)
                timing.cpu.append(time.process_time() - cpu)
            line.send(timing)
    except (EOFError, BrokenPipeError):
        return
    except Exception:
        line.send(traceback.format_exc())


@contextmanager
def _environment(values: Mapping[str, str], unset: Sequence[str]) -> Iterator[None]:
    """Environment variables for the processes that the block starts."""
    before = dict(os.environ)
    os.environ.update(values)
    for name in unset:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
