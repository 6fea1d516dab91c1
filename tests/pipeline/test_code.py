"""What every stage runs, as its list says and as it is."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from spurious.description import names as names_rule
from spurious.description.family import is_family
from spurious.kinds import GROUPS, SYSTEMATICS
from spurious.pipeline import code
from spurious.pipeline.code import LIBRARIES, Module, Package, fingerprint, running

ROOT = Path(__file__).parents[2]
STAGES = [
    "verify", "simulate", "train", "assess", "attack", "audit", "compare", "search", "tune",
    "defend", "report",
]  # fmt: skip
# Libraries that compute nothing that a result holds: files, figures, bookkeeping, processes.
OTHERS = {
    "PIL", "click", "dask", "dask_jobqueue", "distributed", "filelock", "grpc", "h5py", "jinja2",
    "markupsafe", "matplotlib", "mlflow", "optuna_dashboard", "packaging", "psutil", "pydantic",
    "pydantic_core", "sqlalchemy", "rich", "threadpoolctl", "xarray", "yaml",
}  # fmt: skip


@pytest.fixture(scope="module")
def package():
    """The package as it is."""
    return Package()


@pytest.fixture(scope="module")
def before(package):
    return {stage: package.listing(stage) for stage in package.stages}


class Edited(Package):
    """The package with another text of one module."""

    def __init__(self, package, path, text):
        super().__init__(package.folder)
        self.package, self.path, self.text = package, package.folder / path, text

    def _read(self, name):
        if self._path(name) != self.path:
            return self.package._module(name)
        return Module(name, running(self.text), self.path.name == "__init__.py")


@pytest.fixture
def changed(package, before):
    """Gives the stages whose list changes when a module's text is another."""

    def compare(path, edit, text=None):
        text = text or (package.folder / path).read_text()
        edited = edit(text)
        assert edited != text
        base = Edited(package, path, text)
        after = Edited(package, path, edited)
        return {name for name in before if after.listing(name) != base.listing(name)}

    return compare


def names(package, stage):
    return {module.name for module in package.modules(stage)}


def with_new_constant(text):
    return text + "\nNEW = 1\n"


def test_systematics_are_the_perturbations_that_a_search_can_move():
    assert [kind for kind in GROUPS["perturbation"] if is_family(kind)] == list(SYSTEMATICS)


def test_the_stages_are_those_of_the_command_line_and_of_dvc():
    assert Package().stages == STAGES
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(stages) == {"code", *STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_of_dvc_depends_on_its_own_list_and_on_no_module_beside(stage):
    settings = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    assert settings["cmd"].split()[:2] == ["spurious", stage]
    assert settings["cmd"] == f"spurious {stage}{' ${item}' if 'matrix' in settings else ''}"
    ours = [path for path in settings["deps"] if path.startswith(("src", "data/code"))]
    templates = ["src/spurious/report/templates"] if stage == "report" else []
    assert sorted(ours) == [f"data/code/{stage}.txt", *templates]


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("bootstrap.py", {"train", "assess", "attack", "audit", "compare", "search"}),
        ("seeds.py", set(STAGES)),
        ("pipeline/inputs.py", set(STAGES) - {"verify", "simulate"}),
        ("figures/map_posteriors.py", {"attack", "search", "report"}),
        ("config/search.py", {"search"}),
        ("densities/divergences.py", set(STAGES) - {"verify", "simulate"}),
        ("spectra.py", {"train", "assess", "attack", "audit", "compare", "search", "report"}),
        ("simulation/__init__.py", {"verify", "simulate", "attack"}),
        ("perturbations/response.py", {"attack", "search", "train", "tune"}),
        ("perturbations/spectral.py", {"attack", "audit", "train", "tune"}),
    ],
)
def test_an_edit_reaches_every_stage_that_runs_it(changed, path, stages):
    assert stages <= changed(path, with_new_constant)


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("training/loop.py", {"train", "tune"}),
        ("training/tuning.py", {"tune"}),
        ("training/defended.py", {"train", "tune"}),
        ("defences/trades.py", {"train", "tune"}),
        ("defences/worst_case.py", {"train", "tune"}),
        ("search/refine.py", {"search", "defend"}),
        ("stages/report.py", {"report"}),
        ("simulation/verify.py", {"verify"}),
        ("commands/init.py", set()),
        ("commands/use.py", set()),
        ("commands/doctor.py", set()),
        ("own_model.py", set()),  # models of one's own, of which DVC knows nothing
        ("data/camels.py", set()),
        # A detector of a posterior that abstains is shown perturbations.
        (
            "perturbations/controls.py",
            {"assess", "attack", "audit", "compare", "search", "defend", "report"},
        ),
        ("defences/adaptive.py", {"defend"}),
        ("defences/smoothing.py", set(STAGES) - {"verify", "simulate", "train", "tune"}),
        ("pipeline/code.py", set()),
    ],
)
def test_an_edit_reaches_no_other_stage(changed, path, stages):
    found = changed(path, with_new_constant)
    if path == "pipeline/code.py":  # a study's name, maps and rows that are kept ask for the code
        found -= {"attack", "compare", "search", "defend"}
    assert found == stages


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("cli.py", "collect_seldom()", "collect()"),
        (
            "commands/options.py",
            'SCALE = click.option(\n    "--scale",',
            'SCALE = click.option(\n    "--size",',
        ),
        ("commands/explained.py", "FULL = (errno.ENOSPC, ", "FULL = ("),
        ("startup.py", "os.dup(2)", "os.dup(1)"),
    ],
)
def test_an_edit_of_the_command_line_reaches_all_stages(changed, path, old, new):
    assert changed(path, lambda text: text.replace(old, new)) == set(STAGES)


