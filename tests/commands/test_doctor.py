"""`spurious doctor` says what is wrong, and what to do."""

import runpy
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from spurious import shipped
from spurious.cli import main
from spurious.commands import doctor

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examined():
    done = CliRunner().invoke(main, ["doctor"])
    return done.exit_code, done.output.splitlines()


def test_an_installation_that_works_is_all_well():
    status, lines = examined()
    assert status == 0
    assert all(line.split()[0] in ("ok", "note") for line in lines)
    assert any(line.startswith("ok      tensorflow: 2.21") for line in lines)
    assert "note    params.yaml: none here; `spurious init` writes one" in lines
    assert [p.name for p in Path().iterdir()] == []


def test_it_does_not_import_tensorflow():
    code = (
        "import sys; from spurious.commands import doctor; doctor.examine(); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_database_that_is_none_is_broken(here):
    (here / "mlruns").mkdir()
    for name in ("mlflow.db", "optuna.db"):
        (here / "mlruns" / name).write_text("no database" * 100)
    status, lines = examined()
    assert status == 1
    assert [line for line in lines if line.startswith("broken")] == [
        "broken  MLflow runs: mlruns/mlflow.db: file is not a database; move it away: a new one is "
        "made, old entries are lost",
        "broken  Optuna studies: mlruns/optuna.db: file is not a database; move it away: a new one "
        "is made, old entries are lost",
    ]


def test_a_database_of_something_else_or_damaged_inside_is_broken(here):
    (here / "mlruns").mkdir()
    path = here / "mlruns" / "mlflow.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (x)")
        database.executemany("INSERT INTO other VALUES (?)", [("y" * 1000,)] * 500)
    database.close()
    assert "has no tables of its kind" in str(next(iter(doctor.databases())))
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE alembic_version (version_num)")
    database.close()
    assert [one.state for one in doctor.databases()] == ["ok", "ok"]
    content = bytearray(path.read_bytes())
    content[4096 : 20 * 4096] = b"\xff" * 19 * 4096
    path.write_bytes(content)
    assert next(iter(doctor.databases())).state == "broken"


@pytest.mark.parametrize(
    ("need", "state", "words"),
    [
        ("numpy>=1", "ok", ""),
        ("numpy>=99", "broken", "needs >=99; pip install 'numpy>=99'"),
        ("no-such-library>=1", "broken", "not installed; pip install 'no-such-library>=1'"),
    ],
)
def test_a_library_is_there_in_a_version_that_will_do(need, state, words):
    found = doctor.library(Requirement(need))
    assert found.state == state and words in str(found)


def test_versions_that_differ_from_the_lock_are_noted(here):
    text = (ROOT / "requirements.txt").read_text()
    (here / "requirements.txt").write_text(text)
    assert list(doctor.locked()) == []
    (here / "requirements.txt").write_text(text.replace("\ncamb==", "\ncamb==0."))
    (found,) = doctor.locked()
    assert found.state == "note" and "camb: 2." in str(found) and "numbers may differ" in str(found)


def test_the_remote_of_dvc_is_looked_up(here):
    assert next(doctor.dvc_remote()).state == "note"
    (here / "dvc.yaml").write_text("")
    assert str(next(doctor.dvc_remote())).startswith("DVC remote: none is set; dvc remote add")
    shutil.copytree(ROOT / ".dvc", here / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copy(ROOT / "data.dvc", here)  # the default remote is another, and may be empty
    assert [str(one) for one in doctor.dvc_remote()] == [
        "DVC remote: bundled, .dvc/remote",
        "DVC remote: storage, .dvc/storage, takes what `dvc push` sends",
    ]
    shutil.rmtree(here / ".dvc" / "remote")
    assert next(doctor.dvc_remote()).state == "broken"
    (here / ".dvc/config.local").write_text("['remote \"bundled\"']\n    url = s3://bucket/maps\n")
    assert str(next(doctor.dvc_remote())) == "DVC remote: bundled, s3://bucket/maps (not tried)"


def test_the_browser_is_the_one_that_the_scripts_find():
    pictures = runpy.run_path(str(ROOT / "scripts" / "report_pictures.py"))
    assert pictures["BROWSERS"] == doctor.BROWSERS


def test_damaged_reference_maps_are_broken(here):
    (here / "data" / "reference").mkdir(parents=True)
    (here / "data" / "reference" / "flowpm.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (found,) = doctor.reference()
    assert found.state == "broken" and "damaged" in found.found
    assert examined()[0] == 1


def test_reference_maps_of_a_fresh_clone_are_noted(here, monkeypatch):
    monkeypatch.setattr(shipped, "reference", lambda: Path("none"))
    (found,) = doctor.reference()
    assert found.state == "note" and "dvc pull data.dvc" in str(found)
    assert examined()[0] == 0


def test_a_full_disk_is_broken_and_little_memory_is_noted(monkeypatch):
    monkeypatch.setattr(doctor, "DISK", 1e12)
    monkeypatch.setattr(doctor, "MEMORY", 1e12)
    assert next(doctor.disk()).state == "broken"
    assert next(doctor.memory()).state == "note"


BARE = """
import sys
from importlib.abc import MetaPathFinder
from importlib import metadata

GONE = {gone!r}

class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in GONE:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
version = metadata.version
def looked_up(name):
    if name in GONE:
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = looked_up
from spurious.cli import main
main({arguments!r})
"""


def without(gone, *arguments):
    code = BARE.format(gone=set(gone), arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_it_works_where_nearly_nothing_is_installed():
    gone = ("rich", "numpy", "h5py", "psutil", "pydantic", "tensorflow", "keras", "yaml")
    done = without(gone, "doctor")
    assert done.returncode == 1 and done.stderr == ""
    assert "broken  rich: not installed; pip install 'rich>=" in done.stdout
    assert "broken  tensorflow: not installed" in done.stdout
    assert "ok      disk: " in done.stdout


@pytest.mark.parametrize("arguments", [("check",), ("list",)])
def test_a_library_that_is_missing_is_one_line_in_all_other_commands(arguments):
    done = without(["rich", "pydantic"], *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not installed: `spurious doctor` says what is missing" in done.stderr
