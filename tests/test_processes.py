"""Work side by side: results in order, errors as they were, no process left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from spurious.errors import UserError
from spurious.processes import side_by_side


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """A spawned process imports this module by its name."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1])


def describe(number):
    return number, os.getpid(), os.environ.get("TF_NUM_INTRAOP_THREADS")


def refuse(number):
    raise UserError(f"task {number} = bad: must be good")


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def run(function, count, processes):
    tasks = [(number,) for number in range(count)]
    return list(side_by_side(function, tasks, processes, desc="test", unit="task"))


def test_results_come_in_order_from_processes_of_one_thread():
    others = set(multiprocessing.active_children())  # of tests before
    found = run(describe, 4, 2)
    assert [number for number, _, _ in found] == [0, 1, 2, 3]
    assert os.getpid() not in {process for _, process, _ in found}
    assert {threads for _, _, threads in found} == {"1"}
    assert set(multiprocessing.active_children()) <= others


@pytest.mark.parametrize(("count", "processes"), [(3, 1), (1, 2)])
def test_one_process_or_task_needs_no_other(count, processes):
    assert {process for _, process, _ in run(describe, count, processes)} == {os.getpid()}


def test_what_a_task_raises_is_raised_here():
    with pytest.raises(UserError, match=r"task \d = bad: must be good"):
        run(refuse, 2, 2)


def test_a_process_that_dies_is_one_line():
    with pytest.raises(UserError, match=r"a process died.*execution.processes: 1"):
        run(die, 2, 2)


# A shell that starts the tests in the background has SIGINT ignored, also in what they start.
SLEEPERS = """
import signal, time
from spurious.processes import side_by_side
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    list(side_by_side(time.sleep, [(60,), (60,)], 2, desc="test", unit="task"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_began_them(tmp_path, how):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    parent = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    children = []
    while len(children) < 3 and time.monotonic() < deadline:  # two workers, a resource tracker
        time.sleep(0.2)
        children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    parent.send_signal(how)
    parent.wait(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
