"""Verdicts: who notices, what escapes, and when there are too few maps to say either."""

import numpy as np
import pytest
from scipy.stats import norm

from spurious.config.detection import Detection
from spurious.detection.two_sample import auroc, auroc_test
from spurious.detection.verdicts import detectors, least_auroc, variance, verdict


def row(p_values, aurocs, n):
    """Two statistics, MMD and a network, which has the last AUROC."""
    names = ("pdf", "peaks", "mmd", "network")
    cells = {name: {"p_value": p} for name, p in zip(names, p_values, strict=True)}
    for name, mean in zip(("pdf", "peaks", "network"), aurocs, strict=True):
        cells[name]["auroc"] = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "kind": "x"}
    return {**cells, "n_maps": n, "n_simulations": n}


QUIET = (0.5, 0.4, 0.3, 0.6)
CHANCE = (0.51, 0.5, 0.52)


def test_what_nobody_sees_escapes():
    found = verdict(row(QUIET, CHANCE, 363))
    assert found["verdict"] == "escapes" and found["by"] == []
    assert found["best"] == "network"
    assert found["auroc"] == {"mean": 0.52, "low": 0.5, "high": 0.54}
    assert found["n_maps"] == 363


def test_only_what_has_a_p_value_judges():
    quiet = row(QUIET, CHANCE, 363)
    assert detectors(quiet) == ["pdf", "peaks", "mmd", "network"]
    with_more = quiet | {"judgement": verdict(quiet), "note": "text"}
    assert detectors(with_more) == detectors(quiet)
    assert verdict(with_more) == verdict(quiet)


def test_the_level_is_shared_out_among_the_detectors():
    assert verdict(row((0.5, 0.003, 0.3, 0.6), CHANCE, 363))["verdict"] == "escapes"
    found = verdict(row((0.5, 0.0024, 0.001, 0.6), CHANCE, 363))
    assert (found["verdict"], found["by"]) == ("noticed", ["mmd", "peaks"])
    assert verdict(row((0.5, 0.003, 0.3, 0.6), CHANCE, 363), Detection(level=0.02))["by"]


def test_false_alarms_of_all_detectors_together_are_as_rare_as_promised():
    draw = np.random.default_rng(0)
    alarms = [verdict(row(draw.uniform(size=4), CHANCE, 363))["by"] != [] for _ in range(20_000)]
    # Binomial, 4 standard deviations of 0.0007; without the factor it would be 0.04.
    assert np.mean(alarms) == pytest.approx(0.01, abs=0.003)


def test_an_auroc_that_so_many_maps_are_sure_to_show_is_noticed():
    least = verdict(row(QUIET, CHANCE, 363))["least_auroc"]
    assert verdict(row(QUIET, (0.5, 0.5, least - 0.001), 363))["verdict"] == "escapes"
    assert verdict(row(QUIET, (least + 0.001, 0.5, 0.5), 363))["by"] == ["pdf"]


@pytest.mark.parametrize("n", [4, 32, 100])
def test_few_maps_never_let_anything_escape(n):
    assert verdict(row(QUIET, CHANCE, n))["verdict"] == "too few maps"
    assert verdict(row(QUIET, (0.5, 0.5, 1.0), 4))["verdict"] == "too few maps"
    assert verdict(row((0.5, 0.001, 0.3, 0.6), CHANCE, n))["verdict"] == "noticed"


def test_maps_of_one_simulation_count_once():
    many = row(QUIET, CHANCE, 363) | {"n_simulations": 121}
    assert verdict(many)["least_auroc"] == verdict(row(QUIET, CHANCE, 121))["least_auroc"]


def test_the_least_auroc_is_noticed_as_often_as_it_says():
    """Gaussian scores, by chance; halves of the maps have the variance of the cross-fit."""
    n, level, power = 200, 0.001, 0.9
    least = least_auroc(n, level, power)
    assert 0.63 < least < 0.70
    shift = np.sqrt(2) * norm.ppf(least)
    draw = np.random.default_rng(1)
    ones = np.ones((1, n // 2))
    seen = 0
    for _ in range(2000):
        clean, perturbed = draw.normal(size=(2, n // 2))
        seen += auroc_test(auroc(clean, perturbed + shift, ones)[0], n) < level
    assert seen / 2000 == pytest.approx(power, abs=0.03)
    assert least_auroc(4, level, power) == 1.0
    assert least_auroc(100_000, level, power) < 0.51


def test_the_variance_is_that_of_gaussian_scores():
    n, value = 60, 0.8
    shift = np.sqrt(2) * norm.ppf(value)
    draw = np.random.default_rng(2)
    ones = np.ones((1, n))
    found = [auroc(c, p + shift, ones)[0] for c, p in draw.normal(size=(3000, 2, n))]
    # Hanley and McNeil's Q1 and Q2 are exact for exponential scores.
    assert 2 * np.var(found) == pytest.approx(variance(value, n), rel=0.12)


def test_a_bad_setting_is_refused():
    with pytest.raises(ValueError, match="strong"):
        Detection(strong=0.5)
    with pytest.raises(ValueError, match="folds"):
        Detection(folds=1)
