"""How far a stage is: bars on a terminal, a plain line from time to time elsewhere.

Where the environment has `CI`, and in the processes of a pool, nothing is shown.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, Self, TypeVar

T = TypeVar("T")
BEGIN, REFRESH = 0.3, 0.2  # seconds until a terminal shows anything, and between two pictures
EVERY, SOON = 30.0, 1.0  # seconds between two plain lines, and of work that is worth one


def track(
    steps: Collection[T], name: str, *, unit: str = "", delay: float = 0.0, disable: bool = False
) -> Iterator[T]:
    """Yield each step, and show how far the loop is; arguments as for `Bar`."""
    with Bar(len(steps), name, unit=unit, delay=delay, disable=disable) as bar:
        for step in steps:
            yield step
            bar.update()


class Bar:
    """Work of `total` steps, in a `with`, whose progress is shown.

    What a stage prints appears above the bars, which vanish when the work is done.

    Attributes:
        n: steps done; may be set.
        note: a few words on the state, such as the loss; may be set.
    """

    def __init__(
        self,
        total: int,
        name: str,
        *,
        initial: int = 0,
        unit: str = "",
        delay: float = 0.0,
        disable: bool = False,
    ) -> None:
        """Show nothing yet.

        Args:
            total: number of steps.
            name: of the work.
            initial: steps done before.
            unit: what a step is, in the singular.
            delay: seconds for which this bar is not shown, for work that is often short.
            disable: whether never to show it.
        """
        self.total, self.name, self.unit = total, name, unit
        self.n = self.initial = initial
        self.delay, self.disable = delay, disable
        self.note, self.began = "", time.monotonic()

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        if not self.disable:
            _display.add(self)
        return self

    def __exit__(self, *raised: object) -> None:
        _display.remove(self)

    def update(self, steps: int = 1) -> None:
        """So many steps further."""
        self.n += steps

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def __str__(self) -> str:
        """How far it is and when it will end, in words."""
        parts = [f"{self.n} of {self.total} {_plural(self.unit)}".strip()]
        parts.append(f"{_duration(self.seconds)} gone")
        if self.n > self.initial:
            pace = self.seconds / (self.n - self.initial)
            parts.append(f"{_duration(pace * max(self.total - self.n, 0))} left")
        return ", ".join([*parts, self.note] if self.note else parts)


class _Display:
    """The bars at work, the outermost first, and the thread that shows them."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self.silent = False
        self._said = time.monotonic()  # when the last line was written, whatever was at work
        self._lock = threading.RLock()  # a garbage collection may end a loop anywhere
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, bar: Bar) -> None:
        """Show this one too, below the others."""
        with self._lock:
            self.bars = [*self.bars, bar]
            if self._thread is None and not (self.silent or os.environ.get("CI")):
                self._ended.clear()
                show = self._picture if _is_terminal() else self._lines
                self._thread = threading.Thread(target=show, daemon=True)
                self._thread.start()

    def remove(self, bar: Bar) -> None:
        """Show it no longer; without any the terminal is as it was."""
        with self._lock:
            self.bars = [one for one in self.bars if one is not bar]
            if not self.bars:
                self._end()

    def end(self) -> None:
        """Clear the terminal, whatever is still at work."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._ended.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _shown(self) -> list[Bar]:
        return [bar for bar in self.bars if bar.seconds >= bar.delay]

    def _lines(self) -> None:
        while not self._ended.wait(max(self._said + EVERY - time.monotonic(), min(EVERY, SOON))):
            if shown := self._shown():
                self._said = time.monotonic()
                with suppress(OSError, ValueError):  # standard error may be closed
                    line = "; ".join(f"{bar.name}: {bar}" for bar in shown)
                    print(line, file=sys.stderr, flush=True)

    def _picture(self) -> None:
        if self._ended.wait(BEGIN):
            return
        from rich.console import Console
        from rich.live import Live

        # What is printed into a file must not turn up on the terminal.
        live = Live(
            get_renderable=self._table,
            console=Console(file=sys.stderr, force_terminal=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        with live:
            while not self._ended.wait(REFRESH):
                live.refresh()

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        for bar in self._shown():
            drawn = ProgressBar(bar.total, bar.n, width=30)
            table.add_row(Text(bar.name), drawn, Text(str(bar)))
        return table


def silence() -> None:
    """Show nothing in this process from now on: another one shows how far it is."""
    _display.silent = True


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _plural(unit: str) -> str:
    if unit.endswith("y"):
        return f"{unit[:-1]}ies"
    return unit and unit + ("es" if unit.endswith("tch") else "s")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_display = _Display()
atexit.register(_display.end)
