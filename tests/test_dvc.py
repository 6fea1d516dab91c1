"""dvc.yaml: the stages that it has, their order, and the outputs that they replace themselves."""

import subprocess
import sys
from pathlib import Path

import yaml

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
import drawing
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


def spec():
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())


def test_only_the_numbers_of_the_report_are_metrics():
    found = {stage: one["metrics"] for stage, one in spec()["stages"].items() if "metrics" in one}
    (only,) = found.pop("report")
    assert list(only) == ["results/${item.scale}/metrics.json"] and not found


def test_json_results_are_kept_by_git_unless_they_are_large():
    """Those that DVC does not cache are tracked, the others ignored."""
    every = [one for stage in spec()["stages"].values() for one in stage.get("outs", [])]
    pairs = [next(iter(one.items())) for one in every]
    results = {path: options for path, options in pairs if path.endswith(".json")}
    assert len(results) == 12
    for path, options in results.items():
        example = path.replace("${item.scale}", "pilot").replace("${item.posterior}", "x")
        command = ["git", "check-ignore", "-q", "--no-index", example.replace("${item.group}", "x")]
        ignored = subprocess.run(command, cwd=ROOT).returncode == 0
        assert ignored == options.get("cache", True), path


def test_plots_are_pictures_for_which_dvc_fetches_no_script():
    named = list(spec()["plots"])
    for stage in spec()["stages"].values():
        named += [next(iter(one)) for one in stage.get("plots", [])]
    assert all(path.endswith(".png") for path in named)


def test_the_pipeline_is_drawn_as_it_is():
    text = drawing.PAGE.read_text()
    assert drawing.filled(text, dvc("dag", "--mermaid")) == text, "run python scripts/drawing.py"


def test_an_arrow_that_follows_from_others_is_not_drawn():
    named = {"a": "code", "b": "train@pilot-x", "c": "train@pilot-y", "d": "report@pilot"}
    nodes = "".join(f'\tnode{i}["{name}"]\n' for i, name in enumerate(named.values(), start=1))
    edges = "\tnode1-->node2\n\tnode1-->node3\n\tnode1-->node4\n\tnode2-->node4\n"
    graph = drawing.stages(f"flowchart TD\n{nodes}{edges}")
    assert set(graph.edges) == {("code", "train"), ("train", "report")}


def test_what_users_push_does_not_enter_the_remote_that_ships(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth", "1", ROOT.as_uri(), clone], check=True)

    def run(*arguments):
        done = subprocess.run([BIN / "dvc", *arguments], cwd=clone, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    run("pull", "--quiet", "data.dvc")
    assert (clone / "data/reference/flowpm.h5").is_file()
    shipped = sorted((clone / ".dvc/remote").rglob("*"))
    (clone / "own.txt").write_text("of the user")
    run("add", "--quiet", "own.txt")
    run("push", "--quiet", "own.txt.dvc", "data.dvc")
    assert sorted((clone / ".dvc/remote").rglob("*")) == shipped
    (pushed,) = (path for path in (clone / ".dvc/storage").rglob("*") if path.is_file())
    assert pushed.read_text() == "of the user"
    changed = subprocess.check_output(["git", "status", "--porcelain"], cwd=clone, text=True)
    assert {line[3:] for line in changed.splitlines()} == {".gitignore", "own.txt.dvc"}
