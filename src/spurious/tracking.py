"""Experiment tracking: the only module that imports MLflow, and a null tracker beside it.

One stage is one run. Runs live in `mlruns/mlflow.db`, their artifacts in `mlruns/artifacts/`.
All runs of one pipeline execution carry the same tag `pipeline`; every run carries the git commit
and, for each input, the hash by which DVC knows it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sqlite3
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock

from spurious.errors import UserError
from spurious.files import inside, md5
from spurious.processes import is_gone, this_process

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from spurious.data.maps import MapSet

STORE = Path("mlruns")
ALIAS = "current"
MOST = 10_000  # runs that one stage may have left open
PROCESS = "process"  # tag that says whose run it is
# What decides the numbers of a run, beside the code at the commit.
PACKAGES = ("spurious", "tensorflow", "keras", "tensorflow-probability", "numpy", "scipy", "camb")
# What a run is made of, in the folder where it runs: not what it writes, which git may keep too.
SOURCES = (
    "src",
    ":(glob)*.py",
    "params.yaml",
    "designs",
    "dvc.yaml",
    "data.dvc",
    "requirements.txt",
)


class Run(Protocol):
    """What a stage can say about itself while it runs."""

    id: str

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters; nested mappings become dotted names."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """Final numbers."""

    def series(self, values: Mapping[str, Sequence[float]]) -> None:
        """Curves: the i-th value is logged at step i."""

    def figure(self, figure: Figure, name: str) -> None:
        """A figure, kept as the artifact `name`."""

    def artifact(self, path: Path) -> None:
        """A file, kept under its own name."""

    def artifacts(self, folder: Path, name: str) -> None:
        """All files of a folder, kept below `name`."""

    def dataset(self, data: MapSet, path: Path, context: str, stored: Path | None = None) -> None:
        """The data set that the run read or, while it is `stored` elsewhere, will write."""

    def model(
        self, model: keras.Model, example: Any, name: str, current: bool = True, card: str = ""
    ) -> None:
        """A Keras model with its signature, registered as `name`, `current` with that alias.

        A `card`, Markdown, describes this version of it.
        """

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Keras callbacks that log the metrics of each epoch."""

    def child(
        self, name: str, tags: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Run]:
        """A run below this one; it has this one's tags and its own."""


class NullRun:
    """Tracks nothing."""

    id = "untracked"

    def params(self, values: Mapping[str, Any]) -> None: ...
    def metrics(self, values: Mapping[str, float]) -> None: ...
    def series(self, values: Mapping[str, Sequence[float]]) -> None: ...
    def figure(self, figure: Figure, name: str) -> None: ...
    def artifact(self, path: Path) -> None: ...
    def artifacts(self, folder: Path, name: str) -> None: ...
    def dataset(
        self, data: MapSet, path: Path, context: str, stored: Path | None = None
    ) -> None: ...
    def model(
        self, model: keras.Model, example: Any, name: str, current: bool = True, card: str = ""
    ) -> None: ...
    def callbacks(self) -> list[keras.callbacks.Callback]:
        return []

    def child(
        self, name: str, tags: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Run]:
        return nullcontext(NullRun())


