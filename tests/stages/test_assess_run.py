"""The stage `assess` as a whole: which network, on which maps, with what beside it."""

import csv
import json

import numpy as np
import pytest
from noted import note
from small_project import small, store

from spurious.bootstrap import bootstrap_weights, interval
from spurious.files import write_json
from spurious.pipeline import inputs
from spurious.pipeline.layout import Layout
from spurious.quality.assessment import assess
from spurious.stages import assess as stage

LABELS = {
    "compact_1": ("compact", 1),
    "compact_2": ("compact", 2),
    "compact_3": ("compact", 3),
    "resnet": ("resnet", 1),
    "power_spectrum": ("power_spectrum", 1),
    "held_out": ("held_out", 1),
}
SIZES = ("n_train", "n_validation", "n_test")
NUMBERS = {  # of each training, all different
    label: dict(zip((*SIZES, "temperature"), (100 + i, 200 + i, 300 + i, 1 + i / 8), strict=True))
    for i, label in enumerate(LABELS)
}


@pytest.fixture(scope="module")
def settings(stored):
    posteriors = ["compact", "resnet", "power_spectrum", "held_out"]
    run = {"posteriors": posteriors, "ensembles": ["ensemble"], "defences": []}
    return stored[0].model_copy(update={"run": stored[0].run.model_copy(update=run)})


@pytest.fixture(scope="module")
def networks(stored, settings, place):
    more = {("power_spectrum", 1): small(5), ("held_out", 1): small(6)}
    store(place, settings, more)
    return {**stored[1], **more}


