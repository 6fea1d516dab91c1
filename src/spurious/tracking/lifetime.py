"""Runs begin, end, and are closed when their process died."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spurious.processes import is_gone, this_process
from spurious.tracking.mlflow_run import MlflowRun, opened
from spurious.tracking.origin import provenance
from spurious.tracking.run import NullRun, Run
from spurious.tracking.store import STORE, connect, ensure_store, explained, is_off, uri

MOST = 10_000  # runs that one stage may have left open
PROCESS = "process"  # tag that says whose run it is


@contextmanager
def start(
    stage: str,
    experiment: str,
    *,
    inputs: Sequence[Path] = (),
    tags: Mapping[str, str] | None = None,
    params_file: Path = Path("params.yaml"),
    store: Path = STORE,
) -> Iterator[Run]:
    """Open one run for `stage` in `experiment`; an exception marks it as failed.

    Ctrl-C or SIGTERM marks it as killed. So does the next start of the same stage with the same
    `tags` if the process died, with all runs below it. `SPURIOUS_TRACKING=off` gives a run that
    tracks nothing, an address one on that MLflow server.
    """
    if is_off():
        yield NullRun()
        return
    item = {"stage": stage, **(tags or {})}
    with explained(store):
        ensure_store(store, experiment)
        connect(store, experiment)
        close_dead(experiment, item, store)
    every = {**item, PROCESS: this_process(), **provenance(inputs, params_file)}
    name = " ".join(item.values())
    with opened(name, every, log_system_metrics=True) as run_id:
        try:
            yield MlflowRun(run_id, every, experiment, store)
        finally:
            # The processes that worked for this run have ended, perhaps by force.
            _close(_running(experiment, {"mlflow.parentRunId": run_id}, store), store)


def close_dead(experiment: str, tags: Mapping[str, str], store: Path = STORE) -> None:
    """Mark as killed all runs with these tags whose process has ended without saying so."""
    runs = _running(experiment, tags, store)
    _close([run for run in runs if is_gone(run.data.tags.get(PROCESS, ""))], store)


def _running(experiment: str, tags: Mapping[str, str], store: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(uri(store))
    found = client.get_experiment_by_name(experiment)
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    if found is None:
        return []
    query = f"attributes.status = 'RUNNING' and {query}"
    return list(client.search_runs([found.experiment_id], query, max_results=MOST))


def _close(runs: Sequence[Any], store: Path) -> None:
    from mlflow import MlflowClient

    for run in runs:
        MlflowClient(uri(store)).set_terminated(run.info.run_id, "KILLED")