def test_an_edit_of_one_command_reaches_its_stage_only(changed):
    found = changed("cli.py", lambda text: text.replace("tune as module", "tune as stage"))
    assert found == {"tune"}


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "# A remark.\n" + text,
        lambda text: text.replace("\n\n\n", "\n\n\n\n\n"),
        lambda text: text.replace('    """', '    """In other words: '),
        lambda text: text.replace("(size: int, ", "(\n    size: int,\n    "),
        lambda text: text + '\n"""What the last name means."""\n',
        lambda text: text + "\nif TYPE_CHECKING:\n    from spurious import own_model\n",
    ],
    ids=["comment", "blank lines", "docstrings", "layout", "text", "type checkers"],
)
def test_what_is_not_compiled_changes_nothing(changed, edit):
    text = (
        '"""Seeds."""\n\n\ndef derive(size: int, root: int) -> int:\n'
        '    """One."""\n    return size * root\n'
    )
    assert changed("seeds.py", edit, text) == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.05", "0.06"),
        ("= 3", "= 4"),
        ("a + b", "a - b"),
        ("too low", "too small"),
        ("a: float", "a: int"),
        ("    return c", "    return c\n    return c"),
        ("    if a:\n        b = a\n    c", "    if a:\n        b = a\n        c"),
    ],
)
def test_what_is_compiled_changes_the_list(changed, old, new):
    text = (
        "LOW = 0.05\n\n\ndef derive(a: float, b: int = 3) -> float:\n    if a:\n        b = a\n"
        '    c = a + b or print("too low")\n    return c\n'
    )
    found = changed("seeds.py", lambda text: text.replace(old, new), text)
    assert found == set(STAGES)


def test_imports_inside_functions_and_of_submodules_by_their_package_are_found(package):
    text = (
        "import spurious.data.camels\n\n\ndef lazy():\n    from .data import maps as m\n"
        "    from spurious import data, detection\n"
    )
    found = names(Edited(package, "seeds.py", text), "verify")
    assert {"spurious.data.camels", "spurious.data.maps", "spurious.data.splits"} <= found
    assert {"spurious.detection", "spurious.detection.minkowski"} <= found  # what its package loads


