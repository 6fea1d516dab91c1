"""The command line as a user meets it: in a process of its own."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from spurious.cli import main

ROOT = Path(__file__).parents[1]
SPURIOUS = Path(sys.executable).with_name("spurious")
STAGES = [
    "verify",
    "simulate",
    "train",
    "assess",
    "attack",
    "audit",
    "compare",
    "search",
    "report",
    "tune",
]


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


def test_help_cuts_no_summary_short():
    assert "..." not in spurious("--help").stdout.split("Commands:")[1]


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
        (["train", "compact"], "data/pilot/maps.h5 is missing: make it with `spurious simulate`"),
        (["train", "deep"], "posterior = 'deep': must be one of compact"),
        (["assess"], "data/pilot/maps.h5 is missing"),
        (["attack", "bim"], "data/pilot/maps.h5 is missing"),
        (["attack", "bom"], "attack = 'bom': must be a group, paper, white_box"),
        (["audit"], "data/pilot/maps.h5 is missing"),
        (["search"], "data/pilot/maps.h5 is missing"),
        (["compare"], "data/pilot/maps.h5 is missing"),
        (
            ["compare", "--against", "other.csv"],
            "results/pilot/attacks.csv is missing: make it with `spurious compare`",
        ),
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
    done = spurious("train", "compact", cwd=tmp_path)
    assert done.returncode == 2
    assert "data/pilot/maps.h5 is damaged or is no map data set" in done.stderr


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with a small suite's params.yaml, as the current folder; what is run is not kept."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["simulation"] |= {"n_cells": 16, "scale_factors": {"stages": 3}}
    raw["simulation"]["linear_power"] = "eisenstein_hu"  # CAMB takes a second for each omega_m
    raw["profiles"]["pilot"]["simulation"] = {"simulations": 500, "shard_size": 100}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPURIOUS_TRACKING", "off")
    return tmp_path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_check_counts_cosmologies_and_reads_the_list(small):
    done = CliRunner().invoke(main, ["check"])
    assert done.output == "valid; pilot: 500 simulations, 121 cosmologies\n"
    raw = yaml.safe_load((small / "params.yaml").read_text())
    raw["design"] = {"kind": "list", "path": "designs/mine.csv"}
    (small / "params.yaml").write_text(yaml.safe_dump(raw))
    done = CliRunner().invoke(main, ["check"])
    assert done.exit_code == 2
    assert done.stderr == "error: design.path = designs/mine.csv: there is no such file\n"
    (small / "designs").mkdir()
    shutil.copy(ROOT / "designs" / "corners_and_centre.csv", small / "designs" / "mine.csv")
    assert "5 cosmologies" in CliRunner().invoke(main, ["check"]).output


@pytest.mark.slow
def test_a_preview_writes_its_picture_and_nothing_else(small):
    done = CliRunner().invoke(main, ["simulate", "--preview", "--workers", "3"])
    assert done.exit_code == 0, done.output
    assert "results/pilot/preview.png: 6 maps; all 500 simulations would take about" in done.output
    assert "with 3 workers" in done.output
    assert files(small) == ["params.yaml", "results/pilot/preview.png"]


@pytest.mark.slow
def test_workers_on_the_command_line_replace_those_of_the_file(small):
    raw = yaml.safe_load((small / "params.yaml").read_text())
    raw["execution"] = {"workers": {"kind": "dask", "scheduler": "tcp://127.0.0.1:1"}}
    (small / "params.yaml").write_text(yaml.safe_dump(raw))
    done = CliRunner().invoke(main, ["simulate"])
    assert done.exit_code == 2
    assert "error: execution.workers.scheduler = 'tcp://127.0.0.1:1': must be" in done.stderr
    done = CliRunner().invoke(main, ["simulate", "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "500 maps of 500 simulations, 500 of them made now, in" in done.output
    assert "this process: 500 simulations, " in done.output
    assert files(small) == ["data/pilot/maps.h5", "params.yaml", "results/pilot/maps.md5"]


def test_one_simulation_made_again_takes_neither_workers_nor_a_preview(small):
    for option in ("--workers", "--preview"):
        done = CliRunner().invoke(main, ["simulate", "--only", "0", option, "2"])
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert f"error: {option} 2: does not go with --only" in done.stderr
    done = CliRunner().invoke(main, ["simulate", "--only", "0"])
    assert done.exit_code == 2
    assert "error: results/pilot/maps.md5 is missing: `spurious simulate` writes it" in done.stderr
    assert files(small) == ["params.yaml"]


def test_a_full_disk_is_one_line(small):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        done = CliRunner().invoke(main, ["simulate", "--workers", "1"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        "error: data/shards/pilot/shard-00000.h5 cannot be written: file too large"
    )
    assert files(small) == ["data/shards/pilot/.lock", "params.yaml"]


PLAIN_TERMINALS = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]
SIGNS = "KL(perturbed ‖ clean), σ, −1, Ω_m, “x”"
COMMANDS = {
    "code": ["pipeline.code", "write", "code"],
    "attack": ["stages.attack", "run", "attack", "paper"],
    "audit": ["stages.audit", "run", "audit"],
    "report": ["stages.report", "run", "report"],
}
SAYS = f"""
import importlib, sys
from spurious.progress import Bar
from spurious.cli import main

