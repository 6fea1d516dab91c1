"""dvc.yaml: the stages that it has, their order, and the outputs that they replace themselves."""

import subprocess
import sys
from pathlib import Path

import yaml

from spurious.pipeline.layout import Layout
from spurious.stages import (
    assess,
    attack,
    audit,
    compare,
    defend,
    report,
    search,
    simulate,
    train,
    tune,
    verify,
)

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def dvc(*arguments):
    done = subprocess.run([BIN / "dvc", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_dvc_knows_every_stage_of_the_pilot():
    names = {line.split()[0] for line in dvc("stage", "list", "--name-only").splitlines()}
    run = yaml.safe_load((ROOT / "params.yaml").read_text())["run"]
    stages = {"simulate", "assess", "audit", "compare", "search", "defend", "report"}
    expected = {"code", "verify", *(f"{stage}@pilot" for stage in stages)}
    expected |= {f"train@pilot-{name}" for name in run["posteriors"]}
    expected |= {f"attack@pilot-{group}" for group in run["attacks"]}
    assert names == expected


def test_dvc_runs_stages_in_the_order_in_which_they_need_each_other():
    edges = dvc("dag", "--dot").splitlines()
    for before, after in (
        ("data.dvc", "verify"),
        ("code", "verify"),
        ("code", "search@pilot"),
        ("verify", "simulate@pilot"),
        ("simulate@pilot", "train@pilot-compact"),
        ("train@pilot-likelihood", "assess@pilot"),
        ("train@pilot-contrast", "attack@pilot-paper"),
        ("attack@pilot-controls", "compare@pilot"),
        ("search@pilot", "compare@pilot"),
        ("train@pilot-compact", "audit@pilot"),
        ("audit@pilot", "report@pilot"),
        ("train@pilot-compact", "search@pilot"),
        ("assess@pilot", "report@pilot"),
        ("compare@pilot", "report@pilot"),
        ("search@pilot", "report@pilot"),
        ("train@pilot-marginalised", "defend@pilot"),
        ("search@pilot", "defend@pilot"),
        ("defend@pilot", "report@pilot"),
    ):
        assert f'"{before}" -> "{after}";' in edges


def outputs_of_dvc(stage, **item):
    """The outputs that dvc.yaml gives a stage, and whether all persist."""
    found, persist = set(), True
    spec = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    for one in (one for kind in ("outs", "metrics", "plots") for one in spec.get(kind, [])):
        ((path, options),) = one.items() if isinstance(one, dict) else ((one, {}),)
        for name, value in item.items():
            path = path.replace("${item." + name + "}", value)
        found.add(Path(path))
        persist = persist and options.get("persist", False)
    return found, persist


def test_stages_replace_the_outputs_of_dvc_which_removes_none_itself():
    layout = Layout("pilot")
    for stage, outputs, item in (
        ("verify", verify.OUTPUTS, {}),
        ("simulate", simulate.outputs(layout), {}),
        ("train", train.outputs(layout, "compact"), {"posterior": "compact"}),
        ("tune", tune.outputs(layout), {}),
        ("assess", assess.outputs(layout), {}),
        ("attack", attack.outputs(layout, "paper"), {"group": "paper"}),
        ("audit", audit.outputs(layout), {}),
        ("search", search.outputs(layout), {}),
        ("compare", compare.outputs(layout), {}),
        ("defend", defend.outputs(layout), {}),
        ("report", report.outputs(layout), {}),
    ):
        assert outputs_of_dvc(stage, scale="pilot", **item) == (set(outputs), True), stage
    assert outputs_of_dvc("code") == ({Path("data/code")}, True)
