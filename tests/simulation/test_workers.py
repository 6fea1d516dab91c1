"""Workers on this machine: what they are started with, and what a death costs."""

import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from spurious import config
from spurious.errors import UserError
from spurious.simulation import workers
from spurious.simulation.engine import cosmology_at
from spurious.simulation.tasks import ENVIRONMENT, Task
from spurious.simulation.workers import Processes, ThisProcess

SETTINGS = config.Simulation(
    n_cells=16,
    box_size=config.Length(value=32.0, unit="Mpc/h"),
    scale_factors=config.Stages(stages=3),
    axes=(2, 1),
)


def tasks(count):
    cosmology = cosmology_at(0.3, 0.8, config.Background())
    return [Task(index, cosmology, seed=100 + index) for index in range(count)]


def children():
    return set(multiprocessing.active_children())


def in_order(outcomes):
    return sorted(outcomes, key=lambda outcome: outcome.index)


@pytest.fixture(scope="module")
def expected():
    return in_order(ThisProcess(SETTINGS).outcomes(tasks(40)))


def test_this_process_makes_one_map_for_each_line_of_sight(expected):
    assert [outcome.index for outcome in expected] == list(range(40))
    assert expected[0].maps.shape == (2, 16, 16)
    assert expected[0].maps.dtype == np.float32
    assert expected[0].field is None
    assert not np.array_equal(expected[0].maps, expected[1].maps)
    assert all(outcome.seconds > 0 for outcome in expected)


@pytest.mark.slow
def test_processes_share_the_work_and_one_that_dies_is_replaced(expected, caplog):
    before, seen = children(), {}
    made, drawn = [], []

    def source():
        for task in tasks(40):
            drawn.append(task)
            yield task

    for outcome in Processes(SETTINGS, 2).outcomes(source()):
        made.append(outcome)
        assert len(drawn) <= len(made) + 2 * workers.AHEAD  # a source may be a million tasks
        for pid in {child.pid for child in children() - before}:
            with suppress(OSError):  # it just died
                # Until a process has begun, what is read is empty, or our own: look again.
                seen[pid] = Path(f"/proc/{pid}/environ").read_bytes() or seen.get(pid, b"")
        if len(made) == 5:
            victim = (children() - before).pop()
            victim.kill()
    assert children() == before
    assert len(seen) == 3
    for theirs, ours in zip(in_order(made), expected, strict=True):
        assert theirs.index == ours.index
        np.testing.assert_array_equal(theirs.maps, ours.maps)
    assert {outcome.worker for outcome in made} == {"local-1", "local-2"}
    (warning,) = caplog.messages
    assert f"(process {victim.pid}) died (SIGKILL) in simulation" in warning
    for environment in seen.values():  # glibc and OpenMP look when a process starts, not later
        for name, value in ENVIRONMENT.items():
            assert f"{name}={value}".encode() in environment.split(b"\0")
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ


def test_workers_that_always_die_end_the_run(caplog):
    before, stop = children(), threading.Event()

    def kill_all():
        while not stop.is_set():
            for child in children() - before:
                child.kill()
            time.sleep(0.05)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(UserError, match=r"died 3 times in simulation \d, at last SIGKILL") as e:
            list(Processes(SETTINGS, 2).outcomes(tasks(4)))
    finally:
        stop.set()
        killer.join()
    assert "run again to go on" in str(e.value)
    assert children() == before
    # One that outruns the killer leaves its worker to another simulation: the bound is on each.
    told = Counter(re.search(r"in simulation (\d)", message)[1] for message in caplog.messages)
    assert told.total() >= 2 and max(told.values()) == 2


def test_a_mistake_in_a_worker_is_raised_here_and_all_workers_end():
    before = children()
    with pytest.raises(RuntimeError, match=r"(?s)in worker local-1: Traceback.*AttributeError"):
        list(Processes(None, 1).outcomes(tasks(4)))
    assert children() == before


def test_the_number_of_local_workers():
    assert workers.local_count(config.Local(kind="local", workers=3)) == 3
    cores = len(os.sched_getaffinity(0))
    assert workers.local_count(config.Local(kind="local")) == min(cores, 16)
    assert workers.expected_count(config.Slurm(kind="slurm", jobs=3, workers_per_job=4)) == 12
    assert workers.expected_count(config.Dask(kind="dask", scheduler="tcp://head:8786")) is None


def test_missing_dask_is_one_line_that_says_what_to_install():
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        "from pathlib import Path\n"
        "from spurious import config\n"
        "from spurious.simulation.workers import open_workers\n"
        "place = config.Dask(kind='dask', scheduler='tcp://head:8786')\n"
        "open_workers(place, config.Simulation(), Path('.')).__enter__()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == (
        "spurious.errors.UserError: execution.workers.kind = 'dask': distributed is missing; "
        "install it with: pip install 'spurious[cluster]'"
    )
