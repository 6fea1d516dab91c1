"""Readings of the paper's formulas, against the formulas written out in each unit."""

import math
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from spurious import MapSet, Posterior, Standardiser
from spurious.networks.compact import Compact
from spurious.networks.head_layer import HeadLayer
from spurious.params import load

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

from explained import lines, networks, readings, table

N, BOX = 16, 32.0


@pytest.fixture(scope="module")
def maps():
    """Lognormal maps of mean 64, no pixel near zero."""
    field = np.random.default_rng(1).normal(0, 0.5, (6, N, N))
    return (64 * np.exp(field - 0.125)).astype(np.float32)


@pytest.fixture(scope="module")
def test_maps(maps):
    labels = np.tile([[0.3, 0.8]], (len(maps), 1))
    index = np.arange(len(maps))
    return MapSet(maps, labels, index.astype(np.uint64), index, np.zeros_like(index), BOX)


def of_mean(maps):
    """A posterior whose mean rises with each pixel: the truth, far below, pushes all upwards."""
    mean = tf.reduce_mean(maps, axis=(1, 2))[:, None] / 64.0
    scale = tf.ones_like(mean) * 0.5
    return tfp.distributions.MultivariateNormalDiag(
        tf.concat([mean, mean], 1), tf.concat([scale, scale], 1)
    )


POSTERIOR = Posterior.from_callable(
    of_mean, names=("omega_m", "sigma_8"), standardiser=Standardiser(64.0, 40.0)
)
ATTACK = readings.Attack(POSTERIOR)
SEEN = {  # unit -> counts to x, and back
    "counts": (lambda y, m: y, lambda x, m: x),
    "contrast": (lambda y, m: y / m.mean() - 1, lambda x, m: m.mean() * (1 + x)),
    "standardised": (
        lambda y, m: (y - m.mean()) / m.std(),
        lambda x, m: m.mean() + m.std() * x,
    ),
    "log": (lambda y, m: np.log(1 + y / m.mean()), lambda x, m: m.mean() * (np.exp(x) - 1)),
    "0 to 1": (lambda y, m: y / m.max(), lambda x, m: x * m.max()),
}


@pytest.mark.parametrize("name", SEEN)
def test_the_systematic_is_the_papers_formula_in_each_unit(maps, name):
    forward, back = SEEN[name]
    double = maps.astype(float)
    x = forward(double, double)
    wanted = back(x + 3.0 / (1 + np.exp(0.25 * x - 15.0)), double)
    found = readings.units(maps)[name].systematic(maps)
    np.testing.assert_allclose(found, wanted, rtol=2e-5)
    assert not np.allclose(found, maps, rtol=1e-4)


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize(("clip", "steps"), [("x ≥ 0", 10), ("x ≥ 0, |Δx| ≤ α", 1)])
def test_the_attack_steps_in_each_unit(maps, name, clip, steps):
    forward, _ = SEEN[name]
    truth = np.tile([[-5.0, -5.0]], (len(maps), 1)).astype(np.float32)
    found = readings.units(maps)[name].attack(ATTACK, maps, truth, 0.01, clip)
    double = maps.astype(float)
    change = forward(found.astype(float), double) - forward(double, double)
    np.testing.assert_allclose(change, 0.01 * steps, rtol=1e-3)


@pytest.mark.parametrize("name", SEEN)
def test_a_matched_systematic_changes_as_much_in_its_unit(maps, name):
    forward, _ = SEEN[name]
    truth = np.tile([[-5.0, -5.0]], (len(maps), 1)).astype(np.float32)
    unit, double = readings.units(maps)[name], maps.astype(float)
    attacked = unit.attack(ATTACK, maps, truth, 0.01, "x ≥ 0")
    found = unit.systematic(maps, like=attacked)
    squares = [
        np.mean((forward(one.astype(float), double) - forward(double, double)) ** 2)
        for one in (attacked, found)
    ]
    assert squares[1] == pytest.approx(squares[0], rel=2e-3)


def test_the_distance_is_that_of_the_worst_of_three():
    def numbers(mean):
        return {"kl_perturbed_clean": {"mean": mean}}

    paper = numbers(1.05), numbers(0.98), {"mean": 0.67}
    assert table.distance(*paper) == 0
    assert table.distance(numbers(2.1), *paper[1:]) == pytest.approx(math.log(2))
    assert table.distance(*paper[:2], {"mean": 0.67 / 3}) == pytest.approx(math.log(3))
    assert table.distance(paper[1], paper[0], paper[2]) == pytest.approx(math.log(1.05 / 0.98))


