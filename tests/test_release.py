"""A released set: made from a finished run, made again from itself, and refused when it is none."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from small_project import SMALL, small, store

from spurious import params
from spurious.damage import measure
from spurious.data.hdf5 import read_maps, write_maps
from spurious.errors import CheckFailed, UserError
from spurious.files import md5
from spurious.pipeline import inputs
from spurious.pipeline.layout import Layout
from spurious.posteriors.trained import load
from spurious.simulation import manifest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))

import check_release  # noqa: E402
import release  # noqa: E402
from released import contents, table  # noqa: E402

BIM = {"kind": "bim", "alpha": {"value": 0.02, "unit": "std"}, "steps": 2}
LOGISTIC = {"kind": "logistic", "a": {"value": 0.25, "unit": "1/count"}, "b": -15.0}
ATTACKS = {
    "first": {"bim": BIM, "systematic": LOGISTIC | {"beta": {"value": 3.0, "unit": "count"}}},
    "second": {
        "matched": LOGISTIC | {"beta": {"match": BIM}},
        "transferred": BIM | {"on": "resnet"},
        "on_both": BIM | {"on": "ensemble"},
        "universal": {"kind": "universal", "epsilon": {"value": 0.1, "unit": "std"}, "steps": 2},
    },
}
COUNT = 12
SET = Path("data/released/pilot")
WINNER = {"a": 0.2, "b": -12.0, "beta": 2.0}


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """The folder of a finished run: maps, manifest, networks, damage, search."""
    folder = tmp_path_factory.mktemp("finished")
    raw = yaml.safe_load((ROOT / "params.yaml").read_text()) | SMALL
    raw["attacks"] = ATTACKS
    raw["run"] |= {
        "posteriors": ["compact", "resnet"],
        "ensembles": ["ensemble"],
        "attacks": [*ATTACKS],
        "defences": [],
    }
    raw["ensembles"] = {"ensemble": ["compact", "resnet"]}
    raw["posteriors"]["compact"]["trainings"] = 2
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    config, layout = params.load(folder / "params.yaml"), Layout("pilot")
    write_maps(folder / layout.maps, data)
    store(folder, config, {("compact", 1): small(1), ("compact", 2): small(2)})
    store(folder, config, {("resnet", 1): small(4)})
    manifest.write(folder / layout.manifest, data, {})
    found = {"logistic": {"parameters": WINNER}, "saturation": {"feasible": False}}
    (folder / layout.result("search.json")).write_text(json.dumps({"families": found}))
    (folder / layout.result("attacks.csv")).write_text(
        "perturbation,kl_perturbed_clean,kl_perturbed_clean.low,kl_perturbed_clean.high\n"
        "bim,1.5,1.0,2.0\n"
    )
    return folder, config


@pytest.fixture(scope="module")
def made(run):
    """The same folder with a released set of it."""
    folder, config = run
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        release.make(config, Path("params.yaml"), SET, COUNT)
    return folder


@pytest.fixture
def own(made, tmp_path, monkeypatch):
    """A clone that has the set and nothing else of the run, as the current folder."""
    shutil.copytree(made / SET, tmp_path / SET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def about(change=None):
    path = SET / "release.json"
    value = json.loads(path.read_text())
    if change is not None:
        change(value)
        path.write_text(json.dumps(value))
    return value


def test_a_set_has_networks_maps_systematics_and_what_they_must_give(made, run, monkeypatch):
    monkeypatch.chdir(made)
    files = {"params.yaml", "maps.h5", "maps.md5", "systematics.json"}
    files |= {f"models/{one}.keras" for one in ("compact/1", "compact/2", "resnet/1")}
    assert set(contents.contents(SET)) == files
    for name in files:
        assert about()["files"][name] == md5(SET / name)
    assert (SET / "params.yaml").read_bytes() == Path("params.yaml").read_bytes()
    assert (SET / "maps.md5").read_bytes() == Path("results/pilot/maps.md5").read_bytes()
    assert json.loads((SET / "systematics.json").read_text()) == {"logistic": WINNER}
    maps, test = read_maps(SET / "maps.h5"), inputs.test_set(run[1])
    assert len(maps) == COUNT < len(test) and set(maps.index) <= set(test.index)
    assert about()["run"] == {"bim": {"mean": 1.5, "low": 1.0, "high": 2.0}}
    rows = ["bim", "systematic", "matched", "transferred", "searched_logistic"]
    assert list(about()["rows"]) == rows  # no training maps, no ensembles in a set


def test_its_table_is_the_damage_to_all_trainings_on_its_maps(made, monkeypatch):
    monkeypatch.chdir(made)
    maps, row = read_maps(SET / "maps.h5"), about()["rows"]["systematic"]
    changed = maps.maps + 3 / (1 + np.exp(0.25 * maps.maps - 15))
    kls = {
        name: measure(maps.maps, changed.astype(np.float32), load(SET / f"models/{name}.keras"), 64)
        .kl_perturbed_clean.mean()
        for name in ("compact/1", "compact/2", "resnet/1")
    }  # fmt: skip
    both = (kls["compact/1"] + kls["compact/2"]) / 2
    assert row["kl_perturbed_clean"] == pytest.approx(both, rel=1e-4)
    assert row["kl_perturbed_clean.resnet"] == pytest.approx(kls["resnet/1"], rel=1e-4)
    assert kls["compact/1"] != pytest.approx(kls["compact/2"], rel=1e-2)


def test_a_set_is_reproduced_without_the_run_that_it_is_of(own, capsys):
    check_release.check(SET, "pilot")
    said = capsys.readouterr().out
    assert "all 65 numbers of 5 rows are reproduced" in said
    assert "1.5 [1, 2]" in said and "differs" not in said
    assert sorted(own.rglob("*.*.new")) == []


def test_the_number_that_differs_is_named(own, capsys):
    def wrong(value):
        value["rows"]["systematic"]["kl_symmetrised"] *= 1.01
        value["rows"]["bim"]["kl_symmetrised"] *= 1.01  # within what a gradient may be off

    about(wrong)
    with pytest.raises(CheckFailed, match=r"^1 of 65 numbers differ from those of data/released"):
        check_release.check(SET, "pilot")
    said = capsys.readouterr().out
    assert "differs: kl_symmetrised of systematic is " in said
    assert said.count("differs") == 1 and "allowed 1e-03" in said


def test_rows_and_columns_of_one_table_alone_differ(run):
    one = {"bim": {"x": 1.0, "y": 2.0}, "systematic": {"x": 0.0}}
    other = {"bim": {"x": 1.04}, "systematic": {"x": 5e-10}, "new": {"x": 1.0}}
    every = table.differences(run[1], one, other)
    assert [(one.row, one.column) for one in every if one.too_far] == [("bim", "y"), ("new", "x")]
    assert (every[2].row, every[2].off) == ("bim", pytest.approx(0.04))  # a gradient: 5 %
    assert (every[3].row, every[3].off) == ("systematic", pytest.approx(5e-4))  # over 1e-6


def retrained():
    """Another network in the place of one, with a right MD5."""
    shutil.copyfile(SET / "models/compact/1.keras", SET / "models/compact/2.keras")
    renew("models/compact/2.keras")


def renew(name):
    about(lambda value: value["files"].update({name: md5(SET / name)}))


def other_maps():
    maps = read_maps(SET / "maps.h5")
    write_maps(SET / "maps.h5", replace(maps, maps=maps.maps * np.float32(1.001)))
    renew("maps.h5")


def other_suite():
    path = Path("results/pilot/maps.md5")
    path.parent.mkdir(parents=True)
    path.write_text((SET / "maps.md5").read_text().replace("{", "{ "))


def flipped(name):
    def damage():
        content = bytearray((SET / name).read_bytes())
        content[len(content) // 2] ^= 1
        (SET / name).write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda: shutil.rmtree(SET), "data/released/pilot is missing: fetch it with `dvc pull"),
        (lambda: (SET / "release.json").unlink(), "release.json is missing"),
        (lambda: (SET / "release.json").write_text("{"), "release.json is not valid JSON"),
        (lambda: (SET / "release.json").write_text("{}"), "release.json"),
        (lambda: (SET / "maps.h5").unlink(), "is incomplete: maps.h5 is missing"),
        (lambda: (SET / "models/resnet/1.keras").unlink(), "models/resnet/1.keras is missing"),
        (flipped("maps.h5"), "maps.h5 is damaged: its MD5 is "),
        (flipped("models/compact/2.keras"), "compact/2.keras is damaged: its MD5 is "),
        (flipped("maps.md5"), "maps.md5 is damaged: its MD5 is "),
        (lambda: (SET / "more.txt").write_text(""), "a file that is none of its own: more.txt"),
        (lambda: about(lambda v: v.update(schema=2)), "is a set of schema 2, expected 1"),
        (lambda: about(lambda v: v.update(scale="paper")), "is of the scale paper, not pilot"),
        (lambda: about(lambda v: v["versions"].update(spurious="0.1")), "is of spurious 0.1, this"),
        (retrained, "compact/2.keras is of training = 1, not 2"),
        (other_maps, "maps.h5: simulation "),
        (other_suite, "maps.md5 is of another suite than results/pilot/maps.md5"),
    ],
)
def test_what_is_no_whole_set_of_this_version_and_scale_is_named(own, damage, message):
    damage()
    done = CliRunner().invoke(check_release.main, ["--scale", "pilot"])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and message in line


def test_too_large_a_set_or_too_many_maps_leave_the_former_set(made, run, monkeypatch):
    monkeypatch.chdir(made)
    before = {name: md5(path) for name, path in contents.contents(SET).items()}
    with pytest.raises(UserError, match="--maps 99: must be at most the 72 test maps"):
        release.make(run[1], Path("params.yaml"), SET, 99)
    monkeypatch.setattr(release, "LARGEST", 10.0)
    monkeypatch.setattr(table, "compute", lambda released: {"bim": {"kl_perturbed_clean": 1.0}})
    with pytest.raises(UserError, match=r"the set would have .* MB, at most 0: fewer --maps"):
        release.make(run[1], Path("params.yaml"), SET, COUNT)
    assert {name: md5(path) for name, path in contents.contents(SET).items()} == before
