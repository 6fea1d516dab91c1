"""SLURM jobs whose workers join a Dask scheduler in this process. A job that ends is replaced."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.config

from spurious import config
from spurious.errors import UserError
from spurious.simulation.tasks import ENVIRONMENT

_interrupt = signal.getsignal(signal.SIGINT)
from dask_jobqueue import SLURMCluster  # noqa: E402

signal.signal(signal.SIGINT, _interrupt)  # that import makes Ctrl-C a silent exit

logger = logging.getLogger(__name__)

GONE = 60.0  # seconds without any of its workers before a job is taken to have ended


@contextmanager
def open_jobs(place: config.Slurm, folder: Path) -> Iterator[Jobs]:
    """A scheduler in this process, and jobs that were submitted; all end with the block.

    Args:
        place: `execution.workers` of params.yaml.
        folder: below it are the job script and the jobs' logs, in `slurm`.

    Raises:
        UserError: there is no SLURM here, or it would not take the job.
    """
    submit = SLURMCluster.job_cls.submit_command
    if shutil.which(submit) is None:
        raise UserError(
            f"execution.workers.kind = 'slurm': there is no {submit} on this machine; "
            "must be local, dask, or slurm where SLURM is"
        )
    with SLURMCluster(**job(place, folder)) as cluster:
        _try(submit, cluster.job_script(), folder / "slurm" / "job.sh")
        cluster.scale(jobs=place.jobs)
        yield Jobs(cluster, place.jobs)


def _try(submit: str, script: str, path: Path) -> None:
    """Ask SLURM whether it would take a job; its answer to a real one would only be logged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    answer = subprocess.run([submit, "--test-only", path], capture_output=True, text=True)
    if answer.returncode:
        raise UserError(f"SLURM would not take {path}: {' '.join(answer.stderr.split())}")


def job(place: config.Slurm, folder: Path) -> dict[str, Any]:
    """Arguments of `SLURMCluster`: processes of one thread each, logs below `folder`.

    What params.yaml leaves open is taken from Dask's own configuration (jobqueue.yaml).
    """
    exports = [f"export {name}={value}" for name, value in ENVIRONMENT.items()]
    theirs = dask.config.get("jobqueue.slurm.job-script-prologue", None) or []
    logs = dask.config.get("jobqueue.slurm.log-directory", None) or folder / "slurm"
    return {
        "cores": place.workers_per_job,
        "processes": place.workers_per_job,
        "memory": place.memory,
        "walltime": place.walltime,
        "queue": place.queue,
        "account": place.account,
        "job_name": "spurious",
        "job_script_prologue": [*theirs, *exports],
        "log_directory": str(logs),
        "scheduler_options": {"dashboard": False, "dashboard_address": ":0"},
    }


class Jobs:
    """Asks for another SLURM job when one has ended, as each does after its walltime."""

    def __init__(self, cluster: SLURMCluster, jobs: int) -> None:
        self.cluster = cluster
        self._jobs = jobs
        self._seen: dict[str, float] = {}

    def look(self, connected: set[str]) -> None:
        """Compare the jobs with the workers that are connected; a job in the queue has none yet."""
        now = time.monotonic()
        for name, spec in self.cluster.worker_spec.items():
            if connected & {f"{name}{suffix}" for suffix in spec.get("group", [""])}:
                self._seen[name] = now
        ended = [name for name, last in self._seen.items() if now - last > GONE]
        if ended:
            logger.warning("SLURM jobs ended (%s): asking for others", ", ".join(ended))
            self.cluster.sync(self.cluster.scale_down, ended)
            self.cluster.scale(jobs=self._jobs)
        for name in ended:
            del self._seen[name]
