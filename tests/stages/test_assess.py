"""Which maps the forecast and the metrics are made of, and which way round a ratio is."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from spurious.networks.layers import log_power
from spurious.pipeline import inputs
from spurious.quality import fisher
from spurious.quality.assessment import assess
from spurious.stages import assess as stage


@pytest.fixture(scope="module")
def split(config, data):
    return inputs.parts(config, data, inputs.split_of(config, config.run.target))


@pytest.fixture(scope="module")
def planted(data, split):
    """The same data set, but P(k) of the maps that are not trained on tells nothing."""
    rows = np.concatenate([split.validation, split.test])
    maps = data.maps.copy()
    maps[rows] = 64 + np.random.default_rng(5).normal(size=maps[rows].shape)
    return replace(data, maps=maps)


def test_the_forecast_is_made_of_the_training_maps(config, data, planted, split):
    found = stage.forecast(config, planted)
    train = data.take(split.train)
    power = log_power(train.maps, data.box_size)
    ranges = inputs.ranges(data)
    expected = fisher.forecast(train.labels, power, ranges)
    assert found["n_maps"] == len(split.train)
    assert found["degree"] == expected.degree
    assert found["rmse"] == pytest.approx(expected.rmse, rel=1e-9)
    assert found["rmse_with_prior"] == pytest.approx(expected.rmse_with_prior, rel=1e-9)
    differences = fisher.from_differences(train.labels, power, ranges)
    assert found["differences"] == pytest.approx(differences.rmse_with_prior, rel=1e-9)
    assert found["rmse"] == stage.forecast(config, data)["rmse"]
    assert found["rmse"]["omega_m"] != pytest.approx(found["rmse_with_prior"]["omega_m"], rel=1e-3)


@pytest.fixture(scope="module")
def two(data, split, config, linear_posterior):
    """A posterior whose errors in Omega_m are halved in the second, and those in sigma_8 doubled.

    Its means are the truth and a known error, laid into two pixels of each map.
    """
    test = data.take(split.test)
    error = np.random.default_rng(6).normal(size=test.labels.shape) * 0.02
    weights = np.zeros((2, 16, 16))
    weights[0, 0, 0] = weights[1, 3, 5] = 1.0
    exact = replace(linear_posterior, weights=weights, offset=np.zeros(2))
    found = []
    for factors in ((1.0, 1.0), (0.5, 2.0)):
        maps = np.zeros((len(test), 16, 16), np.float32)
        maps[:, 0, 0], maps[:, 3, 5] = (test.labels + error * factors).T
        found.append(assess(exact, replace(test, maps=maps), inputs.ranges(data), config.seed))
    return test, error, found


def test_ratios_are_those_of_a_posterior_over_the_estimator(config, two):
    test, error, (poor, mixed) = two
    target = stage.label_of(config, config.run.target, 1)
    found = {name: poor if name == "likelihood" else mixed for name in stage.labelled(config)}
    ratios = stage.ratios(config, found, test)
    row = ratios["likelihood"][target]
    assert row["omega_m"]["mean"] == pytest.approx(0.5, rel=1e-3)
    assert row["sigma_8"]["mean"] == pytest.approx(2.0, rel=1e-3)
    assert "likelihood" not in ratios["likelihood"]
    first = {stage.label_of(config, name, 1) for name in inputs.bystanders(config)}
    assert set(ratios["likelihood"]) == {target, *first} - {"likelihood"}
    assert "held_out" not in ratios["likelihood"]
    rmse = np.sqrt(np.mean(error**2, axis=0))
    assert poor.metrics["omega_m_rmse"]["mean"] == pytest.approx(rmse[0], rel=1e-3)
    assert poor.metrics["sigma_8_rmse"]["mean"] == pytest.approx(rmse[1], rel=1e-3)


def test_every_training_has_a_label_and_the_first_are_compared(config):
    target = config.run.target
    count = config.trainings(target)
    labels = stage.labelled(config)
    assert count > 1
    for number in range(1, count + 1):
        assert labels[f"{target}_{number}"] == (target, number)
    assert labels["likelihood"] == ("likelihood", 1)
    expected = [*config.run.posteriors, *config.run.ensembles]
    assert len(labels) == sum(map(config.trainings, expected))


def test_only_estimators_of_the_power_spectrum_are_baselines(config, two):
    test, _, (poor, _) = two
    baselines = set(stage.ratios(config, dict.fromkeys(stage.labelled(config), poor), test))
    assert baselines == {"likelihood", "power_spectrum"}
    assert not stage.sees_only_power(config, "ensemble")


def test_the_table_and_what_is_told(tmp_path):
    cell = {"mean": 0.25, "low": 0.2, "high": 0.3}
    row = {f"omega_m_{column}": cell for column in stage.COLUMNS} | {"kind": "network"}
    stage.write_table(tmp_path / "table.csv", {"compact": row, "likelihood": {**row, "n": 7}})
    with open(tmp_path / "table.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["posterior"], second["posterior"]) == ("compact", "likelihood")
    ends = [float(first[f"omega_m_rmse{end}"]) for end in ("", ".low", ".high")]
    assert ends == [0.25, 0.2, 0.3]
    assert (first["n"], float(second["n"])) == ("", 7)
    lines = stage.format_scores({"compact": row}, ["omega_m"]).splitlines()
    assert lines[0].split() == ["omega_m", *stage.COLUMNS]
    assert lines[1].split() == ["compact", *["0.2500"] * len(stage.COLUMNS)]


def test_the_comparison_names_the_target_over_the_estimator():
    ratio = {"mean": 0.5, "low": 0.25, "high": 0.75}
    result = {
        "target": "compact",
        "ratios": {"likelihood": {"compact": {"omega_m": ratio}}, "power_spectrum": {}},
        "fisher": {"rmse_with_prior": {"omega_m": 0.0625}},
    }
    assert stage.format_ratios(result, ["omega_m"]).splitlines() == [
        "RMSE of omega_m, compact over likelihood: 0.500 [0.250, 0.750]",
        "Fisher forecast of P(k) within the prior: omega_m 0.0625",
    ]
