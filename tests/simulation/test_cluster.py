"""A real Dask cluster on this machine, and SLURM's job script, run by a shell in SLURM's place."""

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import distributed
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

from spurious import config
from spurious.errors import UserError
from spurious.files import md5
from spurious.simulation import cluster, slurm, suite
from spurious.simulation.workers import open_workers

NODES = np.array([[0.1, 0.6], [0.1, 0.9], [0.4, 0.7]])
SETTINGS = config.Simulation(
    n_cells=16,
    box_size=config.Length(value=32.0, unit="Mpc/h"),
    scale_factors=config.Stages(stages=80),
    simulations=60,
    shard_size=5,
)


def run(folder, place):
    path = folder / "all.h5"
    suite.run(SETTINGS, config.Background(), NODES, 11, folder, path, place, progress=False)
    return md5(path)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return run(tmp_path_factory.mktemp("here"), None)


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def after_a_shard(folder, action):
    """Do something as soon as the first shard is there, while the suite goes on."""

    def wait_and_act():
        wait_for(lambda: list(folder.glob("shard-*.h5")))
        action()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_killed_worker_costs_a_retry_and_changes_no_byte(tmp_path, expected):
    with (
        LocalCluster(
            n_workers=2,
            processes=True,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
        ) as dask,
        Client(dask, set_as_default=False) as client,
    ):
        first = client.run(os.getpid)
        killer = after_a_shard(
            tmp_path, lambda: os.kill(next(iter(first.values())), signal.SIGKILL)
        )
        place = config.Dask(kind="dask", scheduler=dask.scheduler_address)
        assert run(tmp_path, place) == expected
        killer.join()
        client.wait_for_workers(2, timeout=30)
        assert set(client.run(os.getpid).values()) != set(first.values())
        threads = client.run(lambda: os.environ.get("TF_NUM_INTRAOP_THREADS"))
        assert "1" in threads.values()


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_one_line_within_seconds(tmp_path):
    for address in ("tcp://127.0.0.1:1", "nonsense://head:8786", "tcp://127.0.0.1:port"):
        began = time.monotonic()
        place = config.Dask(kind="dask", scheduler=address)
        with (
            pytest.raises(UserError, match=r"execution.workers.scheduler = '.*must be") as error,
            open_workers(place, SETTINGS, tmp_path),
        ):
            pass
        assert time.monotonic() - began < 60  # it waits 10 s; a busy machine adds to them
        assert "\n" not in str(error.value)


def test_a_refused_scheduler_does_not_keep_the_next_one_from_starting(tmp_path, monkeypatch):
    """What is left of the refused client is collected while the next one starts."""
    began_loop = distributed.utils.asyncio_run

    def collected_first(*args, **kwargs):
        gc.collect()
        return began_loop(*args, **kwargs)

    with LocalCluster(
        n_workers=1,
        processes=False,
        threads_per_worker=1,
        host="127.0.0.1",
        protocol="tcp://",
        dashboard_address=None,
    ) as dask:
        gc.disable()
        try:
            place = config.Dask(kind="dask", scheduler="nonsense://head:8786")
            with pytest.raises(UserError), open_workers(place, SETTINGS, tmp_path):
                pass
            monkeypatch.setattr(distributed.utils, "asyncio_run", collected_first)
            place = config.Dask(kind="dask", scheduler=dask.scheduler_address)
            with open_workers(place, SETTINGS, tmp_path) as workers:
                assert workers.client.status == "running"
        finally:
            gc.enable()


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_run_in_one_line(tmp_path):
    address = tmp_path / "address"
    code = (
        "import sys, time\n"
        "from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    dask = LocalCluster(n_workers=1, processes=False, threads_per_worker=1,\n"
        "                        host='127.0.0.1', protocol='tcp://', dashboard_address=None)\n"
        "    open(sys.argv[1], 'w').write(dask.scheduler_address)\n"
        "    time.sleep(120)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, address], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: address.exists() and address.read_text())
        killer = after_a_shard(tmp_path, process.kill)
        place = config.Dask(kind="dask", scheduler=address.read_text())
        with pytest.raises(UserError, match=r"connection to the scheduler .* was lost: run again"):
            run(tmp_path, place)
        killer.join()
    finally:
        process.kill()
        process.wait()


SLURM = config.Slurm(
    kind="slurm",
    jobs=1,
    workers_per_job=2,
    memory="6GB",
    walltime="02:30:00",
    queue="fast",
    account="cosmo",
)


def test_the_job_script_asks_for_what_params_yaml_says(tmp_path):
    with slurm.SLURMCluster(**slurm.job(SLURM, tmp_path)) as jobs:
        script = jobs.job_script()
    for line in (
        "#SBATCH -p fast",
        "#SBATCH -A cosmo",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=6G",
        "#SBATCH -t 02:30:00",
        "export TF_NUM_INTRAOP_THREADS=1",
        "export OMP_NUM_THREADS=1",
    ):
        assert line in script.splitlines()
    assert "--nthreads 1 " in script
    assert "--nworkers 2 " in script
    assert f"{tmp_path}/slurm/" in script


def test_ctrl_c_still_interrupts():
    # A shell that starts the tests in the background has SIGINT ignored, also in what they start.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from spurious.simulation import slurm; print(signal.getsignal(signal.SIGINT))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "default_int_handler" in done.stdout


def test_without_slurm_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(UserError, match="there is no sbatch on this machine"),
        open_workers(SLURM, SETTINGS, tmp_path),
    ):
        pass


SBATCH = """#!/bin/sh
[ "$1" = --test-only ] && exit 0
cp "$1" "{folder}/job.sh"
echo submitted >> "{folder}/submitted"
setsid sh "{folder}/job.sh" > "{folder}/log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
kill -TERM -- -"$1"
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Commands that do what SLURM's would, at once and on this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def job_processes(folder):
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder / "job.sh") in (process.info["cmdline"] or [])
    ]


@pytest.mark.slow
def test_a_slurm_job_that_ends_is_asked_for_again(
    tmp_path, commands, expected, monkeypatch, caplog
):
    monkeypatch.setattr(slurm, "GONE", 1.0)
    monkeypatch.setattr(cluster, "LOOK", 0.5)

    def end_the_job():
        (job,) = job_processes(commands)
        os.killpg(job.pid, signal.SIGKILL)

    killer = after_a_shard(tmp_path, end_the_job)
    with caplog.at_level(logging.WARNING, "spurious"):
        one = SLURM.model_copy(update={"workers_per_job": 1})
        assert run(tmp_path, one) == expected
    killer.join()
    assert (commands / "submitted").read_text().split() == ["submitted"] * 2
    assert "SLURM jobs ended" in caplog.text
    wait_for(lambda: job_processes(commands) == [], 20)


def test_what_slurm_refuses_is_told_in_one_line(tmp_path, commands):
    (commands / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2; exit 1")
    with (
        pytest.raises(
            UserError, match=r"SLURM would not take .*job.sh: invalid partition"
        ) as error,
        open_workers(SLURM, SETTINGS, tmp_path),
    ):
        pass
    assert "\n" not in str(error.value)
