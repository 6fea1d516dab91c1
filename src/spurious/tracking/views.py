"""What the MLflow UI opens on: the attacks of the last pipeline run, side by side.

MLflow keeps a view of an experiment's runs (filter, columns, charts) as a tag of the experiment and
opens it at `?viewStateShareKey=<name>`. The runs in it carry the tag `latest`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spurious.tracking.store import KIND, STORE, exists, explained, is_off, uri

VIEW = "attacks"
LATEST = "latest"
QUERY = f"tags.{LATEST} = '{VIEW}'"
# What every attack logs, so that they can be compared; the rest is in artifacts.
PARAMS = ("group", "kind", "budget", "unit")
METRICS = ("damage", "power_change", "auroc", "rms_counts")
VERDICT = "verdict"
SECTION = "Attacks of the last run"
FOLDED = ("Model metrics", "damage to", "study", "trainings", "System metrics")
MOST = 1000  # runs in a view


def show_attacks(
    experiment: str, runs: Mapping[str, Mapping[str, float | str]], store: Path = STORE
) -> None:
    """Show these runs of an experiment side by side in the MLflow UI, and no others.

    Args:
        experiment: its name; nothing happens if nothing was tracked.
        runs: by id, what became known after they ended: numbers become metrics, words tags. Runs
            that the store does not have, whose results came from elsewhere, are left out.
        store: the tracking store.

    Raises:
        UserError: the store is damaged.
    """
    with _client(store) as client:
        found = client and client.get_experiment_by_name(experiment)
        if not found:
            return
        before = client.search_runs([found.experiment_id], QUERY, max_results=MOST)
        for run in before:
            if run.info.run_id not in runs:
                client.delete_tag(run.info.run_id, LATEST)
        for run_id, known in runs.items():
            _add(client, run_id, known)
        write_view(client, found.experiment_id)


def write_view(client: Any, experiment_id: str) -> None:
    """Keep the view with an experiment, and say that it is of no generative AI."""
    tag = f"mlflow.sharedViewState.{VIEW}"
    client.set_experiment_tag(experiment_id, tag, json.dumps(view()))
    for key, value in KIND.items():
        client.set_experiment_tag(experiment_id, key, value)


def view() -> dict[str, Any]:
    """The state of MLflow's page: which runs, columns and charts, sorted by damage."""
    params = [f"params.`{name}`" for name in PARAMS]
    metrics = [f"metrics.`{name}`" for name in METRICS]
    return {
        "searchFilter": QUERY,
        "orderByKey": metrics[0],
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": [*params, *metrics, f"tags.`{VERDICT}`"],
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts(),
        "compareRunSections": sections(),
        "isAccordionReordered": True,
    }


def charts() -> list[dict[str, Any]]:
    """Damage as bars, against the change of P(k), and against the best detector."""
    return [
        _bars("damage", "Damage, nat"),
        _scatter("power_change", "damage", "Damage against change of P(k)"),
        _scatter("auroc", "damage", "Damage against AUROC of the best detector"),
        _bars("power_change", "Change of the mean P(k)"),
        _bars("auroc", "AUROC of the best detector"),
        _bars("rms_counts", "RMS change, counts"),
    ]


def sections() -> list[dict[str, Any]]:
    """One open section with these charts; those that MLflow makes itself are folded."""
    return [_section(SECTION, True), *(_section(name, False) for name in FOLDED)]


def address(base: str, experiment_id: str) -> str:
    """Where the view opens with its charts, on the server at `base`."""
    return (
        f"{base}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"
        "&compareRunsMode=CHART&workflowType=machine_learning"
    )


def _bars(metric: str, title: str) -> dict[str, Any]:
    return _card("BAR", f"bars-{metric}", title) | {"metricKey": metric}


def _scatter(x: str, y: str, title: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return _card("SCATTER", f"scatter-{x}-{y}", title) | axes


def _card(kind: str, key: str, title: str) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": key,
        "runsCountToCompare": 100,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "displayName": title,
    }


def _section(name: str, display: bool) -> dict[str, Any]:
    return {
        "uuid": name,
        "name": name,
        "display": display,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


@contextmanager
def _client(store: Path) -> Iterator[Any]:
    """MLflow's client of a store; None if there is no store, or nothing is to be tracked."""
    from mlflow import MlflowClient

    if is_off() or not exists(store):
        yield None
        return
    with explained(store):
        yield MlflowClient(uri(store))


def _add(client: Any, run_id: str, known: Mapping[str, float | str]) -> None:
    """Add what is known to a run, if the store has it."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_tag(run_id, LATEST, VIEW)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return
    for name, value in known.items():
        put = client.set_tag if isinstance(value, str) else client.log_metric
        put(run_id, name, value)


def experiments(client: Any) -> Sequence[Any]:
    """Those that have runs of ours, the last used first."""
    every = [one for one in client.search_experiments() if one.name != "Default"]
    return sorted(every, key=lambda one: _last(client, one.experiment_id), reverse=True)


def _last(client: Any, experiment_id: str) -> int:
    runs = client.search_runs([experiment_id], max_results=1)
    return runs[0].info.start_time if runs else 0
