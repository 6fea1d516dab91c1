"""The stage `search` as a whole: which half is searched, which confirms, and what is written."""

import json

import numpy as np
import pytest
from noted import note
from PIL import Image

from spurious.bootstrap import Hierarchy
from spurious.data.hdf5 import read_maps
from spurious.pipeline import inputs
from spurious.pipeline.confirmation import halves
from spurious.pipeline.layout import Layout
from spurious.stages import search

A, B = 0.25, -15.0


@pytest.fixture(scope="module")
def settings(stored):
    """One family of one coordinate, beta."""
    config = stored[0].model_dump(exclude_unset=True)
    config["run"] |= {"posteriors": ["compact", "resnet"], "defences": [], "attacks": ["paper"]}
    config["search"] = {
        "maps": 10,
        "starts": 1,
        "refine_steps": 2,
        "fences": {"power": 0.5, "mean_shift": 0.2},
        "front": {"mean_shift": [0.04]},
        "families": {
            "ramp": {
                "kind": "logistic",
                "a": A,
                "transition": -B / A,
                "beta": {"low": -5.0, "high": 9.0},
            }
        },
    }
    config["defend"] = {}
    return type(stored[0]).model_validate(config)


@pytest.fixture(scope="module")
def ran(settings, place):
    """The stage's run and what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        runs, printed = note(patch), []
        patch.setattr("builtins.print", lambda *text, **_: printed.append(" ".join(text)))
        search.run(settings, storage=str(place / "search.db"))
    (run,) = runs
    return run, printed


@pytest.fixture
def found(ran, place):
    return json.loads((place / "results/pilot/search.json").read_text())


@pytest.fixture(scope="module")
def test(settings, data):
    return data.take(inputs.parts(settings, data, "random").test)


def logistic(maps, beta):
    """Equation 4 of the paper, and no density below zero."""
    return np.maximum(maps + beta / (1 + np.exp(A * maps.astype(float) + B)), 0).astype(np.float32)


def gaussian_kl(posterior, after, before):
    """KL(after || before) of each map in nats, of one Gaussian a map with independent errors."""
    p, q = posterior(after), posterior(before)
    mean = (p.mean().numpy() - q.mean().numpy()) / q.stddev().numpy()
    ratio = p.stddev().numpy() / q.stddev().numpy()
    return np.sum(0.5 * (ratio**2 + mean**2 - 1) - np.log(ratio), axis=1)


@pytest.fixture
def kl(stored, settings):
    """Of some maps and a beta: its mean and interval for a posterior, or for all trainings."""

    def of(maps, beta, name="compact"):
        owners = [(name, 1)] if name != "compact" else [(name, number) for number in (1, 2, 3)]
        after = logistic(maps.maps, beta)
        values = [gaussian_kl(stored[1][owner], after, maps.maps) for owner in owners]
        resamples = Hierarchy([maps.index] * len(values), settings.seed)
        return resamples.mean_interval(values, positive=len(values) > 1)

    return of


def test_the_winner_is_measured_on_both_halves_and_on_each(found, settings, test, kl):
    row = found["families"]["ramp"]
    searched, confirming = halves(settings, test)
    beta = row["parameters"]["beta"]
    assert row["parameters"] == pytest.approx({"b": B, "beta": beta})
    assert abs(beta) > 1 and len(searched) == 20 and len(confirming) == 52
    for half, maps in (("searched", searched), ("confirmed", confirming)):
        assert row[half]["n_maps"] == len(maps)
        assert row[half]["kl"] == pytest.approx(kl(maps, beta), rel=2e-3)
        shift = np.abs(logistic(maps.maps, beta).mean((1, 2)) / maps.maps.mean((1, 2)) - 1)
        assert row[half]["fences"]["mean_shift"] <= shift.max() * 1.001
    assert row["kl_confirmed"] == row["confirmed"]["kl"] != row["searched"]["kl"]
    assert row["kl"] == pytest.approx(row["searched"]["kl"]["mean"], rel=1e-3)
    assert row["row"]["kl_perturbed_clean"] == pytest.approx(kl(test, beta), rel=2e-3)
    assert (row["row"]["n_maps"], row["row"]["n_searched"]) == (72, 20)
    assert (row["row"]["group"], row["row"]["target"]) == ("search", "compact")


def test_the_others_are_scored_on_maps_that_the_search_did_not_see(found, settings, test, kl):
    row = found["families"]["ramp"]
    _, confirming = halves(settings, test)
    beta = row["parameters"]["beta"]
    assert set(row["transfer"]) == {"resnet", "ensemble"}
    for part, maps in ((row["transfer"], confirming), (row["row"]["others"], test)):
        expected = kl(maps, beta, "resnet")
        assert part["resnet"]["kl_perturbed_clean"] == pytest.approx(expected, rel=2e-3)
    transfers = row["transfer"]["resnet"]["kl_perturbed_clean"]["mean"]
    hurt = transfers >= 0.1 * row["confirmed"]["kl"]["mean"]
    assert row["transfers_to"] == (["resnet"] if hurt else [])
    assert row["transfer"]["resnet"]["split"] == "random"


def test_the_headline_is_the_family_of_the_paper_beside_its_own_systematic(
    found, settings, test, kl
):
    row = found["families"]["ramp"]
    searched, confirming = halves(settings, test)
    expected = {
        "family": "ramp",
        "feasible": True,
        "holds": row["holds"],
        "kl": row["kl"],
        "change": row["fences"]["power"],
        "kl_confirmed": row["confirmed"]["kl"]["mean"],
        "kl_confirmed_low": row["confirmed"]["kl"]["low"],
        "kl_confirmed_high": row["confirmed"]["kl"]["high"],
        "change_confirmed": row["confirmed"]["fences"]["power"],
        "a": A,
        **row["parameters"],
        "transition": pytest.approx(60.0),
        "least_density": row["least_density"],
        "at_bound": row["at_bound"],
        "kl_paper": pytest.approx(kl(searched, 3.0)["mean"], rel=2e-3),
        "change_paper": found["fences_paper"]["power"],
        "closest_change": pytest.approx(found["closest_change"]),
        "max_power_change": 0.5,
        "limits": {"power": 0.5, "mean_shift": 0.2},
        "confidence": 0.95,
        "n_trials": row["n_trials"],
        "n_feasible": row["n_feasible"],
        "n_search": len(searched),
        "n_confirm": len(confirming),
        "n_trainings": 3,
        "transfer": row["transfer"],
    }
    assert {key: found[key] for key in expected} == expected
    rest = {"run_id", "families", "front", "fences_paper", "pure_gain"}
    assert set(found) == {*expected, *rest} and found["run_id"] == "search"
    gain = found["pure_gain"]["gain"]
    assert abs(gain) == 0.2 and found["pure_gain"]["fence"] == "mean_shift"


def test_the_study_is_written_with_its_front(found, place, ran):
    study = json.loads((place / "results/pilot/study.json").read_text())["ramp"]
    row = found["families"]["ramp"]
    assert study["study"] == row["study"]
    assert len(study["history"]) == row["n_trials"] == 2
    assert row["n_feasible"] == sum(one["feasible"] for one in study["history"])
    best = study["best"]
    for key in ("parameters", "kl", "value", "fences", "least_density"):
        assert row[key] == best[key]
    assert (row["n_starts"], row["n_pruned"], row["given_up"]) == (1, 0, [])
    assert row["units"] == {"beta": "count"}
    (point,) = study["front"]["mean_shift"]
    curve = found["front"]["mean_shift"]["ramp"]
    assert curve["heights"] == [point["height"]] == [0.04]
    for key in ("kl", "value", "parameters", "at_bound"):
        assert curve[key] == [point[key]]
    assert point["heights"]["mean_shift"] <= 0.04 < row["fences"]["mean_shift"]
    assert point["kl"] < row["kl"]
    if row["at_bound"]:
        assert row["wider"]["factor"] == 10 and row["wider"]["ranges"] == {"beta": [-50, 90]}
    assert set(ran[0].files) == {"study.json", "search.json"}


def test_the_perturbed_test_maps_are_kept_for_the_detectors(found, place, test):
    made = read_maps(place / Layout("pilot").attacked("search", "ramp"))
    np.testing.assert_array_equal(made.index, test.index)
    beta = found["families"]["ramp"]["parameters"]["beta"]
    np.testing.assert_allclose(made.maps, logistic(test.maps, beta), rtol=1e-3, atol=1e-3)


def test_what_is_tracked_drawn_and_printed(found, ran, place, settings):
    run, printed = ran
    layout, row = Layout("pilot"), found["families"]["ramp"]
    names = ("study.json", "search.json", "search")
    folder = layout.attacked("search", "").parent
    assert search.outputs(layout) == [folder, *(layout.result(name) for name in names)]
    assert list(run.figures) == ["ramp.png"]
    with Image.open(place / "results/pilot/search/ramp.png") as picture:
        assert min(picture.size) > 200
    assert (place / "results/pilot/search/ramp.pdf").read_bytes().startswith(b"%PDF")
    models = [f"models/pilot/compact/{number}.keras" for number in (1, 2, 3)]
    assert [str(path) for path in run.about["inputs"]] == ["data/pilot/maps.h5", *models]
    own = run.children["study ramp"]
    assert own.about == {"tags": {"family": "ramp"}}
    assert own.logged["study/confirmed.kl"] == row["confirmed"]["kl"]["mean"]
    assert own.logged["study/searched.kl.high"] == row["searched"]["kl"]["high"]
    assert own.logged["study/kl"] == row["kl"]
    assert own.logged["damage"] == row["row"]["kl_perturbed_clean"]["mean"]
    assert own.documents["study.json"]["study"] == row["study"]
    assert run.logged["kl_paper"] == found["kl_paper"] and run.logged["seed"] == settings.seed
    transferred = found["transfer"]["resnet"]["kl_perturbed_clean"]["mean"]
    assert run.logged["transfer.resnet.kl_perturbed_clean"] == transferred
    data, path = run.datasets["search"]
    assert len(data) == 20 and path == layout.maps
    assert printed == [search.describe("ramp", row)]
    assert f"{row['confirmed']['kl']['mean']:.3g} [" in printed[0]
