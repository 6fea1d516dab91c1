"""The stage `compare` as a whole: which maps are set beside which, and what is made of them."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from noted import note

from spurious import tracking
from spurious.bootstrap import Hierarchy
from spurious.damage import measure, pooled_row, posterior_change
from spurious.data.hdf5 import write_maps
from spurious.data.splits import evenly_spaced
from spurious.detection import Detector
from spurious.detection.detector import NETWORKS
from spurious.files import write_json
from spurious.pipeline import inputs
from spurious.pipeline.layout import Layout
from spurious.stages import compare

BIM = {"kind": "bim", "alpha": {"value": 0.02, "unit": "std"}, "steps": 2}
SIGNS = {"kind": "random_sign", "epsilon": {"value": 0.1, "unit": "std"}}
GROUPS = {"first": {"bim": BIM, "signs": SIGNS}, "second": {"some": SIGNS, "few": SIGNS}}
GAIN = {"bim": 1.02, "signs": 0.97, "some": 1.3, "few": 1.1, "searched_logistic": 0.9}


@pytest.fixture(scope="module")
def settings(stored):
    config = stored[0].model_dump(exclude_unset=True)
    config["attacks"] = GROUPS
    config["run"] |= {"posteriors": ["compact", "resnet"], "defences": [], "attacks": [*GROUPS]}
    return type(stored[0]).model_validate(config)


@pytest.fixture(scope="module")
def test(settings, data):
    return data.take(inputs.parts(settings, data, "random").test)


@pytest.fixture(scope="module")
def attacked(test):
    """Name -> its maps for each training: a gain and noise, of all maps, some, or very few."""
    draw = np.random.default_rng(1)
    some = test.take(evenly_spaced(len(test), 14))
    few = test.take(np.flatnonzero(np.isin(test.index, test.simulations[:3])))
    of = {"bim": [test, some, some], "some": [some], "few": [few]}

    def changed(part, gain):
        noise = draw.normal(size=part.maps.shape)
        return replace(part, maps=np.maximum(gain * part.maps + noise, 0).astype(np.float32))

    return {
        name: [changed(part, gain) for part in of.get(name, [test])] for name, gain in GAIN.items()
    }


@pytest.fixture(scope="module")
def rows(attacked, test, stored, settings):
    """Rows of damage to the first training, of which the stage wants to know no more."""
    made = {}
    for name, (maps, *_) in attacked.items():
        before = compare.same_maps(test, maps).maps
        change = measure(before, maps.maps, stored[1]["compact", 1], test.box_size)
        row = pooled_row([change], settings.seed, [maps.index])
        seen = posterior_change(before, maps.maps, stored[1]["resnet", 1])
        others = {"resnet": pooled_row([seen], settings.seed, [maps.index])}
        made[name] = row | {"parameters": {}, "group": name, "others": others}
        made[name]["run_id"] = f"run of {name}"
    return made


@pytest.fixture(scope="module")
def ran(settings, place, attacked, rows):
    """The stage's run, what it printed, and the view that it saved."""
    layout = Layout("pilot")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, group in settings.attacked.items():
            write_json(layout.row(group, name), rows[name])
            for number, maps in enumerate(attacked[name], start=1):
                write_maps(layout.attacked(group, name, number), maps)
        write_maps(layout.attacked("search", "logistic"), attacked["searched_logistic"][0])
        write_json(layout.result("search.json"), searched(rows["searched_logistic"]))
        runs, printed, views = note(patch), [], []
        patch.setattr(tracking, "show_attacks", lambda *about: views.append(about))
        patch.setattr("builtins.print", lambda *text, **_: printed.append(" ".join(text)))
        compare.run(settings)
    (run,) = runs
    return run, printed, views


