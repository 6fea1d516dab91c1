"""The logistic systematic and its matched amplitude."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.perturbations.systematics import Logistic, matched

PAPER = Logistic(0.25, -15.0, 3.0)


def test_equation_3():
    density = np.array([[[0.0, 30.0, 60.0, 90.0]]])
    expected = density + 3.0 / (1.0 + np.exp(0.25 * density - 15.0))
    np.testing.assert_allclose(PAPER(density), expected, rtol=1e-14)
    assert float(PAPER(density)[0, 0, 2]) == pytest.approx(61.5)  # half of beta at the transition


def test_no_overflow_far_from_the_transition():
    density = np.array([[[0.0, 1e4, 1e6]]], np.float32)
    for a in (2.0, -2.0):
        assert np.all(np.isfinite(Logistic(a, -800.0, 3.0)(density)))


def test_negative_amplitudes_empty_pixels_but_no_further():
    density = np.array([[[1.0, 5.0, 200.0]]])
    systematic = Logistic(0.25, -15.0, -3.0)
    np.testing.assert_allclose(systematic(density)[0, 0], [0.0, 2.0, 200.0], atol=1e-4)
    assert float(systematic.unclipped(density)[0, 0, 0]) == pytest.approx(-2.0, abs=1e-4)


def test_gradients_in_parameters_and_maps():
    density = tf.constant(np.random.default_rng(0).uniform(10, 120, size=(1, 8, 8)))
    parameters = tf.constant([0.25, -15.0, 3.0], tf.float64)

    def total(p, x):
        return tf.reduce_sum(Logistic(p[0], p[1], p[2])(x) ** 2)

    with tf.GradientTape() as tape:
        tape.watch((parameters, density))
        value = total(parameters, density)
    by_parameters, by_map = tape.gradient(value, (parameters, density))
    for i in range(3):
        step = 1e-6 * np.eye(3)[i]
        numerical = (total(parameters + step, density) - total(parameters - step, density)) / 2e-6
        np.testing.assert_allclose(by_parameters[i], numerical, rtol=1e-5)
    step = 1e-5 * np.random.default_rng(1).normal(size=(1, 8, 8))
    numerical = (total(parameters, density + step) - total(parameters, density - step)) / 2
    np.testing.assert_allclose(np.sum(by_map * step), numerical, rtol=1e-6)


@pytest.mark.parametrize("beta", [3.0, 0.0, -3.0])
@pytest.mark.parametrize("target", [1e-4, 2.0, 300.0])
def test_matched_amplitudes_reach_the_mean_square(make_maps, beta, target):
    maps = make_maps(4, 32)
    found = matched(Logistic(0.25, -15.0, beta), maps, target)
    assert found.beta < 0 if beta < 0 else found.beta > 0
    assert (found.a, found.b) == (0.25, -15.0)
    change = found(maps.astype(np.float64)) - maps
    assert np.mean(change**2) == pytest.approx(target, rel=1e-6)


def test_nothing_to_match_is_no_change(make_maps):
    maps = make_maps(2, 16)
    np.testing.assert_array_equal(matched(PAPER, maps, 0.0)(maps), maps)


@pytest.mark.parametrize(
    ("systematic", "target"),
    [
        (PAPER, -1.0),
        (PAPER, float("nan")),
        (Logistic(0.25, -15.0, -3.0), 1e5),  # more than there is
        (Logistic(0.25, 1e4, 3.0), 1.0),  # touches no pixel
        (Logistic(0.25, 1e4, -3.0), 1.0),
    ],
)
def test_impossible_targets_are_refused(make_maps, systematic, target):
    with pytest.raises(ValueError, match=r"mean_square|no pixel"):
        matched(systematic, make_maps(2, 16), target)
