"""Which runs made the numbers that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spurious.tracking.store import STORE, exists, explained, uri

MOST = 10_000  # runs of an experiment that are looked at


def last_runs(experiment: str, store: Path = STORE) -> list[dict[str, Any]]:
    """The last finished run of each stage and item, by start: where its numbers were made.

    Returns:
        `name`, `id`, `experiment` (its number), `commit`, `start` (seconds since 1970) and
        `seconds` of each; nothing where nothing was tracked.
    """
    from mlflow import MlflowClient

    if not exists(store):
        return []
    with explained(store):
        client = MlflowClient(uri(store))
        if (found := client.get_experiment_by_name(experiment)) is None:
            return []
        runs = client.search_runs(
            [found.experiment_id],
            "attributes.status = 'FINISHED'",
            max_results=MOST,
            order_by=["attributes.start_time ASC"],
        )
    last: dict[str, dict[str, Any]] = {}
    for run in runs:
        if "mlflow.parentRunId" in run.data.tags:
            continue
        last.pop(run.info.run_name, None)  # the order is that of the last ones
        last[run.info.run_name] = {
            "name": run.info.run_name,
            "id": run.info.run_id,
            "experiment": found.experiment_id,
            "commit": run.data.tags.get("git.commit", "none"),
            "start": run.info.start_time / 1000,
            "seconds": (run.info.end_time - run.info.start_time) / 1000,
        }
    return list(last.values())
