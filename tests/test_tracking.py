"""Tracking against a real MLflow store."""

import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import keras
import mlflow
import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from spurious import tracking
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.tracking import ui, views

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with one commit, as the current folder."""
    monkeypatch.chdir(tmp_path)
    for command in (
        ["init", "-q"],
        ["config", "user.email", "a@example.org"],
        ["config", "user.name", "a"],
        ["commit", "-q", "--allow-empty", "-m", "first"],
    ):
        subprocess.run(["git", *command], check=True)
    Path("params.yaml").write_text("seed: 1\n")
    return tmp_path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with the experiment `pilot`, which MLflow takes a second to make."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # it keeps its artifacts by a path relative to the project
        tracking.ensure_store(Path("mlruns"), "pilot")
    return folder / "mlruns"


@pytest.fixture
def tracked(project, store):
    """That project with a store of its own."""
    shutil.copytree(store, project / "mlruns")
    return project


def commit():
    return subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()


def test_a_run_keeps_what_it_was_told_and_what_it_was_made_of(project):
    source = Path("maps.h5")
    source.write_bytes(b"content")
    numbers = np.arange(3)
    data = MapSet(np.ones((3, 4, 4), np.float32), np.zeros((3, 2)), numbers, numbers, numbers, 1.0)
    tags = {"attack": "bim"}
    with tracking.start("attack", "pilot", inputs=[source], tags=tags) as log:
        log.params({"alpha": {"value": 0.1, "unit": "std"}, "steps": 10})
        log.metrics({"kl": 1.5})
        log.series({"change": [0.1, 0.2, 0.3]})
        log.figure(Figure(), "empty.png")
        log.artifact(source)
        log.dataset(data, source, context="test")
    client = MlflowClient(tracking.uri())
    run = client.get_run(log.id)
    assert run.data.params == {"alpha.value": "0.1", "alpha.unit": "std", "steps": "10"}
    assert run.data.metrics["kl"] == 1.5
    assert [m.value for m in client.get_metric_history(log.id, "change")] == [0.1, 0.2, 0.3]
    assert run.data.tags["git.commit"] == commit()
    assert run.data.tags["dvc.maps.h5"] == hashlib.md5(b"content").hexdigest()
    assert run.data.tags["attack"] == "bim"
    assert run.data.tags["version.numpy"] == np.__version__
    assert run.inputs.dataset_inputs[0].dataset.digest == hashlib.md5(b"content").hexdigest()
    assert {a.path for a in client.list_artifacts(log.id)} == {"empty.png", "maps.h5"}


def test_a_child_is_found_below_its_parent_and_carries_its_tags(tracked):
    folder = Path("maps")
    folder.mkdir()
    (folder / "worst.txt").write_text("worst")
    with tracking.start("attack", "pilot", tags={"group": "paper"}) as log:
        with log.child("bim", {"attack": "bim"}) as one:
            one.metrics({"kl": 4.0})
            one.artifacts(folder, "examples")
        with pytest.raises(RuntimeError), log.child("fgsm") as other:
            raise RuntimeError
        log.metrics({"best": 4.0})
    client = MlflowClient(tracking.uri())
    parent, child = client.get_run(log.id), client.get_run(one.id)
    assert child.data.tags["mlflow.parentRunId"] == log.id
    assert child.data.tags["pipeline"] == parent.data.tags["pipeline"]
    assert (child.data.tags["group"], child.data.tags["attack"]) == ("paper", "bim")
    assert (child.data.metrics, parent.data.metrics["best"]) == ({"kl": 4.0}, 4.0)
    assert "kl" not in parent.data.metrics
    assert [a.path for a in client.list_artifacts(one.id, "examples")] == ["examples/worst.txt"]
    assert client.get_run(other.id).info.status == "FAILED"
    assert parent.info.status == "FINISHED"


def test_the_last_finished_run_of_each_stage_is_listed_in_order(tracked):
    ids = []
    for stage, tags in (("train", {"item": "a"}), ("attack", {}), ("train", {"item": "a"})):
        with tracking.start(stage, "pilot", tags=tags) as run:
            ids.append(run.id)
            with run.child("inner"):
                pass
    with pytest.raises(ZeroDivisionError), tracking.start("attack", "pilot"):
        _ = 1 / 0
    found = tracking.last_runs("pilot")
    assert [(one["name"], one["id"]) for one in found] == [("attack", ids[1]), ("train a", ids[2])]
    assert {one["commit"] for one in found} == {commit()}
    assert all(one["seconds"] >= 0 for one in found)


def test_without_a_store_no_run_is_listed(project):
    assert tracking.last_runs("pilot") == []
    assert not Path("mlruns").exists()


def attacks(**damages):
    """Runs of attacks with this damage, by name."""
    ids = {}
    with tracking.start("attack", "pilot", tags={"group": "paper"}) as log:
        for name, damage in damages.items():
            with log.child(name, {"attack": name}) as one:
                one.metrics({"damage": damage})
                one.document({"steps": (1, 2)}, "parameters.json")
            ids[name] = one.id
    return ids


def in_the_view():
    """Names of the runs that the view shows, in its order, and its state."""
    client = MlflowClient(tracking.uri())
    experiment = client.get_experiment_by_name("pilot")
    view = json.loads(experiment.tags["mlflow.sharedViewState.attacks"])
    order = f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"
    found = client.search_runs([experiment.experiment_id], view["searchFilter"], order_by=[order])
    return [run.info.run_name for run in found], view


def test_the_view_shows_the_attacks_of_the_last_run_by_their_damage(project):
    tracking.show_attacks("pilot", {"none": {}})  # no store yet
    first = attacks(bim=4.0, dropped=1.0)
    tracking.show_attacks("other", {one: {} for one in first.values()})  # no such experiment
    known = {"auroc": 0.9, "verdict": "noticed"}
    tracking.show_attacks("pilot", {one: known for one in first.values()})
    assert in_the_view()[0] == ["bim", "dropped"]
    second = attacks(fgsm=0.1, bim=5.0)
    tracking.show_attacks("pilot", {**{one: {} for one in second.values()}, "0" * 32: known})
    names, view = in_the_view()
    assert names == ["bim", "fgsm"]
    shown = {"metrics.`damage`", "metrics.`auroc`", "params.`budget`", "tags.`verdict`"}
    assert shown <= set(view["selectedColumns"])
    run = MlflowClient(tracking.uri()).get_run(first["bim"])
    assert (run.data.metrics["auroc"], run.data.tags["verdict"]) == (0.9, "noticed")
    assert "latest" not in run.data.tags


def test_the_view_has_damage_as_bars_and_against_the_change_of_power():
    charts = views.charts()
    assert charts[0]["type"] == "BAR" and charts[0]["metricKey"] == "damage"
    axes = [(one["xaxis"]["key"], one["yaxis"]["key"]) for one in charts if "xaxis" in one]
    assert axes[0] == ("power_change", "damage")
    assert len({one["uuid"] for one in charts}) == len(charts)
    assert {one["metricSectionId"] for one in charts} == {views.sections()[0]["uuid"]}


def test_the_addresses_of_the_views_begin_with_the_experiment_used_last(project):
    with pytest.raises(UserError, match=r"mlruns/mlflow\.db is missing"):
        ui.addresses("http://h")
    for name in ("pilot", "mine"):
        with tracking.start("attack", name):
            pass
    found = ui.addresses("http://h")
    assert list(found) == ["mine", "pilot"]
    experiment = MlflowClient(tracking.uri()).get_experiment_by_name("mine")
    assert f"http://h/#/experiments/{experiment.experiment_id}/runs?" in found["mine"]
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "mlflow.sharedViewState.attacks" in experiment.tags


def test_what_is_not_compared_is_an_artifact(tracked):
    run = attacks(bim=1.0)["bim"]
    path = MlflowClient(tracking.uri()).download_artifacts(run, "parameters.json")
    assert json.loads(Path(path).read_text()) == {"steps": [1, 2]}


def test_stages_at_one_commit_with_one_parameter_file_share_the_pipeline_tag(project):
    def tag():
        return tracking.provenance([], Path("params.yaml"))["pipeline"]

    first = tag()
    assert tag() == first
    Path("params.yaml").write_text("seed: 2\n")
    assert tag() != first


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A fresh clone of this repository."""
    folder = tmp_path_factory.mktemp("clone") / "spurious"
    subprocess.run(["git", "clone", "-q", "--depth", "1", ROOT.as_uri(), folder], check=True)
    return folder


