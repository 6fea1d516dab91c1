"""Independent tasks in parallel, in processes of one thread each.

A network of the pilot's size gains little from a second thread, and tracing a graph gains nothing:
two processes on two cores do nearly twice the work of one.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from spurious.errors import UserError
from spurious.progress import Bar, silence

T = TypeVar("T")
CLOCK = 2.0  # seconds by which two looks at when a process began may differ
# TensorFlow reads its numbers of threads when it is imported.
ENVIRONMENT = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def side_by_side(
    function: Callable[..., T],
    tasks: Sequence[tuple[Any, ...]],
    processes: int | None = None,
    *,
    desc: str,
    unit: str,
) -> Iterator[T]:
    """Yield `function(*task)` of each task, in order; shows a progress bar after two seconds.

    With one process, one task or a GPU, this process does everything.

    Args:
        function: importable by its name, as its arguments and results are.
        tasks: its arguments.
        processes: at most this many; by default one per core.
        desc: of the bar.
        unit: of the bar: the name of a task.

    Raises:
        UserError: a process died. What a task raises is raised here.
    """
    workers = min(processes or os.cpu_count() or 1, len(tasks))
    with Bar(total=len(tasks), name=desc, unit=unit, delay=2) as bar:
        if workers < 2 or _has_gpu():
            for task in tasks:
                yield function(*task)
                bar.update()
            return
        yield from _pooled(function, tasks, workers, bar)


def end_in_order() -> None:
    """Make SIGTERM end this process as Ctrl-C does, with status 143. Call it once."""

    def end(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)  # what is begun now must not be cut short
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)


def this_process() -> str:
    """An identifier of this process: machine, process number, start time."""
    import psutil

    process = psutil.Process()
    return f"{_machine()} {process.pid} {process.create_time():.2f}"


def is_gone(described: str) -> bool:
    """Whether `this_process` identified a process of this machine that has ended."""
    import psutil

    machine, _, rest = described.partition(" ")
    if machine != _machine():
        return False
    number, _, began = rest.partition(" ")
    try:
        process = psutil.Process(int(number))
        other = abs(process.create_time() - float(began)) > CLOCK  # the number was given again
        return other or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _machine() -> str:
    """Containers may share a host's name, but not its table of processes."""
    with suppress(OSError):
        return f"{platform.node()}/{Path('/proc/self/ns/pid').readlink()}"
    return platform.node()


def collect_seldom() -> None:
    """Collect garbage rarely, and not at exit: few of TensorFlow's many objects are garbage."""
    gc.set_threshold(50_000, 20, 50)
    atexit.register(gc.freeze)


def _pooled(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: int, bar: Any
) -> list[T]:
    # Forked after TensorFlow has run, a process hangs.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    before = set(multiprocessing.active_children())
    try:
        with _uninterrupted():
            futures = [pool.submit(function, *task) for task in tasks]
        for future in as_completed(futures):
            future.result()
            bar.update()
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise UserError(
            "a process died, perhaps for want of memory: run it again, or set "
            "execution.processes: 1 in params.yaml"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        left = set(multiprocessing.active_children()) - before
        for process in left:
            process.kill()
        for process in left:
            process.join()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits: a pool that is interrupted while it starts its threads may never end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """What a process does first: one thread, no signal of its own, an end with its parent."""
    os.environ.update(ENVIRONMENT)
    collect_seldom()
    for number in (signal.SIGINT, signal.SIGTERM):  # a group's: the parent ends us
        signal.signal(number, signal.SIG_IGN)
    silence()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
