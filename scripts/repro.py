"""Run the stages of `dvc repro`, those that do not need each other side by side.

`dvc repro` alone runs one stage after the other, and most leave a core idle while they start. DVC
may be called several times at once: a call holds its lock only between commands, and what a stage
reads and writes is locked for as long as it runs
(https://dvc.org/doc/command-reference/repro#parallel-stage-execution). So each stage is a
`dvc repro --single-item` of its own here, which begins as soon as all that it needs is there. What
has not changed is skipped, and results are those of `dvc repro`.

    python scripts/repro.py                # two stages at a time
    python scripts/repro.py --at-once 1    # one, with less memory
    python scripts/repro.py --scales pilot paper    # with these in params.yaml, where they stay
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

DVC = (str(Path(sys.executable).with_name("dvc")), "--wait-for-lock")
EDGE = re.compile(r'"([^"]+)" -> "([^"]+)"')
CHATTER = (
    "To track the changes",
    "\tgit add",
    "To enable auto",
    "\tdvc config",
    "Use `dvc push`",
    "Updating lock",
    "Generating lock",
    "Data and pipelines",
)
NODE = re.compile(r'^"([^"]+)";$', re.MULTILINE)
SCALES = re.compile(r"(?m)^(run:\n(?:  .*\n)*?  scales: )\[[^\]]*\]")
INTERRUPTED = 130

Graph = dict[str, set[str]]


def main() -> int:
    """Run all stages; 0, or the status of the first that failed."""
    given = _arguments()
    if given.scales:
        set_scales(Path("params.yaml"), given.scales)
    at_once = given.at_once
    if subprocess.run([*DVC, "status", "--quiet"], check=False).returncode == 0:
        print("Data and pipelines are up to date.")
        return 0
    drawn = subprocess.run([*DVC, "dag", "--dot"], capture_output=True, text=True, check=False)
    if drawn.returncode:
        print(drawn.stderr.strip(), file=sys.stderr)
        return drawn.returncode
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(read_graph(drawn.stdout), at_once)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def set_scales(params: Path, scales: Sequence[str]) -> None:
    """Write `run.scales` into a file of parameters; all else in it stays as it is.

    Raises:
        SystemExit: the file has no such line.
    """
    before = params.read_text(encoding="utf-8")
    after, count = SCALES.subn(rf"\g<1>[{', '.join(scales)}]", before)
    if count != 1:
        raise SystemExit(f"error: {params}: no line `  scales: [...]` under `run:`")
    if after != before:
        temporary = params.with_name(f".{params.name}.new")
        temporary.write_text(after, encoding="utf-8")
        temporary.replace(params)


def read_graph(dot: str) -> Graph:
    """Stage -> the stages that it needs, of what `dvc dag --dot` prints; files are no stages."""
    graph: Graph = {name: set() for name in NODE.findall(dot) if not name.endswith(".dvc")}
    for before, after in EDGE.findall(dot):
        if before in graph:
            graph[after].add(before)
    return graph


def weights(graph: Graph) -> dict[str, int]:
    """Stage -> how many stages wait for it."""
    waiting: dict[str, set[str]] = {name: set() for name in graph}
    for name in reversed(list(TopologicalSorter(graph).static_order())):
        for before in graph[name]:
            waiting[before] |= {name, *waiting[name]}
    return {name: len(found) for name, found in waiting.items()}


def run(graph: Graph, at_once: int) -> int:
    """Run the stages of a graph, at most so many at a time, those first that most wait for.

    After a failure none begins, and those that run may end.

    Returns:
        0, or the status of the first that failed.
    """
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    waiting, weight, begun = list(sorter.get_ready()), weights(graph), time.monotonic()
    running: dict[Future[int], str] = {}
    failed = done = 0
    processes: dict[str, subprocess.Popen[str]] = {}
    with ThreadPoolExecutor(at_once) as pool:
        try:
            while running or (waiting and not failed):
                waiting.sort(key=lambda name: -weight[name])
                while waiting and len(running) < at_once and not failed:
                    name = waiting.pop(0)
                    running[pool.submit(_stage, name, processes)] = name
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    name, status = running.pop(future), future.result()
                    failed, done = failed or status, done + 1
                    _say(name, f"{_minutes(begun)}, {done} of {len(graph)} stages", running)
                    if status == 0:
                        sorter.done(name)
                        waiting += sorter.get_ready()
        except KeyboardInterrupt:
            for process in processes.values():
                process.send_signal(signal.SIGINT)
            raise
    return failed


def _stage(name: str, processes: dict[str, subprocess.Popen[str]]) -> int:
    """Run one stage and print what it prints, each line with its name."""
    command = [*DVC, "repro", "--single-item", name]
    pipe: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, errors="replace", **pipe) as process:
        processes[name] = process
        for line in process.stdout or ():
            if (text := line.rstrip()) and not text.startswith(CHATTER):
                print(f"[{name}] {text}", flush=True)
    del processes[name]
    return process.returncode


def _say(name: str, where: str, running: Mapping[Any, str]) -> None:
    rest = f"; running: {', '.join(running.values())}" if running else ""
    print(f"[{name}] ended ({where}{rest})", flush=True)


def _minutes(begun: float) -> str:
    passed = round(time.monotonic() - begun)
    return f"{passed // 60}:{passed % 60:02d}"


def _arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--at-once", type=_positive, default=2, help="stages at a time")
    parser.add_argument("--scales", nargs="+", metavar="SCALE", help="profiles to run")
    return parser.parse_args(given)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