class MlflowRun:
    """The active MLflow run; while a child is open, the child is.

    It may be sent to another process, there to open children.
    """

    def __init__(self, run_id: str, tags: Mapping[str, str], experiment: str, store: Path) -> None:
        self.id, self.tags, self.experiment, self.store = run_id, tags, experiment, store

    def params(self, values: Mapping[str, Any]) -> None:
        import mlflow

        mlflow.log_params(flatten(values))

    def metrics(self, values: Mapping[str, float]) -> None:
        import mlflow

        mlflow.log_metrics(dict(values))

    def series(self, values: Mapping[str, Sequence[float]]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        points = [
            Metric(name, float(value), timestamp=step, step=step)
            for name, curve in values.items()
            for step, value in enumerate(curve)
        ]
        for first in range(0, len(points), 1000):  # MLflow's limit for one batch
            MlflowClient().log_batch(self.id, metrics=points[first : first + 1000])

    def figure(self, figure: Figure, name: str) -> None:
        import mlflow

        mlflow.log_figure(figure, name)

    def artifact(self, path: Path) -> None:
        import mlflow

        mlflow.log_artifact(str(path))

    def artifacts(self, folder: Path, name: str) -> None:
        import mlflow

        mlflow.log_artifacts(str(folder), name)

    def dataset(self, data: MapSet, path: Path, context: str, stored: Path | None = None) -> None:
        import mlflow
        from mlflow.data.numpy_dataset import from_numpy

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a hint on integer columns, of which there are none
            digest = md5(stored or path)
            source = from_numpy(
                data.maps, targets=data.labels, source=str(path), name=path.stem, digest=digest
            )
            mlflow.log_input(source, context=context)

    def model(
        self, model: keras.Model, example: Any, name: str, current: bool = True, card: str = ""
    ) -> None:
        import mlflow
        from mlflow import MlflowClient
        from mlflow.models import infer_signature

        outputs = model.predict(example, verbose=0)
        if len(model.outputs) > 1:
            outputs = dict(zip(model.output_names, outputs, strict=True))
        with FileLock(self.store / ".models.lock"):  # several trainings may end at once
            logged = mlflow.keras.log_model(
                model,
                name="network",
                signature=infer_signature(example, outputs),
                pip_requirements=["spurious", "tensorflow", "keras"],
                registered_model_name=name,
            )
            version = str(logged.registered_model_version)
            if card:
                MlflowClient().update_model_version(name, version, description=card)
            if current:
                MlflowClient().set_registered_model_alias(name, ALIAS, version)

    def callbacks(self) -> list[keras.callbacks.Callback]:
        import mlflow.keras

        return [mlflow.keras.MlflowCallback()]

    @contextmanager
    def child(self, name: str, tags: Mapping[str, str] | None = None) -> Iterator[Run]:
        import mlflow

        if mlflow.active_run() is None:  # in a process that was sent this run
            _connect(self.store, self.experiment)
        every = {**self.tags, **(tags or {})}
        options = {"nested": True, "parent_run_id": self.id, "log_system_metrics": False}
        with _opened(name, every, **options) as run_id:
            yield MlflowRun(run_id, every, self.experiment, self.store)


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's numbers by name: `x`, and where it has an interval `x`, `x.low` and `x.high`."""
    flat: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, int | float):
            flat[name] = value
        elif isinstance(value, Mapping) and "mean" in value:
            flat |= {
                name: value["mean"],
                f"{name}.low": value["low"],
                f"{name}.high": value["high"],
            }
    return flat


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


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
    tracks nothing.
    """
    if os.environ.get("SPURIOUS_TRACKING") == "off":
        yield NullRun()
        return
    item = {"stage": stage, **(tags or {})}
    with _explained(store):
        ensure_store(store, experiment)
        _connect(store, experiment)
        close_dead(experiment, item, store)
    every = {**item, PROCESS: this_process(), **provenance(inputs, params_file)}
    name = " ".join(item.values())
    with _opened(name, every, log_system_metrics=True) as run_id:
        try:
            yield MlflowRun(run_id, every, experiment, store)
        finally:
            # The processes that worked for this run have ended, perhaps by force.
            _close(_running(experiment, {"mlflow.parentRunId": run_id}, store), store)


@contextmanager
def _opened(name: str, tags: Mapping[str, str], **options: Any) -> Iterator[str]:
    """A run, by its id, that is marked by how the block ends."""
    import mlflow

    run = mlflow.start_run(run_name=name, tags=dict(tags), **options)
    try:
        yield run.info.run_id
    except Exception:
        mlflow.end_run("FAILED")
        raise
    except BaseException:  # Ctrl-C, SIGTERM
        mlflow.end_run("KILLED")
        raise
    else:
        mlflow.end_run()


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


@contextmanager
def _explained(store: Path) -> Iterator[None]:
    """What is wrong with the store, in one line; MLflow itself logs tracebacks of it.

    Raises:
        UserError: the database is damaged or none, or MLflow refuses it.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    database, log = store / "mlflow.db", logging.getLogger("mlflow")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        _check_database(database)
        yield
    except (SQLAlchemyError, sqlite3.Error, FileExistsError, NotADirectoryError) as error:
        told = f"is damaged or is no MLflow store: {_reason(error)}"
        raise UserError(f"{database} {told}; move it away to begin another") from error
    except MlflowException as error:
        raise UserError(f"{database} cannot be used: {_reason(error)}") from error
    finally:
        log.setLevel(level)