@pytest.mark.parametrize(
    ("path", "dirty"),
    [
        (None, "false"),
        ("results/pilot/search.json", "false"),  # kept by git, and written by the run itself
        ("dvc.lock", "false"),
        ("README.md", "false"),
        ("params.yaml", "true"),
        ("dvc.yaml", "true"),
        ("requirements.txt", "true"),
        ("src/spurious/bootstrap.py", "true"),
        ("src/spurious/report/templates/report.html.j2", "true"),
        ("src/spurious/new.py", "true"),  # code that no commit has
        ("my_effects.py", "true"),  # the place of a perturbation of one's own
    ],
)
def test_a_run_is_dirty_if_its_code_or_parameters_differ_from_the_commit(
    clone, monkeypatch, path, dirty
):
    monkeypatch.chdir(clone)
    before = Path(path).read_bytes() if path and Path(path).exists() else None
    if path:
        Path(path).write_bytes((before or b"") + b"\n")
    try:
        tags = tracking.provenance([], Path("params.yaml"))
    finally:
        if before is not None:
            Path(path).write_bytes(before)
        elif path:
            Path(path).unlink()
    assert (tags["git.dirty"], len(tags["git.commit"])) == (dirty, 40)


def test_an_exception_marks_the_run_as_failed(tracked):
    with pytest.raises(RuntimeError), tracking.start("train", "pilot") as log:
        raise RuntimeError
    assert MlflowClient(tracking.uri()).get_run(log.id).info.status == "FAILED"


