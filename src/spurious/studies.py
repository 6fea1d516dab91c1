"""Where studies live: a SQLite file, a database server, or Optuna's gRPC proxy of one.

A storage is the path of a SQLite file, which is made when missing; a URL such as
`postgresql://user:password@host/name` or `mysql://...`; or `grpc://host:port`, behind which
`optuna.storages.run_grpc_proxy_server` runs. Several workers may share any of them, but a SQLite
file only where all of them see the same local disk.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from spurious.errors import UserError

VARIABLE = "SPURIOUS_STORAGE"
DRIVERS = {"postgres": "psycopg", "postgresql": "psycopg", "mysql": "pymysql"}
PATIENCE = 10  # seconds for a server to answer
LOCKED = 60  # seconds for another process to end its transaction on a SQLite file
ATTEMPTS = 5  # to make the tables: two processes that do it at once get into each other's way


class Heartbeat(NamedTuple):
    """A worker says that it is alive every `interval` seconds, and is dead after `grace`."""

    interval: int = 15
    grace: int = 60


HEARTBEAT = Heartbeat()


def open_study(
    storage: str | Path,
    name: str,
    direction: Literal["minimize", "maximize"] = "maximize",
    *,
    pruner: optuna.pruners.BasePruner | None = None,
    heartbeat: Heartbeat = HEARTBEAT,
) -> optuna.Study:
    """Open a study, or begin it.

    Args:
        storage: see the top of the module.
        name: of the study; a storage holds many.
        direction: of the value.
        pruner: when to end a trial early.
        heartbeat: when a trial's worker counts as dead.

    Raises:
        UserError: the file is damaged, the server does not answer, or there is no driver for it.
    """
    with explained(storage):
        return optuna.create_study(
            storage=open_storage(storage, heartbeat),
            study_name=name,
            direction=direction,
            pruner=pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )


def choose_storage(given: str | None, default: Path) -> str | Path:
    """The storage that was given, or that of the environment, or else the default."""
    return given or os.environ.get(VARIABLE) or default


@contextmanager
def explained(storage: str | Path) -> Iterator[None]:
    """What goes wrong with a storage, in one line without passwords."""
    import grpc

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, RuntimeError, ImportError) as error:
        if not _is_about_storage(error):
            raise
        raise UserError(_explain(storage, error)) from _without_secrets(error)
    except (ConnectionError, grpc.RpcError) as error:
        raise UserError(f"{shown(storage)} does not answer: no Optuna gRPC proxy there") from error


def shown(storage: str | Path) -> str:
    """A storage as it may be printed: without passwords."""
    if not _is_url(storage):
        return str(storage)
    return _scrubbed(str(storage), str(storage))


def _is_url(storage: str | Path) -> bool:
    return isinstance(storage, str) and "://" in storage


def open_storage(storage: str | Path, heartbeat: Heartbeat = HEARTBEAT) -> BaseStorage:
    """Open a storage as it is; `explained` says what is wrong with it."""
    if _is_url(storage) and str(storage).startswith("grpc:"):
        return _proxy(str(storage))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
        for left in reversed(range(ATTEMPTS)):
            try:
                return RDBStorage(
                    _url(storage),
                    engine_kwargs={"connect_args": _patience(storage)},
                    heartbeat_interval=heartbeat.interval,
                    grace_period=heartbeat.grace,
                )
            except (ProgrammingError, IntegrityError, OperationalError) as error:
                if not left or not _made_by_another(error):
                    raise
                time.sleep(0.2)
    raise AssertionError  # the last attempt returns or raises


def _made_by_another(error: SQLAlchemyError) -> bool:
    """Whether another process was making the same tables."""
    text = str(error).lower()
    return any(words in text for words in ("already exists", "unique", "duplicate"))


def _proxy(storage: str) -> GrpcStorageProxy:
    parts = urlsplit(storage)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number
        host, port = None, None
    if host is None or port is None:
        raise UserError(f"{shown(storage)}: must be grpc://HOST:PORT")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=host, port=port)
    proxy.wait_server_ready(timeout=PATIENCE)
    return proxy


def _url(storage: str | Path) -> str:
    """For SQLAlchemy, with our driver where none is named."""
    if not _is_url(storage):
        path = Path(storage).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{path}"
    scheme, rest = str(storage).split("://", 1)
    if scheme in DRIVERS:
        dialect = "postgresql" if scheme == "postgres" else scheme
        storage = f"{dialect}+{DRIVERS[scheme]}://{rest}"
    try:
        make_url(str(storage))
    except (ArgumentError, ValueError) as error:
        raise UserError(_explain(storage, ArgumentError())) from _without_secrets(error)
    return str(storage)


def _patience(storage: str | Path) -> dict[str, int]:
    if not _is_url(storage) or str(storage).startswith("sqlite"):
        return {"timeout": LOCKED}
    return {"connect_timeout": PATIENCE}


def _is_about_storage(error: Exception) -> bool:
    """Optuna says RuntimeError of another version's tables, ImportError of a missing driver."""
    if isinstance(error, RuntimeError) and not isinstance(error, StorageInternalError):
        return type(error) is RuntimeError and "storage" in str(error).lower()
    if isinstance(error, ImportError):
        return "DB access module" in str(error) or error.name in DRIVERS.values()
    return True


def _explain(storage: str | Path, error: Exception) -> str:
    name = shown(storage)
    if isinstance(error, ImportError):
        scheme = str(storage).split(":", 1)[0].split("+")[0]
        package = {"psycopg": "psycopg[binary]"}.get(DRIVERS.get(scheme, ""), DRIVERS.get(scheme))
        return f"{name}: its driver is not installed{f'; pip install {package}' if package else ''}"
    if isinstance(error, ArgumentError):
        return f"{name}: no database that SQLAlchemy knows; give a file, a URL or grpc://HOST:PORT"
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    reason = _scrubbed(" ".join(str(cause).split())[:200], str(storage))
    if _is_url(storage):
        return f"{name} cannot be used: {reason}"
    return f"{name} is damaged or is no Optuna study: {reason}"


def _without_secrets(error: Exception) -> Exception | None:
    """What SQLAlchemy says of a URL quotes it."""
    return None if isinstance(error, ArgumentError | ValueError) else error


def _scrubbed(text: str, url: str) -> str:
    """Without the passwords of a URL, in its user part or its options."""
    for secret in _secrets(url):
        text = text.replace(secret, "***")
    return text


def _secrets(url: str) -> list[str]:
    try:
        parsed = make_url(url)
        found = [str(parsed.password)] if parsed.password else []
    except (ArgumentError, ValueError):  # not a URL that could be used: hide all between : and @
        found = [url.split("://", 1)[-1].rsplit("@", 1)[0].split(":", 1)[-1]] if "@" in url else []
    options = parse_qsl(url.partition("?")[2])
    found += [value for key, value in options if "pass" in key.lower()]
    return [form for secret in found for form in (secret, quote(secret, safe=""), quote(secret))]