def _check_database(path: Path) -> None:
    """Read through the database, if there is one: what is broken may lie where nobody looks yet.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    if not path.exists():
        return
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", timeout=60, uri=True)) as db:
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:200]


def _connect(store: Path, experiment: str) -> None:
    """Make MLflow write to this store and experiment."""
    import mlflow

    for chatty in ("mlflow", "mlflow.system_metrics", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri(store))
    mlflow.set_experiment(experiment)


def uri(store: Path = STORE) -> str:
    """Tracking URI of the SQLite store below `store`.

    Absolute: MLflow keeps one open store for each URI, whatever the current folder is by then.
    """
    return f"sqlite:///{(store / 'mlflow.db').resolve()}"


def ensure_store(store: Path, experiment: str) -> None:
    """Create the database and the experiment once, however many processes ask at the same time."""
    from mlflow import MlflowClient

    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store / ".lock"):
        client = MlflowClient(uri(store))
        if client.get_experiment_by_name(experiment) is None:
            location = inside(store / "artifacts", experiment)
            _make_relative(store, client.create_experiment(experiment), location)


def save_view(
    experiment: str, name: str, query: str, columns: Sequence[str], store: Path = STORE
) -> None:
    """Keep a view of the experiment's runs: which of them, and which columns, sorted by the first.

    The MLflow UI lists it under "Views" and opens it at `?viewStateShareKey=<name>`.

    Args:
        experiment: its name; nothing happens if it has no run.
        name: of the view.
        query: MLflow's filter of runs.
        columns: metrics.
        store: the tracking store.
    """
    from mlflow import MlflowClient

    if not (store / "mlflow.db").exists():
        return
    with _explained(store):
        client = MlflowClient(uri(store))
        found = client.get_experiment_by_name(experiment)
    if found is None:
        return
    shown = [f"metrics.`{column}`" for column in columns]
    state = {
        "searchFilter": query,
        "orderByKey": shown[0],
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": shown,
    }
    client.set_experiment_tag(
        found.experiment_id, f"mlflow.sharedViewState.{name}", json.dumps(state)
    )


def _make_relative(store: Path, experiment_id: str, location: Path) -> None:
    """Store the artifact location relative to the project, so that a moved checkout keeps it.

    MLflow's own API makes every local location absolute.
    """
    with closing(sqlite3.connect(store / "mlflow.db")) as database, database:
        database.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
            (str(location), int(experiment_id)),
        )


def provenance(inputs: Sequence[Path], params_file: Path) -> dict[str, str]:
    """Tags that say what a run was made of: commit, execution, versions, hash of each input.

    `git.dirty` says whether code or parameters (`SOURCES`) differ from the commit, new files too.
    """
    commit = _git("rev-parse", "HEAD") or "none"
    tags = {
        "git.commit": commit,
        "git.dirty": str(bool(_git("status", "--porcelain", "--", *SOURCES))).lower(),
        "pipeline": _pipeline(commit, params_file),
        "version.python": platform.python_version(),
    }
    if "DVC_EXP_NAME" in os.environ:
        tags["dvc.experiment"] = os.environ["DVC_EXP_NAME"]
    versions = {f"version.{name}": metadata.version(name) for name in PACKAGES}
    return tags | versions | {f"dvc.{path}": md5(path) for path in inputs}


def _pipeline(commit: str, params_file: Path) -> str:
    """The same for all stages run at one commit with one params.yaml."""
    digest = hashlib.sha256(commit.encode())
    if params_file.is_file():
        digest.update(params_file.read_bytes())
    return digest.hexdigest()[:12]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