def searched(row):
    """What the stage `search` leaves: of three families one has a winner."""
    interval = row["kl_perturbed_clean"]
    winner = {
        "parameters": {"a": 1.0},
        "feasible": True,
        "holds": True,
        "at_bound": [],
        "beyond": [],
        "wider": None,
        "kl": 1.0,
        "kl_confirmed": interval,
        "confirmed": {"fences": {"power": 0.1}},
        "transfer": {},
        "transfers_to": [],
        "row": row,
    }
    nothing = {"feasible": False}
    about = {"confidence": 0.9, "n_search": 3, "n_confirm": 4, "kl_paper": 0.1, "change_paper": 0.2}
    families = {"logistic": winner, "calibration": nothing, "saturation": nothing}
    curve = {"heights": [0.01, 0.05], "kl": [0.1, 0.2]}
    about |= {"front": {"power": {"logistic": curve}}, "fences_paper": {"power": 0.2}}
    return {"families": families, "limits": {"power": 0.1}, "pure_gain": None, **about}


@pytest.fixture
def result(ran, place):
    return lambda name: json.loads((place / "results/pilot" / name).read_text())


def gaussian_symmetrised(posterior, one, other):
    """Half the sum of both KLs of each map, in nats, of one Gaussian a map."""
    p, q = posterior(one), posterior(other)
    first, second = p.stddev().numpy() ** 2, q.stddev().numpy() ** 2
    apart = (p.mean().numpy() - q.mean().numpy()) ** 2
    terms = (first + apart) / second + (second + apart) / first - 2
    return 0.25 * np.sum(terms, axis=1)


def test_attacks_of_the_first_group_are_compared_training_by_training(
    result, attacked, stored, settings
):
    (pair,) = result("compare.json")["pairs"]
    assert (pair["first"], pair["second"]) == ("bim", "signs")
    (signs,), values, used = attacked["signs"], [], []
    places = {key: row for row, key in enumerate(zip(signs.index, signs.axis, strict=True))}
    for number, bim in enumerate(attacked["bim"], start=1):
        rows = [places[key] for key in zip(bim.index, bim.axis, strict=True)]
        posterior = stored[1]["compact", number]
        values.append(gaussian_symmetrised(posterior, bim.maps, signs.maps[rows]))
        used.append(bim.index)
    expected = Hierarchy(used, settings.seed).mean_interval(values, positive=True)
    assert pair["kl_symmetrised"] == pytest.approx(expected, rel=1e-3)


@pytest.fixture(scope="module")
def detector(settings, data, test):
    """Taught by the target's training maps."""
    train = data.take(inputs.parts(settings, data, "random").train)
    return Detector(train, test, settings.seed, settings.detection)


def test_detectors_judge_attacks_and_winners_against_the_same_clean_maps(
    result, attacked, detector
):
    found = result("detection.json")
    assert list(found) == ["bim", "signs", "some", "searched_logistic"]  # `few` are too few
    for name in ("signs", "searched_logistic"):
        expected = json.loads(json.dumps(detector.row(attacked[name][0].maps)))
        for key, cell in expected.items():
            if isinstance(cell, dict):
                cell.pop("seconds", None)
                assert {k: found[name][key][k] for k in cell} == cell
        assert (found[name]["n_maps"], found[name]["n_simulations"]) == (72, 36)
    assert found["signs"]["judgement"]["verdict"] == "noticed"
    assert "mmd" in found["signs"]["judgement"]["detectors"]


def test_attacks_on_some_of_the_maps_are_judged_against_these(result, test, attacked, detector):
    found, (part,) = result("detection.json")["some"], attacked["some"]
    assert (found["n_maps"], found["n_simulations"]) == (len(part), len(part.simulations))
    own = detector.judging(compare.same_maps(test, part)).row(part.maps)
    assert found["pdf"] == json.loads(json.dumps(own["pdf"]))