def test_a_model_is_registered_without_a_word(tracked, capfd):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    example = np.ones((1, 2), np.float32)
    for number in (1, 2):
        with tracking.start("train", "pilot") as log:
            log.model(model, example, "pilot-mine")
        found = MlflowClient(tracking.uri()).get_model_version_by_alias("pilot-mine", "current")
        assert (int(found.version), found.run_id) == (number, log.id)
    said = capfd.readouterr().err
    assert "egistered model" not in said and "Created version" not in said


def test_artifacts_survive_moving_the_project(project, monkeypatch):
    with tracking.start("train", "pilot") as log:
        Path("note.txt").write_text("kept")
        log.artifact(Path("note.txt"))
    moved = project.parent / f"{project.name}-moved"
    shutil.copytree(project, moved)
    shutil.rmtree(project / "mlruns")
    monkeypatch.chdir(moved)
    mlflow.set_tracking_uri(tracking.uri())
    path = mlflow.artifacts.download_artifacts(run_id=log.id, artifact_path="note.txt")
    assert Path(path).read_text() == "kept"


@pytest.mark.slow
def test_processes_that_race_for_the_store_all_find_it(project):
    code = (
        "from pathlib import Path; from spurious import tracking; "
        "tracking.ensure_store(Path('mlruns'), 'pilot')"
    )
    racing = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(timeout=50) for process in racing] == [0, 0]
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database:
        names = [row[0] for row in database.execute("SELECT name FROM experiments")]
    assert sorted(names) == ["Default", "pilot"]


def test_tracking_can_be_switched_off(project, monkeypatch):
    monkeypatch.setenv("SPURIOUS_TRACKING", "off")
    with tracking.start("train", "pilot") as log:
        log.metrics({"kl": 1.0})
        assert log.callbacks() == []
    assert not Path("mlruns").exists()
    monkeypatch.delenv("SPURIOUS_TRACKING")
    run = attacks(bim=1.0)["bim"]
    monkeypatch.setenv("SPURIOUS_TRACKING", "off")
    tracking.show_attacks("pilot", {run: {}})
    assert "latest" not in MlflowClient(tracking.uri()).get_run(run).data.tags


