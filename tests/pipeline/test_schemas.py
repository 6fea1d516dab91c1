"""Results that stages read: what is shipped is accepted, and what is damaged is one line."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import small_report
import yaml

from spurious import params
from spurious.data.maps import Standardiser
from spurious.errors import UserError
from spurious.files import write_json
from spurious.pipeline import schemas
from spurious.pipeline.layout import VERIFY_METRICS, Layout
from spurious.report import page
from spurious.report.front_picture import Fronts
from spurious.stages import assess, attack
from spurious.stages import report as reports

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "results"
FILES = {
    "verify.json": schemas.Verify,
    "pilot/all_defences.json": schemas.Defences,
    "pilot/assess.json": schemas.Assess,
    "pilot/audit.json": schemas.Audit,
    "pilot/compare.json": schemas.Compare,
    "pilot/search.json": schemas.Search,
    "pilot/posteriors/compact.json": schemas.TrainedPosterior,
    "pilot/posteriors/likelihood.json": schemas.TrainedPosterior,
}
JUDGED = {
    "judgement": {
        "verdict": "noticed",
        "by": ["pdf"],
        "best": "pdf",
        "auroc": {"mean": 0.9, "low": 0.8, "high": 1.0},
        "least_auroc": 0.6,
        "n_maps": 363,
        "detectors": ["pdf"],
    }
}


INTERVAL = {"mean": 0.3, "low": 0.2, "high": 0.4}
CHECK = {
    "passed": True,
    "value": 0.1,
    "threshold": 0.2,
    "sentence": "all is well",
    "page": "docs/checks/README.md",
}
QUALITY = {
    f"{name}_{metric}": INTERVAL
    for name in ("omega_m", "sigma_8")
    for metric in ("rmse", "z_rms", "coverage_68", "coverage_95")
} | {"nll": INTERVAL, "rejected": INTERVAL}
HIT = {"kind": "logistic", "seen": True, "found_on": "itself", "kl": INTERVAL, "rejected": INTERVAL}
DEFENCE = {
    "kind": "smoothed",
    "unproven": ["saturates"],
    "checks": {"saturates": CHECK},
    "damage": INTERVAL,
    "bounded": {"damage": INTERVAL, "unproven": [], "checks": {"saturates": CHECK}},
    "damage_left": 0.5,
    "rejected": INTERVAL,
    "information": INTERVAL,
    "clean": QUALITY,
    "inside": QUALITY,
    "families": {
        "logistic": HIT,
        "saturation": {**HIT, "found_on": None, "kl": None, "rejected": None},
    },
    "certified": [{"std": 0.01, "shift": {"omega_m": INTERVAL, "sigma_8": None}}],
}
DEFENCES = {
    "target": "compact",
    "winner": None,
    "epsilon": {"value": 0.03, "unit": "std"},
    "fraction": 0.1,
    "n_attacked": 32,
    "keep": 0.5,
    "inside": ["logistic"],
    "defences": {
        "compact": {**DEFENCE, "unproven": [], "inside": None, "certified": []},
        "smoothed": DEFENCE,
    },
}


WRONG = [{}, "x", None, "left out", [], float("nan")]


def shipped(name):
    return json.loads((SHIPPED / name).read_text())


def damaged(value, most=6):
    """Copies with one value emptied, of another type or left out: (key, what it is, copy)."""
    every = list(paths(value))
    for number, (*above, last) in enumerate(every[:: len(every) // most + 1]):
        for wrong in WRONG if len(every) <= most else WRONG[number % 2 :: 2]:
            made = copy.deepcopy(value)
            inner = made
            for key in above:
                inner = inner[key]
            if wrong == "left out":
                del inner[last]
            else:
                inner[last] = wrong
            yield ".".join([*above, last]), wrong, made


def paths(value, above=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*above, key)
            yield from paths(inner, (*above, key))


@pytest.mark.parametrize(("name", "schema"), FILES.items())
def test_what_is_shipped_is_read_as_it_is(name, schema):
    assert schemas.read(SHIPPED / name, schema) == shipped(name)


def test_rows_and_groups_that_are_shipped_are_accepted():
    for family in shipped("pilot/search.json")["families"].values():
        schemas.check(Path("x"), family["row"], schemas.Row)
    for path in (SHIPPED / "pilot" / "attacks").glob("*.json"):
        rows = json.loads(path.read_text())
        del rows["run_id"]
        schemas.check(path, rows, dict[str, schemas.Summary])


def test_parameters_of_a_perturbation_are_numbers_switches_and_words():
    family = next(iter(shipped("pilot/search.json")["families"].values()))
    given = {"alpha": 1, "random_start": True, "norm": "l2"}
    schemas.check(Path("x"), family["row"] | {"parameters": given}, schemas.Row)
    with pytest.raises(UserError, match=r"x: parameters\.alpha = 'much': "):
        schemas.check(Path("x"), family["row"] | {"parameters": {"alpha": "much"}}, schemas.Row)


def renamed(value):
    """The same result about sigma_8 under another name, and about a third parameter."""
    text = json.dumps(value)
    third = json.loads(text.replace("omega_m", "h"))
    return joined(json.loads(text.replace("sigma_8", "a_agn")), third)


def joined(one, other):
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one
    return other | {key: joined(value, other.get(key)) for key, value in one.items()}


@pytest.mark.parametrize("name", ["pilot/assess.json", "pilot/search.json"])
def test_results_may_be_about_any_parameters(name):
    value = renamed(shipped(name))
    assert "abs_shift_h" in json.dumps(value) or "h_rmse" in json.dumps(value)
    schemas.check(Path("x"), value, FILES[name])
    schemas.check(Path("x"), renamed(DEFENCES), schemas.Defences)


def test_a_number_that_one_of_the_parameters_lacks_is_named():
    row = next(iter(renamed(shipped("pilot/search.json"))["families"].values()))["row"]
    del row["shift_h"]
    with pytest.raises(UserError, match=r"x: shift_h: missing; the stage"):
        schemas.check(Path("x"), row, schemas.Row)
    row["shift_h"] = {"mean": "much", "low": 0.0, "high": 0.0}
    with pytest.raises(UserError, match=r"x: shift_h: mean = 'much': "):
        schemas.check(Path("x"), row, schemas.Row)
    none = {key: value for key, value in row.items() if "shift_" not in key}
    with pytest.raises(UserError, match=r"x: shift_PARAMETER: missing"):
        schemas.check(Path("x"), none, schemas.Row)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("posteriors", "compact_1", "edges", "h"), r"edges\.h: missing"),
        (("posteriors", "compact_1", "h_rmse"), "h_rmse: missing"),
        (("fisher", "rmse", "h"), r"fisher\.rmse\.h: missing"),
        (("ratios", "likelihood", "compact_1", "h"), r"ratios\.likelihood\.compact_1\.h: missing"),
    ],
)
def test_all_parts_of_an_assessment_have_the_same_parameters(keys, message):
    value = renamed(shipped("pilot/assess.json"))
    *above, last = keys
    inner = value
    for key in above:
        inner = inner[key]
    del inner[last]
    with pytest.raises(UserError, match=message):
        schemas.check(Path("x"), value, schemas.Assess)


def test_a_forecast_may_be_left_out():
    value = shipped("pilot/assess.json") | {"fisher": {"left_out": "too few simulations"}}
    schemas.check(Path("x"), value, schemas.Assess)


def test_metrics_are_those_of_the_report():
    assert tuple(page.METRICS) == schemas.METRICS


@pytest.mark.parametrize(("name", "schema"), FILES.items())
@pytest.mark.parametrize("value", [{}, [], [1], None, 3, "x", True])
def test_a_file_with_nothing_in_it_is_one_line_with_file_and_key(tmp_path, name, schema, value):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"result\.json: ") as caught:
        schemas.read(path, schema)
    line = str(caught.value)
    assert line.isprintable() and len(line) < 400
    key = next(iter(schema.model_fields))
    assert ("must be a mapping" if value != {} else ": missing") in line
    assert value != {} or key in line or "missing (and" in line


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff", "nul", "9" * 5000])
def test_a_file_that_is_no_json_is_one_line(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"result\.json") as caught:
        schemas.read(path, schemas.Verify)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        schemas.read(tmp_path, schemas.Verify)


@pytest.fixture(scope="module")
def results():
    """All that `report` reads, by path, and the configuration for it."""
    config = params.load(ROOT / "params.yaml")
    found = {str(VERIFY_METRICS): shipped("verify.json")}
    row = next(iter(shipped("pilot/search.json")["families"].values()))["row"]
    for name in ("assess", "audit", "compare", "search"):
        found[f"results/pilot/{name}.json"] = shipped(f"pilot/{name}.json")
    for name, group in config.attacked.items():
        alpha = {"alpha": 1.0} if name == "bim" else {}
        found[f"results/pilot/attacks/{group}/{name}.json"] = {
            **row,
            "group": group,
            "parameters": alpha,
        }
    winners = [f"searched_{name}" for name in found["results/pilot/search.json"]["families"]]
    found["results/pilot/detection.json"] = dict.fromkeys([*config.attacked, *winners], JUDGED)
    found["results/pilot/defences.json"] = DEFENCES
    return config, found


@pytest.fixture
def html(results, tmp_path, monkeypatch):
    """Makes the report, without its pictures, from the results below the current folder."""
    config, found = results
    monkeypatch.chdir(tmp_path)
    for path, value in found.items():
        write_json(Path(path), value)
    monkeypatch.setattr(reports, "test_set", lambda config: range(363))
    monkeypatch.setattr(
        reports,
        "read_maps",
        lambda path: SimpleNamespace(
            labels=np.array([[0.55, 0.5], [0.05, 1.0]]),
            names=("omega_m", "sigma_8"),
            simulated=True,
        ),
    )
    posterior = SimpleNamespace(standardiser=Standardiser(64.0, 30.0))
    monkeypatch.setattr(reports, "target", lambda config: posterior)
    monkeypatch.setattr(reports.tracking, "provenance", lambda *inputs: {})
    pictures = dict.fromkeys(
        [*reports.DRAWN, *reports.PICTURES, *reports.OF_TARGET], small_report.png()
    )
    flip = small_report.context()["flip"]  # the stage makes it of maps
    return lambda: page.render(
        reports.context(config, Layout("pilot"), []) | {"flip": flip}, pictures, {}
    )


def test_a_report_is_made_of_what_the_stages_wrote(results, html, tmp_path):
    """Each part in its place; the numbers of the page follow from the configuration."""
    config, found = results
    assert "How easily is this network fooled?" in html()
    about = reports.context(config, Layout("pilot"), [])
    read = {name: found[f"results/pilot/{name}.json"] for name in (*reports.RESULTS, "defences")}
    assert about["checks"] == read["audit"]["checks"]
    assert (about["assessed"], about["search"]) == (read["assess"], read["search"])
    assert (about["defended"], about["verify"]) == (read["defences"], shipped("verify.json"))
    assert about["network"] == read["assess"]["posteriors"][read["assess"]["target"]]
    winners = {f"searched_{name}": one["row"] for name, one in read["search"]["families"].items()}
    assert list(about["attacks"]) == [*config.attacked, *winners]
    for name, row in winners.items():
        assert about["attacks"][name] == row
    assert about["judged"] == {name: one["judgement"] for name, one in read["detection"].items()}
    assert (about["n_test"], about["n_maps"]) == (363, config.simulation.simulations)
    assert (about["target"], about["trainings"]) == ("compact", 3)
    assert about["omega_m_low"] == 0.05
    assert about["baryon_fraction"] == pytest.approx(0.0486 / 0.05)
    parameters = yaml.safe_load(about["parameters"])
    trained = parameters["posteriors"]["resnet"]["training"]
    assert (trained["epochs"], parameters["training"]["epochs"]) == (12, 40)
    assert trained["batch_size"] == 32


@pytest.mark.slow
def test_a_report_is_made_or_the_file_and_key_are_named_whatever_is_damaged(results, html):
    """Values of every file emptied, of another type, or left out; nothing else is raised."""
    _, found = results
    assert "How easily is this network fooled?" in html()
    paths = ["results/pilot/attacks/paper/bim.json", *(p for p in found if p.count("/") < 3)]
    refused = []
    for path in paths:
        for key, wrong, value in damaged(found[path]):
            Path(path).write_text(json.dumps(value))
            try:
                html()
            except UserError as error:
                refused.append(key)
                assert path in str(error) or "results of" in str(error), (path, key, wrong)
                assert str(error).isprintable() and len(str(error)) < 600
            except Exception as error:
                raise AssertionError(f"{path}: {key} = {wrong!r}: {error!r}") from error
        Path(path).write_text(json.dumps(found[path]))
    assert len(refused) > 40


@pytest.mark.parametrize("name", ["bim", "searched_logistic"])
def test_an_attack_without_a_judgement_is_named(results, html, name):
    path = "results/pilot/detection.json"
    judged = {key: value for key, value in results[1][path].items() if key != name}
    write_json(Path(path), judged)
    with pytest.raises(
        UserError, match=rf"detection\.json: {name}: missing; run `spurious compare`"
    ):
        html()
    few = results[1][bim := "results/pilot/attacks/paper/bim.json"] | {"n_maps": 3}
    write_json(Path(bim), few)
    if name == "bim":  # on too few maps to be judged
        assert "How easily is this network fooled?" in html()


@pytest.mark.parametrize("wrong", [{}, [], {"run_id": "x", "bim": {}}, {"bim": []}])
def test_a_damaged_group_is_named_before_an_attack_is_made(tmp_path, wrong):
    path = tmp_path / "paper.json"
    write_json(path, wrong)
    if wrong == {}:
        assert attack._kept(path, ["bim"]) == {}
        return
    with pytest.raises(UserError, match=r"paper\.json: (bim|must be a mapping)"):
        attack._kept(path, ["bim"])


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return params.load(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, r"compact\.json: n_train: missing"),
        ({"n_train": "many"}, r"compact\.json: n_train = 'many': "),
        ({"n_train": 1, "n_validation": 1, "n_test": 1, "temperature": 1}, "has 1 trainings"),
    ],
)
def test_assess_names_metrics_of_a_training_that_are_damaged(project, wrong, message):
    path = Layout("pilot").result("posteriors/compact.json")
    write_json(path, wrong)
    with pytest.raises(UserError, match=message):
        assess.described(project, "compact", 2)


def test_fronts_are_checked_before_they_are_drawn(tmp_path):
    found, path = shipped("pilot/search.json"), tmp_path / "search.json"
    write_json(path, found)
    fence, family = "power", "calibration"
    assert schemas.read(path, Fronts)["front"][fence][family]["kl"]
    del found["front"][fence][family]["kl"]
    write_json(path, found)
    with pytest.raises(UserError, match=rf"search\.json: front\.{fence}\.{family}\.kl: .*missing"):
        schemas.read(path, Fronts)
