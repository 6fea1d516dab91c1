"""The wheel, used from a folder that has nothing to do with the repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*command, cwd, **environment):
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where the wheel is installed that a clone makes, into which DVC has fetched nothing."""
    folder = tmp_path_factory.mktemp("wheel")
    run("git", "clone", "-q", "--depth", "1", ROOT.as_uri(), "clone", cwd=folder)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "params.yaml"):
        (folder / "clone" / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "./clone", cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    run(*pip, "install", "--no-deps", "--target", "site", str(wheel), cwd=folder)
    return folder / "site"


@pytest.fixture
def spurious(site, tmp_path):
    """The command line of the wheel, in an empty folder."""

    def call(*arguments, code="from spurious.cli import main; import sys; main(sys.argv[1:])"):
        return run(sys.executable, "-c", code, *arguments, cwd=tmp_path, PYTHONPATH=str(site))

    return call


def test_help_imports_nothing_heavy(spurious, site):
    code = (
        "import sys; from spurious.cli import main; main(['--help'], standalone_mode=False)\n"
        "heavy = ('tensorflow', 'numpy', 'pydantic', 'mlflow', 'optuna', 'dvc', 'rich')\n"
        "print([m for m in heavy if m in sys.modules], sys.modules['spurious'].__file__)"
    )
    assert spurious(code=code).splitlines()[-1] == f"[] {site / 'spurious' / '__init__.py'}"


def test_a_project_begins_anywhere(spurious, tmp_path, site):
    spurious("init")
    assert (tmp_path / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert spurious("check").startswith("valid; pilot: 1210 simulations")
    assert f"reference maps: {site / 'spurious' / 'flowpm.h5'}, 12 maps" in spurious("doctor")
    (tmp_path / "params.yaml").write_text("training: {epochs: 3}\n")
    assert spurious("check").startswith("valid; default: 1210 simulations")
    spurious("code")
    assert (tmp_path / "data" / "code" / "train.txt").is_file()


def test_the_templates_of_the_report_are_there(spurious):
    code = "from spurious.report import page; print(page.__file__)"
    page = Path(spurious(code=code).strip())
    assert list((page.parent / "templates").glob("*.j2"))