DYING = """
import os, signal, sys
from spurious import tracking
with tracking.start("attack", "pilot", tags={"group": sys.argv[1]}) as log:
    with log.child("bim", {"attack": "bim"}) as one:
        print(log.id, one.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def statuses(*runs):
    client = MlflowClient(tracking.uri())
    return [client.get_run(run).info.status for run in runs]


@pytest.mark.slow
def test_runs_of_a_dead_process_are_closed_at_the_next_start_of_their_stage(tracked):
    dead = {
        group: subprocess.run(
            [sys.executable, "-c", DYING, group], capture_output=True, text=True, check=False
        ).stdout.split()
        for group in ("paper", "controls")
    }
    open_runs = ["RUNNING", "RUNNING"]
    with tracking.start("attack", "other", tags={"group": "paper"}):
        pass
    with tracking.start("search", "pilot"):
        pass
    assert statuses(*dead["paper"]) == statuses(*dead["controls"]) == open_runs
    with tracking.start("attack", "pilot", tags={"group": "paper"}) as alive:
        assert statuses(*dead["paper"]) == ["KILLED", "KILLED"]
        tracking.close_dead("pilot", {"stage": "attack", "group": "paper"})
        assert statuses(alive.id) == ["RUNNING"]
    assert statuses(*dead["controls"], alive.id) == [*open_runs, "FINISHED"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"), (OSError, "FAILED")],
)
def test_a_run_says_how_it_was_stopped_and_the_one_above_too(tracked, error, status):
    with pytest.raises(error), tracking.start("attack", "pilot") as log, log.child("a") as one:
        raise error
    assert statuses(log.id, one.id) == [status, status]
    assert mlflow.active_run() is None


def test_what_a_process_left_open_below_a_run_is_closed_with_it(tracked):
    """As when a process that worked for it was killed for want of memory."""
    with tracking.start("attack", "pilot") as log:
        with log.child("a") as done:
            pass
        tags = {"mlflow.parentRunId": log.id}
        experiment = MlflowClient().get_run(log.id).info.experiment_id
        left = MlflowClient().create_run(experiment, tags=tags).info.run_id
    assert statuses(log.id, done.id, left) == ["FINISHED", "FINISHED", "KILLED"]


def damaged(store, how):
    """A copy of a store, spoilt; nothing but the store is there."""
    database = Path("mlruns") / "mlflow.db"
    if how == "a file in place of the folder":
        Path("mlruns").write_text("x")
        return
    if how == "a folder":
        database.mkdir(parents=True)
        return
    shutil.copytree(store, "mlruns")
    content = bytearray(database.read_bytes())
    with closing(sqlite3.connect(database)) as opened, opened:
        if how == "of another version":
            opened.execute("UPDATE alembic_version SET version_num = '0'")
        if how == "without a table":
            opened.execute("DROP TABLE experiments")
    changed = {
        "no database": b"not a database" * 100,
        "only a header": b"SQLite format 3\x00" + b"\x01" * 4000,
        "cut off": content[: len(content) // 2],
        "spoilt inside": content[:-40_960] + b"\xff" * 40_960,
    }
    if how in changed:
        database.write_bytes(changed[how])


@pytest.mark.parametrize(
    "how",
    [
        "no database",
        "only a header",
        "cut off",
        "spoilt inside",
        "of another version",
        "without a table",
        "a folder",
        "a file in place of the folder",
    ],
)
def test_a_damaged_store_is_one_line_that_names_it(project, store, how, caplog):
    damaged(store, how)
    caplog.clear()
    with (
        pytest.raises(UserError, match=r"^mlruns/mlflow\.db (is damaged|cannot be used)") as caught,
        tracking.start("attack", "pilot"),
    ):
        raise AssertionError
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    if how != "a file in place of the folder":
        with pytest.raises(UserError, match=r"^mlruns/mlflow\.db (is damaged|cannot be used)"):
            tracking.show_attacks("pilot", {})


def test_errors_of_a_run_are_not_taken_for_those_of_the_store(tracked):
    with pytest.raises(sqlite3.OperationalError), tracking.start("attack", "pilot"):
        raise sqlite3.OperationalError("another database")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of an MLflow server of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    where = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "artifacts"]
    listen = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *where, *listen]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urlopen(f"{address}/health", timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield address
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=30)


@pytest.mark.slow
def test_runs_on_a_server_are_those_of_a_file(project, server, monkeypatch):
    monkeypatch.setenv("SPURIOUS_TRACKING", server)
    with tracking.start("attack", "pilot") as run:
        run.metrics({"damage": 0.5})
        run.document({"a": 1}, "parameters.json")
        with run.child("bim") as child:
            child.metrics({"damage": 1.5})
    tracking.show_attacks("pilot", {child.id: {"auroc": 0.9}})
    (last,) = tracking.last_runs("pilot")
    assert last["id"] == run.id and not Path("mlruns/mlflow.db").exists()
    found = MlflowClient(server).get_run(child.id)
    assert found.data.metrics == {"damage": 1.5, "auroc": 0.9}
    assert mlflow.artifacts.load_dict(f"runs:/{run.id}/parameters.json") == {"a": 1}
    assert list(ui.addresses(server)) == ["pilot"]


@pytest.mark.parametrize(
    "value", ["mlflow.db", "ftp://host", "http://me:secret@host:5000", "http://"]
)
def test_what_is_no_server_is_refused_without_its_password(project, monkeypatch, value):
    monkeypatch.setenv("SPURIOUS_TRACKING", value)
    with pytest.raises(UserError, match="SPURIOUS_TRACKING must be off, or http://") as caught:
        tracking.ensure_store(Path("mlruns"), "pilot")
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_one_line(project, monkeypatch):
    monkeypatch.setenv("SPURIOUS_TRACKING", "http://127.0.0.1:9")
    with (
        pytest.raises(
            UserError, match=r"^SPURIOUS_TRACKING = http://127.0.0.1:9: no MLflow server"
        ),
        tracking.start("attack", "pilot"),
    ):
        raise AssertionError("it answers")
