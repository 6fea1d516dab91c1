"""The command line as a user meets it: in a process of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from spurious.cli import main

ROOT = Path(__file__).parents[1]
SPURIOUS = Path(sys.executable).with_name("spurious")
STAGES = ["verify", "simulate", "train", "attack", "compare", "search", "report"]


def spurious(*arguments, cwd=ROOT):
    return subprocess.run([SPURIOUS, *arguments], capture_output=True, text=True, cwd=cwd)


def test_help_names_every_stage_and_loads_nothing_heavy():
    heavy = ("tensorflow", "mlflow", "optuna", "camb", "pydantic", "numpy")
    code = (
        "import sys; from spurious.cli import main; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    shown = spurious("--help").stdout
    assert all(stage in shown for stage in STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_explains_itself(stage):
    done = spurious(stage, "--help")
    assert done.returncode == 0
    assert "--params" in done.stdout


def test_a_wrong_parameter_is_one_line_with_status_2_and_writes_nothing(tmp_path):
    text = (ROOT / "params.yaml").read_text().replace("lpt_order: 2", "lpt_order: 5")
    (tmp_path / "params.yaml").write_text(text)
    done = spurious("simulate", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: params.yaml at scale pilot: simulation.lpt_order = 5: Input should be 1 or 2"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "data/pilot/maps.h5 is missing: make it with `spurious simulate`"),
        (["attack", "bim"], "data/pilot/maps.h5 is missing"),
        (["attack", "bom"], "attack = 'bom': must be one of random_sign"),
        (["search"], "data/pilot/maps.h5 is missing"),
        (["compare"], "data/pilot/maps.h5 is missing"),
    ],
)
def test_missing_inputs_are_named(tmp_path, monkeypatch, arguments, message):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_damaged_data_set_is_named(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data" / "pilot").mkdir(parents=True)
    (tmp_path / "data" / "pilot" / "maps.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    done = spurious("train", cwd=tmp_path)
    assert done.returncode == 2
    assert "data/pilot/maps.h5 is damaged or is no map data set" in done.stderr
