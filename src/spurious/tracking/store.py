"""Where runs are: a SQLite database below `mlruns/`, made once and explained when it is broken.

`SPURIOUS_TRACKING` names an MLflow server in its place, or is `off`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from filelock import FileLock

from spurious.errors import UserError
from spurious.files import inside

STORE = Path("mlruns")
VARIABLE = "SPURIOUS_TRACKING"
PATIENCE = 10  # seconds for a server to answer; MLflow itself tries for minutes
KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI takes others for GenAI


def is_off() -> bool:
    """Whether nothing is to be tracked."""
    return os.environ.get(VARIABLE) == "off"


def server() -> str | None:
    """Address of the MLflow server that is used in place of a file, if one is named.

    Raises:
        UserError: the variable holds something else, or a password, which every process could read.
    """
    named = os.environ.get(VARIABLE, "off")
    if named in ("", "off"):
        return None
    parts = urlsplit(named)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise UserError(
            f"{VARIABLE} must be off, or http://HOST:PORT or https://HOST:PORT of an MLflow "
            "server; MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are for its user"
        )
    return named


def exists(store: Path = STORE) -> bool:
    """Whether anything can have been tracked."""
    return server() is not None or (store / "mlflow.db").exists()


def uri(store: Path = STORE) -> str:
    """Tracking URI of the server, if one is named, else of the SQLite store below `store`.

    The latter is absolute: MLflow keeps one open store for each URI, whatever the current folder
    is by then.
    """
    return server() or f"sqlite:///{(store / 'mlflow.db').resolve()}"


def ensure_store(store: Path, experiment: str) -> None:
    """Create the database and the experiment once, however many processes ask at the same time."""
    from mlflow import MlflowClient

    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store / ".lock"):
        client = MlflowClient(uri(store))
        if client.get_experiment_by_name(experiment) is not None:
            return
        if server():
            client.create_experiment(experiment, tags=KIND)
        else:
            location = inside(store / "artifacts", experiment)
            _make_relative(store, client.create_experiment(experiment, tags=KIND), location)


def connect(store: Path, experiment: str) -> None:
    """Make MLflow write to this store and experiment."""
    import mlflow

    for chatty in ("mlflow", "mlflow.system_metrics", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri(store))
    mlflow.set_experiment(experiment)


@contextmanager
def unspoken() -> Iterator[None]:
    """Leave out what MLflow prints past its logger, such as that a model is registered."""
    from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM as stream

    before, stream.enabled = stream.enabled, False
    try:
        yield
    finally:
        stream.enabled = before


@contextmanager
def explained(store: Path) -> Iterator[None]:
    """What is wrong with the store, in one line; MLflow itself logs tracebacks of it.

    Raises:
        UserError: the database is damaged or none, or MLflow refuses it.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    database: Path | str = server() or store / "mlflow.db"
    log = logging.getLogger("mlflow")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        if isinstance(database, Path):
            _check_database(database)
        else:
            _check_server(database)
        yield
    except (SQLAlchemyError, sqlite3.Error, FileExistsError, NotADirectoryError) as error:
        problem = f"is damaged or is no MLflow store: {_reason(error)}"
        raise UserError(f"{database} {problem}; move it away to begin another") from error
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


def _check_server(address: str) -> None:
    """Raises a UserError if it does not answer."""
    try:
        with urlopen(f"{address.rstrip('/')}/health", timeout=PATIENCE):
            pass
    except HTTPError:  # it answers; what it refuses, MLflow will say
        pass
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{VARIABLE} = {address}: no MLflow server answers: {reason}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:200]


def _make_relative(store: Path, experiment_id: str, location: Path) -> None:
    """Store the artifact location relative to the project, so that a moved checkout keeps it.

    MLflow's own API makes every local location absolute.
    """
    with closing(sqlite3.connect(store / "mlflow.db")) as database, database:
        database.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
            (str(location), int(experiment_id)),
        )