def test_the_alpha_that_is_fitted_gives_the_divergence_wanted(test_maps):
    """The mean moves by 10 alpha, so the KL is that of two Gaussians: quadratic in alpha."""
    trainings = table.Trainings([POSTERIOR], test_maps, 1)
    unit = readings.Linear(0.0, 1000.0)

    def divergence(alpha):
        return 2 * 0.5 * (10 * alpha * 1000 / 64 / 0.5) ** 2

    found = trainings.fitted(unit, "x ≥ 0", divergence(0.003))
    assert found == pytest.approx(0.003, rel=1e-3)
    assert trainings.fitted(unit, "x ≥ 0", divergence(10.0)) == math.inf
    assert trainings.fitted(unit, "x ≥ 0", divergence(1e-5)) == 0


def test_every_reading_has_its_row(test_maps):
    trainings = table.Trainings([POSTERIOR, POSTERIOR], test_maps, 1)
    rows = table.rows("target", trainings, readings.units(test_maps.maps))
    fitted = [row for row in rows if "fitted" in row["attack"]]
    assert {row["attack"] for row in fitted} == {f"{unit}, α fitted" for unit in table.FITTED}
    assert len(rows) - len(fitted) == len(table.PAIRS) * len(readings.CLIPS)
    for row in rows:
        both = [row[beta]["systematic"]["rms_counts"]["mean"] for beta in table.BETAS]
        if row["systematic"] != "log":  # which is matched in its own unit
            assert both[1] == pytest.approx(row["bim"]["rms_counts"]["mean"], rel=0.1)
        assert row["n_trainings"] == 2 and row["n_maps"] == len(test_maps)


@pytest.mark.parametrize(("preset", "depends"), [(networks.ZeroPadded, True), (Compact, False)])
def test_zero_padding_sees_where_a_map_begins(maps, preset, depends):
    head = HeadLayer({"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)})
    model = preset(width=0.25).model(N, head, Standardiser(64.0, 40.0), 1)
    below = keras.Model(model.inputs, model.layers[-1].input)
    moved = np.roll(maps, N // 2, axis=1)
    same = np.allclose(below(maps), below(moved), rtol=1e-4, atol=1e-5)
    assert same != depends


def test_networks_are_as_wide_as_the_target_and_train_for_a_third():
    config = load(Path("params.yaml"), "pilot")
    for name in networks.CHANGES:
        entry, used = networks.described(config, name)
        assert entry.preset.width == 0.5, name
        assert used.epochs == config.training.epochs // 3
    assert networks.described(config, "zero padding")[0].preset.CLASS is networks.ZeroPadded


def kl(low, high):
    """A damage with this interval of the mean KL."""
    ends = {"mean": (low + high) / 2, "low": low, "high": high}
    change = {f"mean_power_change_{one}": {"mean": 0.01} for one in lines.SPECTRA}
    return {"kl_perturbed_clean": ends, "mean_power_change_cosmic_contrast": 0.1, **change}


def test_a_reading_agrees_if_both_intervals_hold_the_papers_numbers():
    """1.05 nat by the attack and 0.98 by the systematic; not the other way round."""
    pair = {"mean": 2.0, "low": 1.0, "high": 3.0}

    def reading(attack, systematic, network="target"):
        made = {"systematic": systematic, "pair": pair, "distance": 1.0}
        return {
            "network": network, "attack": "log", "clip": "x ≥ 0", "systematic": "counts",
            "alpha": 0.01, "bim": attack, "fixed": made,
            "matched": {**made, "systematic": kl(3, 4)},
        }  # fmt: skip

    rows = [
        reading(kl(1, 2), kl(0.9, 1)),
        reading(kl(0.9, 1), kl(1, 2)),
        reading(kl(1, 2), kl(1, 2)),
        reading(kl(1, 2), kl(0.9, 1), "another"),
    ]
    (line,) = lines.agreeing(rows, "target")[1]
    assert line[:6] == ["log", "x ≥ 0", "counts", "3", "1.5 [1, 2]", "0.95 [0.9, 1]"]