def test_the_tables_have_every_attack_and_winner(ran, place, rows, result):
    run, _, _ = ran
    folder = place / "results/pilot"
    with open(folder / "attacks.csv", newline="") as file:
        table = {line["perturbation"]: line for line in csv.DictReader(file)}
    assert list(table) == ["bim", "signs", "some", "few", "searched_logistic"]
    for name, line in table.items():
        assert float(line["kl_perturbed_clean.high"]) == rows[name]["kl_perturbed_clean"]["high"]
    with open(folder / "detection.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    noticed = result("detection.json")
    asked = [(name, one) for name, row in noticed.items() for one in row["judgement"]["detectors"]]
    assert [(line["perturbation"], line["detector"]) for line in lines] == asked
    for line in lines:
        row = noticed[line["perturbation"]]
        cell = row[line["detector"]]
        assert float(line["p_value"]) == cell["p_value"]
        assert int(line["n_maps"]) == row["n_maps"]
        assert line["verdict"] == row["judgement"]["verdict"]
        if "auroc" in cell:
            ends = [float(line[key]) for key in ("auroc", "auroc.low", "auroc.high")]
            assert ends == [cell["auroc"][key] for key in ("mean", "low", "high")]
            assert line["kind"] == cell["auroc"]["kind"]
        for kind in ("auroc_known", "auroc_anomaly"):
            expected = str(cell[kind]["mean"]) if kind in cell else ""
            assert line[kind] == expected
    assert set(run.files) == {"attacks.csv", "detection.csv"}
    assert run.files["detection.csv"] == (folder / "detection.csv").read_bytes()


def test_figures_and_files(ran, place):
    run, _, _ = ran
    layout = Layout("pilot")
    names = ("attacks.csv", "detection.csv", "detection.json", "compare.json")
    figures = ("spectra", "damage", "detection", "pareto")
    files = [f"{name}.{kind}" for name in figures for kind in ("png", "pdf")]
    assert compare.outputs(layout) == [layout.result(name) for name in (*names, *files)]
    assert set(run.figures) == {f"{name}.png" for name in figures}
    for name in figures:
        assert (place / f"results/pilot/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (place / f"results/pilot/{name}.pdf").read_bytes().startswith(b"%PDF")


def test_a_killed_comparison_goes_on_with_the_perturbations_it_had_judged(
    ran, settings, place, result, monkeypatch
):
    monkeypatch.chdir(place)
    note(monkeypatch)
    monkeypatch.setattr(tracking, "show_attacks", lambda *_: None)
    before, judge, judged = result("detection.json"), compare.Judge.row, []

    def stopping(self, data):
        if len(judged) == 2:
            raise KeyboardInterrupt
        judged.append(data.maps.mean())
        return judge(self, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(compare.Judge, "row", stopping)
        compare.run(settings)
    kept = Layout("pilot").checkpoints("compare")
    assert sorted(path.name for path in kept.iterdir()) == ["bim.json", "signs.json"]
    assert result("detection.json") == before

    def going_on(self, data):
        judged.append(data.maps.mean())
        return judge(self, data)

    monkeypatch.setattr(compare.Judge, "row", going_on)
    compare.run(settings)
    assert len(judged) == len(GAIN) and not kept.exists()
    after = result("detection.json")
    for row in (*before.values(), *after.values()):
        for detector in NETWORKS:
            row[detector].pop("seconds")
    assert after == before


def test_what_is_tracked_and_printed(ran, result, settings, rows):
    run, printed, views = ran
    found = result("compare.json")
    (pair,) = found["pairs"]
    kl = pair["kl_symmetrised"]
    assert found["run_id"] == run.id == "compare" and run.about["scale"] == "pilot"
    assert run.logged["kl_symmetrised.bim.signs"] == kl["mean"]
    assert run.logged["attacks"] == "bim,signs,some,few"
    models = [f"models/pilot/compact/{number}.keras" for number in (1, 2, 3)]
    maps = [f"data/pilot/attacks/{group}/{name}.h5" for name, group in settings.attacked.items()]
    expected = ["data/pilot/maps.h5", *models, *maps]
    assert [str(path) for path in run.about["inputs"]] == expected
    assert printed == [
        compare.format_table(rows),
        f"symmetrised KL of bim and signs: {kl['mean']:.3g} [{kl['low']:.3g}, {kl['high']:.3g}]",
    ]
    (view,) = views
    judged = {name: one.get("judgement") for name, one in result("detection.json").items()}
    assert view[0] == "pilot"
    assert {run: one.get("verdict") for run, one in view[1].items()} == {
        f"run of {name}": (judged.get(name) or {}).get("verdict") for name in rows
    }
