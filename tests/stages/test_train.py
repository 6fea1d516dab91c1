"""Which maps teach what: weights, units, temperature and prior, of a real short training."""

import csv
import json

import numpy as np
import pytest

from spurious.config import Network
from spurious.data.maps import Standardiser
from spurious.defences.build import of_posterior
from spurious.errors import UserError
from spurious.pipeline import inputs
from spurious.pipeline.layout import Layout
from spurious.posteriors import likelihood
from spurious.posteriors.trained import load
from spurious.stages import train
from spurious.tracking import NullRun
from spurious.training.defended import maps_shown

NETWORK = "power_spectrum"  # small, and as much a network as the others


@pytest.fixture(scope="module")
def split(config, data):
    return inputs.parts(config, data, "random")


@pytest.fixture(scope="module")
def stage(folder, config):
    """What the stage writes of a posterior: two trainings, their numbers and a learning curve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SPURIOUS_TRACKING", "off")
        settings = config.posteriors[NETWORK].model_copy(update={"trainings": 2})
        twice = config.model_copy(update={"posteriors": {**config.posteriors, NETWORK: settings}})
        train.run(twice, NETWORK)
        layout = Layout(config.scale)
        row = json.loads(layout.result(f"posteriors/{NETWORK}.json").read_text())
        with open(layout.result(f"posteriors/{NETWORK}/history.csv"), newline="") as file:
            history = list(csv.DictReader(file))
        return [load(layout.posterior(NETWORK, number)) for number in (1, 2)], row, history


def best_temperature(posterior, maps, truth):
    """T^2 is the mean squared error in standard deviations at T = 1, for one Gaussian a map."""
    distribution = posterior(maps)
    z = (truth - distribution.mean().numpy()) / distribution.stddev().numpy()
    return posterior.head.temperature * np.sqrt(np.mean(z**2))


def test_the_temperature_is_fitted_on_the_validation_maps(stage, data, split):
    (posterior, _), row, _ = stage
    best = {
        part: best_temperature(posterior, data.maps[rows], data.labels[rows])
        for part, rows in vars(split).items()
    }
    assert row["temperature"] == pytest.approx(posterior.head.temperature)
    assert posterior.head.temperature == pytest.approx(best["validation"], rel=1e-3)
    for part in ("train", "test"):
        assert posterior.head.temperature != pytest.approx(best[part], rel=1e-2)


def test_units_are_those_of_the_training_maps(stage, data, split):
    (posterior, _), _, _ = stage
    expected = Standardiser.fit(data.maps[split.train])
    assert posterior.standardiser.mean == pytest.approx(expected.mean, rel=1e-6)
    assert posterior.standardiser.std == pytest.approx(expected.std, rel=1e-6)
    assert expected.std != pytest.approx(Standardiser.fit(data.maps).std, rel=1e-5)


def test_without_recalibration_the_temperature_is_one(config, data, split, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = config.training.model_copy(update={"recalibrate": False, "epochs": 1})
    settings = config.model_copy(update={"training": plain})
    posterior, _ = train.trained(settings, NETWORK, 1, data, split, NullRun())
    assert posterior.head.temperature == 1


DEFENCE = {
    "kind": "systematics_training",
    "clean": 0.0,
    "families": {"gain_drift": {"kind": "gain_drift", "amplitude": {"low": 0.3, "high": 0.5}}},
}


def test_a_defended_posterior_is_recalibrated_on_maps_as_its_defence_shows_them(
    config, data, split, tmp_path, monkeypatch
):
    """Wider than on clean ones, which say nothing of a drift."""
    monkeypatch.chdir(tmp_path)
    own = {"kind": "network", "preset": "power_spectrum", "defence": DEFENCE}
    posteriors = {**config.posteriors, "marginalised": Network.model_validate(own)}
    settings = config.model_copy(update={"posteriors": posteriors})
    made = []

    def noted(*about):
        made.append(about)
        return of_posterior(*about)

    monkeypatch.setattr(train, "of_posterior", noted)
    posterior, history = train.trained(settings, "marginalised", 1, data, split, NullRun())
    assert set(history) == {"loss", "val_loss", "val_nll", "learning_rate"}
    ((name, entry, taught, seed),) = made
    assert (name, entry, seed) == ("marginalised", posteriors["marginalised"], config.seed)
    np.testing.assert_array_equal(taught.maps, data.maps[split.train])  # its budgets' unit
    defence = of_posterior(
        "marginalised", posteriors["marginalised"], data.take(split.train), config.seed
    )
    part = data.take(split.validation)
    shown = maps_shown(defence, posterior, part.maps, part.labels, config.seed)
    best = best_temperature(posterior, shown, part.labels)
    assert posterior.head.temperature == pytest.approx(best, rel=1e-3)
    assert posterior.head.temperature != pytest.approx(
        best_temperature(posterior, part.maps, part.labels), rel=1e-2
    )


def test_a_defence_that_does_not_fit_names_its_posterior(config, data, split):
    budget = {"value": 1e4, "unit": "count"}
    own = {"kind": "network", "defence": {"kind": "adversarial_training", "epsilon": budget}}
    posteriors = {**config.posteriors, "adversarial": Network.model_validate(own)}
    settings = config.model_copy(update={"posteriors": posteriors})
    with pytest.raises(UserError, match=r"posteriors\.adversarial\.defence\.epsilon = 10000 count"):
        train.trained(settings, "adversarial", 1, data, split, NullRun())


def test_the_likelihood_has_the_wider_box_and_sees_training_maps_only(config, data, split):
    posterior, history = train.trained(config, "likelihood", 1, data, split, NullRun())
    assert history == {}
    for name, ends in inputs.box(data).items():
        assert posterior.head.ranges[name] == pytest.approx(ends)
    rows, others = split.train, split.test
    cells = config.posteriors["likelihood"].cells
    probe = data.maps[:5]
    found = posterior(probe).mean().numpy()
    means = {}
    for part, chosen in (("train", rows), ("test", others)):
        model = likelihood.fit(
            data.maps[chosen],
            data.labels[chosen],
            inputs.box(data),
            Standardiser.fit(data.maps[chosen]),
            data.box_size,
            cells=cells,
        )
        means[part] = train.NetworkPosterior(model)(probe).mean().numpy()
    np.testing.assert_allclose(found, means["train"], rtol=1e-5)
    assert np.abs(found - means["test"]).max() > 1e-3


def test_a_posterior_is_measured_on_its_test_maps(stage, config, data, split):
    posteriors, row, _ = stage
    sizes = {f"n_{part}": len(rows) for part, rows in vars(split).items()}
    assert {name: row[name] for name in sizes} == sizes
    assert len(set(sizes.values())) == 3
    test = data.take(split.test)
    for posterior, written in zip(posteriors, (row, *row["others"]), strict=True):
        means = posterior(test.maps).mean().numpy()
        rmse = np.sqrt(np.mean((means - test.labels) ** 2, axis=0))
        found = [written[f"{name}_rmse"]["mean"] for name in data.names]
        assert found == pytest.approx(rmse, rel=1e-4)
        assert written["temperature"] == pytest.approx(posterior.head.temperature)


def test_trainings_are_independent(stage, data):
    """Other weights and another order, not the same network twice."""
    first, second = (one(data.maps[:8]).mean().numpy() for one in stage[0])
    assert np.abs(first - second).max() > 1e-3
    assert stage[1]["temperature"] != stage[1]["others"][0]["temperature"]


def test_the_learning_curve_has_a_row_an_epoch(stage, config):
    _, _, history = stage
    assert [row["epoch"] for row in history] == [
        str(epoch) for epoch in range(1, config.training.epochs + 1)
    ]
    assert all(np.isfinite(float(row["val_loss"])) for row in history)


def test_what_is_told_of_a_metric():
    lines = train.format_metrics(
        {"rmse": {"mean": 0.5, "low": 0.25, "high": 1.0}, "n": 3, "nan": np.nan}
    )
    assert lines == [f"{'rmse':24s} {0.5:9.4f}  [0.2500, 1.0000]"]