@pytest.fixture(scope="module")
def ran(settings, networks, place):
    """The stage's run, and what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        runs = note(patch)
        for name in settings.run.posteriors:
            first, *others = (NUMBERS[label] for label, one in LABELS.items() if one[0] == name)
            row = first | ({"others": others} if others else {})
            write_json(Layout("pilot").result(f"posteriors/{name}.json"), row)
        printed = []
        patch.setattr("builtins.print", lambda *text, **_: printed.append(" ".join(text)))
        stage.run(settings)
    (run,) = runs
    return run, "\n".join(printed).splitlines()


@pytest.fixture
def found(ran, place):
    return json.loads((place / "results/pilot/assess.json").read_text())


@pytest.fixture(scope="module")
def tests(settings, data):
    """The maps on which each posterior is tested."""
    made = {kind: inputs.parts(settings, data, kind) for kind in ("random", "held_out")}
    return {kind: data.take(split.test) for kind, split in made.items()}


@pytest.fixture(scope="module")
def errors(networks, tests):
    """(n, 2) of each posterior on its test maps, by label; the ensemble has the mean of means."""
    means = {
        label: networks[owner](tests["held_out" if label == "held_out" else "random"].maps)
        .mean()
        .numpy()
        for label, owner in LABELS.items()
    }
    members = ["compact_1", "compact_2", "compact_3", "resnet"]
    means["ensemble"] = np.mean([means[name] for name in members], axis=0)
    return {
        label: mean - tests["held_out" if label == "held_out" else "random"].labels
        for label, mean in means.items()
    }


def test_every_network_is_measured_on_the_test_maps_of_its_split(found, errors):
    assert list(found["posteriors"]) == [*LABELS, "ensemble"]
    for label, error in errors.items():
        row = found["posteriors"][label]
        rmse = np.sqrt(np.mean(error**2, axis=0))
        assert row["omega_m_rmse"]["mean"] == pytest.approx(rmse[0], rel=1e-4)
        assert row["sigma_8_rmse"]["mean"] == pytest.approx(rmse[1], rel=1e-4)
    assert len({row["omega_m_rmse"]["mean"] for row in found["posteriors"].values()}) == 7
    assert len(errors["held_out"]) != len(errors["resnet"])


def test_a_row_has_all_that_is_measured_with_the_runs_seed_and_prior(
    found, networks, tests, settings, data
):
    low, high = data.labels.min(0), data.labels.max(0)
    ranges = {name: (low[i], high[i]) for i, name in enumerate(data.names)}
    whole = assess(networks["compact", 2], tests["random"], ranges, settings.seed).row()
    row = found["posteriors"]["compact_2"]
    about = {"kind": "network", "split": "random", **NUMBERS["compact_2"]}
    assert set(row) == {*about, *whole}
    assert {key: row[key] for key in about} == about
    for key in ("nll", "chi2", "sigma_8_z_rms", "omega_m_coverage_95"):
        assert row[key] == pytest.approx(whole[key], rel=1e-5)
    for key in ("tarp_deviation", "tarp_p_value"):
        assert row[key] == pytest.approx(whole[key], rel=1e-5)
    assert row["edges"] == json.loads(json.dumps(whole["edges"]))
    assert row["nodes"] == json.loads(json.dumps(whole["nodes"]))


def test_a_row_says_what_the_posterior_is(found):
    rows = found["posteriors"]
    for label in LABELS:
        assert {key: rows[label][key] for key in NUMBERS[label]} == NUMBERS[label]
        assert rows[label]["split"] == ("held_out" if label == "held_out" else "random")
        assert rows[label]["kind"] == "network"
    kept = {key: rows["ensemble"][key] for key in ("kind", "members", "split")}
    assert kept == {"kind": "ensemble", "members": ["compact", "resnet"], "split": "random"}
    assert not {*SIZES, "temperature"} & set(rows["ensemble"])


def test_ratios_are_over_the_estimator_on_the_same_resampled_maps(found, errors, tests, settings):
    assert found["target"] == "compact_1"
    assert list(found["ratios"]) == ["power_spectrum"]
    row = found["ratios"]["power_spectrum"]
    assert list(row) == ["compact_1", "resnet", "ensemble"]
    test = tests["random"]
    weights = bootstrap_weights(len(test), settings.seed, test.index)
    for label, ratio in row.items():
        for i, name in enumerate(test.names):
            one, other = (errors[key][:, i] ** 2 for key in (label, "power_spectrum"))
            expected = interval(lambda w, a=one, b=other: np.sqrt((w @ a) / (w @ b)), weights)
            assert ratio[name] == pytest.approx(expected, rel=1e-3)


def test_the_forecast_is_written_beside(found, ran, settings, data):
    assert found["fisher"] == stage.forecast(settings, data)
    assert set(found) == {"run_id", "target", "posteriors", "ratios", "fisher"}
    assert found["run_id"] == "assess"


def test_the_table_has_the_same_numbers(found, ran, place):
    path = place / "results/pilot/posteriors.csv"
    assert ran[0].files["posteriors.csv"] == path.read_bytes()
    with open(path, newline="") as file:
        lines = {line["posterior"]: line for line in csv.DictReader(file)}
    assert list(lines) == list(found["posteriors"])
    for name, line in lines.items():
        row = found["posteriors"][name]
        for key, end in (("mean", ""), ("low", ".low"), ("high", ".high")):
            assert float(line[f"sigma_8_rmse{end}"]) == row["sigma_8_rmse"][key]


def test_the_run_has_the_numbers_of_every_posterior(found, ran, settings):
    run, _ = ran
    for name, row in found["posteriors"].items():
        assert run.logged[f"{name}.nll"] == row["nll"]["mean"]
        assert run.logged[f"{name}.omega_m_rmse.low"] == row["omega_m_rmse"]["low"]
    assert run.logged["posteriors"] == ",".join(found["posteriors"])
    assert run.logged["seed"] == settings.seed
    assert (run.id, run.about["scale"]) == ("assess", "pilot")
    networks = [f"models/pilot/{name}/{number}.keras" for name, number in LABELS.values()]
    assert [str(path) for path in run.about["inputs"]] == ["data/pilot/maps.h5", *networks]


def test_the_figure_shows_the_errors_and_the_forecast(found, ran, place):
    layout = Layout("pilot")
    names = ("assess.json", "posteriors.csv", "posteriors.png", "posteriors.pdf")
    assert stage.outputs(layout) == [layout.result(name) for name in names]
    assert (place / "results/pilot/posteriors.png").read_bytes().startswith(b"\x89PNG")
    assert list(ran[0].figures) == ["posteriors.png"]
    panel = ran[0].figures["posteriors.png"].axes[0]
    drawn = [x for line in panel.lines for x in line.get_ydata()] + [
        x for line in panel.lines for x in line.get_xdata()
    ]
    assert any(np.isclose(x, found["fisher"]["rmse_with_prior"]["omega_m"]) for x in drawn)


def test_what_is_printed(found, ran, data):
    _, printed = ran
    expected = [
        *stage.format_scores(found["posteriors"], data.names).splitlines(),
        *stage.format_ratios(found, data.names).splitlines(),
    ]
    assert printed == expected
    assert any(line.startswith("RMSE of sigma_8, compact_1 over power_s") for line in printed)
