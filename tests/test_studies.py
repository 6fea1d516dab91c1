"""Opening a study: files, servers, and what is said of one that cannot be used."""

import socket
from pathlib import Path

import optuna
import pytest
from optuna.storages._heartbeat import is_heartbeat_enabled

from spurious.errors import UserError
from spurious.studies import VARIABLE, choose_storage, open_study, shown


def test_a_file_is_made_with_its_folder_and_opened_again(tmp_path):
    path = tmp_path / "deep" / "study.db"
    study = open_study(path, "one", "minimize")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert open_study(str(path), "one", "minimize").best_value == 1.0
    assert open_study(f"sqlite:///{path}", "one", "minimize").best_value == 1.0
    assert not open_study(path, "two").trials


def test_heartbeats_are_on(tmp_path):
    storage = open_study(tmp_path / "s.db", "one")._storage
    assert storage.get_heartbeat_interval() == 15
    assert is_heartbeat_enabled(storage)


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\x00" + b"\x01" * 4000]
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "study.db"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"study\.db is damaged") as caught:
        open_study(path, "one")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_study(tmp_path):
    with pytest.raises(UserError, match="damaged or is no"):
        open_study(tmp_path, "one")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgres"])
def test_a_server_that_does_not_answer_is_named_without_its_password(scheme):
    port = free_port()
    url = f"{scheme}://user:s3cret%21@127.0.0.1:{port}/name"
    with pytest.raises(UserError, match=f"127.0.0.1:{port}/name cannot be used") as caught:
        open_study(url, "one")
    message = str(caught.value)
    assert "s3cret" not in message
    assert "\n" not in message
    assert "user" in message


def test_a_password_among_the_options_is_hidden_too():
    url = f"postgresql://127.0.0.1:{free_port()}/name?user=me&password=s3cret"
    with pytest.raises(UserError) as caught:
        open_study(url, "one")
    assert "s3cret" not in str(caught.value)


def test_a_driver_that_is_missing_is_named():
    with pytest.raises(UserError, match="driver is not installed; pip install pymysql"):
        open_study("mysql://user:s3cret@127.0.0.1/name", "one")


@pytest.mark.parametrize("url", ["nonsense://x:s3cret@y/z", "postgresql://u:s3cret@host:port/z"])
def test_a_url_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(UserError) as caught:
        open_study(url, "one")
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("spurious.studies.PATIENCE", 1)
    port = free_port()
    with pytest.raises(UserError, match=f"grpc://127.0.0.1:{port} does not answer"):
        open_study(f"grpc://127.0.0.1:{port}", "one")
    for url in ("grpc://127.0.0.1", "grpc://127.0.0.1:port"):
        with pytest.raises(UserError, match="must be grpc://HOST:PORT"):
            open_study(url, "one")


def test_the_command_line_goes_before_the_environment(monkeypatch):
    default = Path("mlruns/optuna.db")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert choose_storage(None, default) == default
    monkeypatch.setenv(VARIABLE, "postgresql://host/name")
    assert choose_storage(None, default) == "postgresql://host/name"
    assert choose_storage("other.db", default) == "other.db"


def test_shown_keeps_all_but_the_password():
    assert shown(Path("a/b.db")) == "a/b.db"
    assert shown("postgresql://me:s3cret@host:5432/name") == "postgresql://me:***@host:5432/name"
    assert shown("postgresql://me@host/name") == "postgresql://me@host/name"
