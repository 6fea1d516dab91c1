"""Reading a case in a process of its own, under watch: time, memory, files, processes, secrets."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from fuzzing.outcomes import Case, Seen

IMPORTING = 300  # seconds for the first case
WAITING = 10
TICK = 0.02  # seconds between two looks at a process
SECRET = "secret.txt"  # beside the folder of the project; hostile files point at it
SECRET_H5 = "secret.h5"  # the same, as HDF5
WORDS = b"nobody may read these words here" * 64  # what stands in them
OUTSIDE = "outside"  # beside it too; hostile files try to write there
DEEDS = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile",
    "subprocess.Popen", "pty.spawn", "socket.connect", "socket.bind", "socket.getaddrinfo",
    "urllib.Request", "webbrowser.open", "os.remove", "os.rename", "os.link", "os.symlink",
    "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree",
}  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
IN_ACCESS, IN_OPEN = 0x1, 0x20

Reader = Callable[[Case], str]


class Worker:
    """A process that reads one case after another; it is replaced when one kills it.

    Args:
        folder: where it runs; the files of a case are written below it, and put back after it.
        seconds: that a case may take, of a processor; `WAITING` times as many on the clock.
        megabytes: that the process may take in a case, above what it had before.
        strict: whether reading may do nothing else: write no file, start no process.
        first: a sound case that the process reads first, to import what it needs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seconds: float,
        megabytes: float,
        strict: bool = True,
        first: Case | None = None,
    ) -> None:
        self.folder, self.seconds, self.megabytes, self.strict = folder, seconds, megabytes, strict
        self._first = first
        self._process: Any = None
        self._link: Connection | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self, case: Case) -> Seen:
        """What happens when the case is read."""
        if self._link is None:
            self._start()
        return self._read(case, self.seconds, self.megabytes)

    def _read(self, case: Case, seconds: float, megabytes: float) -> Seen:
        assert self._link is not None
        with written(self.folder, case.files):
            self._link.send(case)
            return self._watched(self._link, seconds, megabytes)

    def _watched(self, link: Connection, seconds: float, megabytes: float) -> Seen:
        process = psutil.Process(self._process.pid)
        begun, worked, before = time.monotonic(), _worked(process), process.memory_info().rss
        while not link.poll(TICK):
            late = time.monotonic() - begun > seconds * WAITING
            with suppress(psutil.Error):
                if (process.memory_info().rss - before) / 2**20 > megabytes:
                    return self._killed(f"it took more than {megabytes:.0f} MB")
                late |= _worked(process) - worked > seconds
            if late:
                return self._killed(f"it took more than {seconds:.0f} s")
        try:
            seen: Seen = link.recv()
            return seen
        except EOFError:
            self._process.join()
            return self._killed(f"the process died with status {self._process.exitcode}")

    def _killed(self, why: str) -> Seen:
        self._end()
        return Seen(error=why)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._link, there = context.Pipe()
        arguments = (there, str(self.folder), self.strict)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        there.close()
        if self._first:
            seen = self._read(self._first, IMPORTING, float("inf"))
            if wrong := seen.refusal or seen.error:
                raise SystemExit(f"error: a sound file was refused: {wrong}")

    def _end(self) -> None:
        if self._link is not None:
            self._link.close()
            self._process.kill()
            self._process.join()
        self._link = None


def _worked(process: psutil.Process) -> float:
    """Seconds of a processor that a process has taken: others may use the machine too."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def written(folder: Path, files: Any) -> Iterator[None]:
    """A case's files in their places, for as long as the block lasts."""
    before = {}
    for name, content in files.items():
        path = folder / name
        before[path] = path.read_bytes() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    try:
        yield
    finally:
        for path, old in before.items():
            if old is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(old)


def _serve(link: Connection, folder: str, strict: bool) -> None:
    """What the process does: read cases until nobody sends any."""
    os.chdir(folder)
    from fuzzing.readers import READERS

    with tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch
        watch = _Watch(Path(folder), Path(scratch))
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)  # what libraries say of damage
        while True:
            try:
                case = link.recv()
            except EOFError:
                return
            link.send(watched(READERS[case.reader], case, watch if strict else None))


def watched(reader: Reader, case: Case, watch: _Watch | None = None) -> Seen:
    """What a reader does with a case, in this process."""
    from spurious.errors import UserError

    if watch:
        watch.begin()
    refusal, error, problem = None, "", ""
    try:
        problem = reader(case)
    except UserError as refused:
        refusal = str(refused)
    except MemoryError:
        error = "MemoryError"
    except BaseException as other:  # whatever comes is what is asked for
        where = traceback.extract_tb(other.__traceback__)[-1]
        text = " ".join(str(other).split())[:200]
        error = f"{type(other).__name__} at {Path(where.filename).name}:{where.lineno}: {text}"
    return Seen(refusal, error, problem, watch.end() if watch else ())


class _Watch:
    """Notices what reading does beside reading."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._folder, self._scratch = folder, str(scratch)
        self._on, self._deeds, self._before = False, list[str](), set[Path]()
        self._secret = _Opened(folder.parent / name for name in (SECRET, SECRET_H5))
        sys.addaudithook(self._hook)

    def begin(self) -> None:
        self._secret.drain()
        self._deeds, self._before, self._on = [], self._files(), True

    def end(self) -> tuple[str, ...]:
        self._on = False
        new = sorted(str(path) for path in self._files() ^ self._before)
        deeds = [*self._deeds, *(f"file {path}" for path in new)]
        if self._secret.drain():
            deeds.append("read the secret")
        return tuple(dict.fromkeys(deeds))

    def _files(self) -> set[Path]:
        places = (self._folder, self._folder.parent / OUTSIDE, Path(self._scratch))
        return {path for place in places if place.exists() for path in place.rglob("*")}

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and not self._allowed(path, -1):
                self._deeds.append(f"open {path!r} to write")
        elif event in DEEDS and not self._allowed(*arguments[:1], *arguments[-1:]):
            self._deeds.append(f"{event} {str(arguments)[:100]}")

    def _allowed(self, path: Any = "", folder: Any = -1) -> bool:
        """Whether a path, or one within an open folder, is where temporary files belong."""
        if isinstance(folder, int) and folder >= 0 and not os.path.isabs(str(path)):
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), str(path))
        return str(path).startswith((self._scratch, os.devnull))


class _Opened:
    """Whether anybody opened a file, C libraries too; on Linux only."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._queue = -1
        if sys.platform == "linux":
            libc = ctypes.CDLL(None, use_errno=True)
            self._queue = libc.inotify_init1(os.O_NONBLOCK)
            for path in paths:
                libc.inotify_add_watch(self._queue, str(path).encode(), IN_OPEN | IN_ACCESS)

    def drain(self) -> int:
        """How often since the last time."""
        count = 0
        while self._queue >= 0 and select.select([self._queue], [], [], 0)[0]:
            count += len(os.read(self._queue, 4096)) // struct.calcsize("iIII")
        return count