@pytest.mark.slow
def test_the_lists_have_all_modules_that_importing_the_stages_loads(package):
    script = """
import json, sys
from importlib import import_module
ours = lambda: [name for name in sys.modules if name.split(".")[0] == "spurious"]
found = {}
for stage in sys.argv[1:]:
    import_module("spurious.cli")
    import_module(f"spurious.stages.{stage}")
    found[stage] = ours()
    for name in found[stage]:
        del sys.modules[name]
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", script, *STAGES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    for stage in STAGES:
        assert {"spurious", "spurious.cli", f"spurious.stages.{stage}"} <= set(loaded[stage])
        assert set(loaded[stage]) - names(package, stage) == set()


def test_no_module_imports_a_name_that_the_package_lends_its_users():
    """Such an import loads a module that no list would have."""
    import spurious

    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert "spurious" not in [alias.name for alias in node.names], path
            if isinstance(node, ast.ImportFrom) and node.module == "spurious":
                lent = [a.name for a in node.names if a.name in spurious._HOME]
                modules = [name for name in lent if (path.parents[0] / f"{name}.py").exists()]
                assert lent == modules, path


def test_every_library_either_computes_or_is_known_not_to():
    imported = {
        name.split(".")[0]
        for path in (ROOT / "src").rglob("*.py")
        for name in Module("", running(path.read_text())).imports
    }
    unknown = imported - sys.stdlib_module_names - {"spurious", *LIBRARIES} - OTHERS
    assert unknown == set()
    assert set(LIBRARIES) <= imported


def test_a_list_has_the_versions_of_the_libraries_that_the_stage_imports(monkeypatch):
    lines = Package().listing("verify").splitlines()
    assert "camb 2.0.5" in lines and "flowpm 0.1.1" in lines
    assert not any(line.startswith(("optuna ", "keras ")) for line in lines)
    before = fingerprint("verify"), fingerprint("report")
    monkeypatch.setattr(code.metadata, "version", lambda name: "9" if name == "camb" else "1")
    of_camb = fingerprint("verify")
    monkeypatch.setattr(code.metadata, "version", lambda name: "1")
    assert len({*before, of_camb, fingerprint("verify")}) == 4


def test_a_fingerprint_is_that_of_the_stage_and_of_the_files_given(tmp_path):
    assert fingerprint("search") == fingerprint("search")
    assert len({fingerprint(stage) for stage in STAGES}) == len(STAGES)
    own = tmp_path / "my_effects.py"
    own.write_text("AMPLITUDE = 1.0\n")
    first = fingerprint("search", [own])
    own.write_text("AMPLITUDE = 1.0  # of all\n")
    assert fingerprint("search", [own]) == first != fingerprint("search")
    own.write_text("AMPLITUDE = 2.0\n")
    assert fingerprint("search", [own]) != first


def test_a_stage_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"stage = 'trian': must be one of verify, simulate, "):
        fingerprint("trian")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with the working tree's code, all its stages up to date with stand-in outputs."""
    folder = tmp_path_factory.mktemp("clone") / "spurious"
    subprocess.run(["git", "clone", "-q", "--depth", "1", ROOT.as_uri(), folder], check=True)
    for name in ("dvc.yaml", "params.yaml", "requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    shutil.rmtree(folder / "src")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=ignored)
    dvc(folder, "pull", "--quiet", "data.dvc")
    dvc(folder, "repro", "--quiet", "code")
    with Repo(str(folder)) as repo:
        for out in repo.index.outs:
            if not (path := Path(out.fs_path)).exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("{}")
    dvc(folder, "commit", "--quiet", "--force")
    return folder


def attempt(folder, *arguments):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src")}
    return subprocess.run(
        ["dvc", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def dvc(folder, *arguments):
    done = attempt(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def behind(folder):
    """The stages that DVC would run, their items left out."""
    return {name.split("@")[0] for name in json.loads(dvc(folder, "status", "--json"))}


@pytest.mark.slow
def test_dvc_runs_exactly_the_stages_that_an_edit_reaches(clone):
    assert behind(clone) == set()
    module = clone / "src" / "spurious" / "damage.py"
    text = module.read_text()
    module.write_text("# A remark.\n" + text.replace('    """', '    """In other words: ', 1))
    assert behind(clone) == {"code"}
    dvc(clone, "repro", "--quiet", "code")
    assert behind(clone) == set()
    module.write_text(text + "\nNEW = 1\n")
    dvc(clone, "repro", "--quiet", "code")
    run_by = {s for s in STAGES if "spurious.damage" in names(Package(), s)} - {"tune"}
    assert {"attack", "search"} <= run_by < set(STAGES)
    assert behind(clone) == run_by


HOSTILE = "a'$(touch EVIL)'`touch EVIL`\"; touch EVIL; #"


@pytest.fixture
def hostile(clone):
    """The clone with a group, a posterior and a scale that a shell would run."""
    path = clone / "params.yaml"
    text = path.read_text()
    raw = yaml.safe_load(text)
    raw["attacks"][HOSTILE] = {"new": raw["attacks"]["paper"]["bim"]}
    raw["posteriors"][HOSTILE] = raw["posteriors"]["resnet"]
    raw["profiles"][HOSTILE] = raw["profiles"]["pilot"]
    for key in ("attacks", "posteriors", "scales"):
        raw["run"][key].insert(0, HOSTILE)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    yield clone
    path.write_text(text)


@pytest.mark.slow
def test_dvc_runs_nothing_with_a_name_that_is_none(hostile):
    """Also where all stages were up to date before."""
    done = attempt(hostile, "repro")
    assert done.returncode != 0
    assert "Running stage 'code'" in done.stdout
    assert done.stdout.count("Running stage") == 1
    assert "error: params.yaml: profiles: " in done.stderr and names_rule.RULE in done.stderr
    assert not list(hostile.rglob("EVIL*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "item", [f"attack@pilot-{HOSTILE}", f"train@pilot-{HOSTILE}", f"simulate@{HOSTILE}"]
)
def test_a_shell_runs_no_name_of_a_stage_that_is_run_by_itself(hostile, item):
    """Without the stages before it, so that none has refused the name."""
    done = attempt(hostile, "repro", "--single-item", "--force", item)
    assert done.returncode != 0
    assert f"Running stage '{item}'" in done.stdout
    assert "error: params.yaml: profiles: " in done.stderr
    assert not list(hostile.rglob("EVIL*"))


def test_lists_are_replaced_together_and_those_of_no_stage_go(tmp_path, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "gone.txt").write_text("former")
    (folder / "train.txt").write_text("former")
    real = code.Package.listing

    def broken(package, stage):
        if stage == "report":
            raise SyntaxError
        return real(package, stage)

    with monkeypatch.context() as patch:
        patch.setattr(code.Package, "listing", broken)
        with pytest.raises(SyntaxError):
            code.write(folder)
    assert {path.name: path.read_text() for path in tmp_path.rglob("*.txt")} == {
        "gone.txt": "former",
        "train.txt": "former",
    }
    code.write(folder)
    assert {path.stem for path in folder.iterdir()} == set(code.Package().stages)