def says(*arguments):
    print({SIGNS!a})
    with Bar(1, {SIGNS!a}) as bar:
        print(bar.name, bar)
    print({SIGNS!a}, file=sys.stderr)

for name, (place, function, *words) in {COMMANDS!r}.items():
    importlib.import_module("spurious." + place)
    module = sys.modules["spurious." + place]
    setattr(module, function, says)
    try:
        main(words)
    except SystemExit as end:
        print("ended", name, end.code)
        print("ended", name, file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="strict")
"""


@pytest.fixture(scope="module", params=PLAIN_TERMINALS, ids=lambda one: next(iter(one)))
def told(request, tmp_path_factory):
    """What each command says on a plain terminal: one process for all, which starts TensorFlow."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text() + "# Ω_m\n", "utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in ("LANG", "PYTHONIOENCODING")}
    done = subprocess.run(
        [sys.executable, "-c", SAYS],
        capture_output=True,
        cwd=folder,
        env=environment | request.param,
    )
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout.decode("ascii"), done.stderr.decode("ascii")


def part(text, name):
    """What was written before the end of a command, and after the end of the one before."""
    return text.split(f"ended {name}")[0].split("ended ")[-1]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_terminal_that_lacks_a_sign_fails_no_stage(told, name):
    stdout, stderr = told
    assert f"ended {name} 0\n" in stdout
    signs = SIGNS.encode("ascii", "backslashreplace").decode()
    assert part(stdout, name).count(signs) == 2
    assert signs in part(stderr, name)


@pytest.mark.parametrize("terminal", PLAIN_TERMINALS, ids=lambda one: next(iter(one)))
def test_what_is_wrong_is_told_on_such_a_terminal_too(tmp_path, terminal):
    text = (ROOT / "params.yaml").read_text().replace("target: compact ", "target: Ω_m ")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [SPURIOUS, "check"], capture_output=True, cwd=tmp_path, env=os.environ | terminal
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert b"run.target = '\\u03a9_m': a name has" in line


def obeying_permissions(command):
    """The command as one whom permissions bind; they do not bind root."""
    if os.geteuid() != 0:
        return command
    if (setpriv := shutil.which("setpriv")) is None:
        pytest.skip("root without setpriv: no permission binds")
    lost = "-dac_override,-dac_read_search"
    return [setpriv, f"--bounding-set={lost}", f"--inh-caps={lost}", *command]


def test_a_folder_that_is_read_only_is_one_line_and_keeps_its_results(tmp_path):
    for name in ("params.yaml", "requirements.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    assert spurious("code", cwd=tmp_path).returncode == 0
    folder = tmp_path / "data"
    (folder / "code/train.txt").write_text("of other code\n")
    before = {path: path.read_bytes() for path in folder.rglob("*.txt")}
    folder.chmod(0o555)
    command = obeying_permissions([SPURIOUS, "code"])
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    folder.chmod(0o755)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: data/.code.new cannot be used: permission denied"]
    assert {path: path.read_bytes() for path in folder.rglob("*.txt")} == before
    assert [path.name for path in folder.iterdir()] == ["code"]
    assert spurious("code", cwd=tmp_path).returncode == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.txt")} != before
