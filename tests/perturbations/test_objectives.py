"""Objectives: values, and gradients against central differences."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from spurious.data.maps import Standardiser
from spurious.perturbations.gradient import BIM, PGD
from spurious.perturbations.objectives import (
    OBJECTIVES,
    Overconfident,
    ShiftS8,
    Toward,
    TowardUniverse,
    Underconfident,
    named,
)

tfd = tfp.distributions
PLANCK = (0.31, 0.82)
ALL = OBJECTIVES | {"toward": Toward(PLANCK), "shift_s8": ShiftS8(3.0)}


class Curved:
    """A posterior whose mean, width and correlation all depend on the map, not linearly."""

    names, standardiser = ("omega_m", "sigma_8"), Standardiser(64.0, 30.0)

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, maps):
        maps = tf.convert_to_tensor(maps)
        a, b, c, d, e = tf.unstack(
            tf.einsum("pij,bij->bp", tf.constant(self.weights, maps.dtype), maps), axis=1
        )
        mean = tf.stack([0.3 + 0.1 * tf.tanh(a), 0.8 + 0.1 * tf.sin(b)], axis=1)
        rows = [[0.05 * tf.exp(c), tf.zeros_like(c)], [0.03 * tf.sin(e), 0.03 * tf.exp(d)]]
        triangle = tf.transpose(tf.convert_to_tensor(rows), [2, 0, 1])
        return tfd.MultivariateNormalTriL(mean, triangle)


@pytest.fixture(scope="module")
def curved():
    return Curved(np.random.default_rng(4).normal(size=(5, 8, 8)) * 1e-3)


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(3, 8).astype(np.float64)


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(2).uniform([0.05, 0.5], [0.55, 1.0], size=(3, 2))


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_central_differences(curved, maps, truth, name):
    clean = curved(maps)
    there = tf.constant(maps * np.random.default_rng(1).uniform(0.9, 1.1, maps.shape))

    def value(x):
        return ALL[name](curved(x), clean, truth)

    with tf.GradientTape() as tape:
        tape.watch(there)
        total = tf.reduce_sum(value(there))
    gradient = tape.gradient(total, there).numpy()
    way = np.random.default_rng(3).normal(size=maps.shape)
    numerical = (value(there + 1e-4 * way) - value(there - 1e-4 * way)) / 2e-4
    np.testing.assert_allclose(np.sum(gradient * way, (1, 2)), numerical, rtol=1e-6)
    assert np.all(np.abs(gradient).max((1, 2)) > 1e-8)


@pytest.mark.parametrize("name", ALL)
def test_flat_at_clean_says_where_the_gradient_is_zero(curved, maps, truth, name):
    clean, x = curved(maps), tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(ALL[name](curved(x), clean, truth))
    largest = np.abs(tape.gradient(total, x)).max((1, 2))
    assert np.all(largest < 1e-12 if ALL[name].flat_at_clean else largest > 1e-6)


def test_the_two_directions_of_kl(curved, maps, truth):
    perturbed, clean = curved(maps * 1.3), curved(maps)
    forward, backward = perturbed.kl_divergence(clean), clean.kl_divergence(perturbed)
    for name in ("kl", "kl_perturbed_clean"):
        np.testing.assert_allclose(OBJECTIVES[name](perturbed, clean, truth), forward)
    np.testing.assert_allclose(OBJECTIVES["kl_clean_perturbed"](perturbed, clean, truth), backward)
    assert np.all(np.abs(forward - backward) > 1e-3)


def test_shift_of_s8_in_clean_sigmas(curved, maps):
    """First-order sigma against a million draws, value against the definition."""
    clean, perturbed = curved(maps), curved(maps * 1.3)

    def s_8(x):
        return x[..., 1] * np.sqrt(x[..., 0] / 0.3)

    found = ShiftS8(3.0).shift(perturbed, clean)
    narrow = tfd.MultivariateNormalTriL(clean.mean(), 0.01 * clean.scale_tril)
    sigma = 100 * np.std(s_8(narrow.sample(100_000, seed=1).numpy()), axis=0)
    expected = (s_8(perturbed.mean().numpy()) - s_8(clean.mean().numpy())) / sigma
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_shift_of_s8_knows_the_order_of_the_parameters(curved, maps):
    class Swapped:
        names, standardiser = ("sigma_8", "omega_m"), curved.standardiser

        def __call__(self, x):
            one = curved(x)
            cov = tf.reverse(one.covariance(), [1, 2])
            return tfd.MultivariateNormalTriL(tf.reverse(one.mean(), [1]), tf.linalg.cholesky(cov))

    swapped = Swapped()
    found = ShiftS8(3.0, swapped.names).shift(swapped(maps * 1.3), swapped(maps))
    np.testing.assert_allclose(found, ShiftS8(3.0).shift(curved(maps * 1.3), curved(maps)))
    one = swapped(maps)
    np.testing.assert_array_equal(
        TowardUniverse(0.31, 0.82, swapped.names)(one, one, None), one.log_prob([0.82, 0.31])
    )


def test_confidence_is_of_the_covariance(curved, maps):
    one = curved(maps)
    found = Underconfident()(one, one, None)
    np.testing.assert_allclose(found, 2 * np.log(np.abs(np.linalg.det(one.scale_tril.numpy()))))
    np.testing.assert_array_equal(Overconfident()(one, one, None), -found)


def far(maps):
    return maps + 200  # nothing is clipped


def climb(posterior, objective):
    return PGD(posterior, 100.0, steps=60, decay="linear", objective=objective, random_start=False)


def test_toward_approaches_the_target(curved, maps):
    objective = Toward(PLANCK)
    attacked = climb(curved, objective)(far(maps))
    before, after = (np.abs(curved(x).mean() - PLANCK).sum(1) for x in (far(maps), attacked))
    assert np.all(after < 0.5 * before)
    gain = curved(attacked).log_prob(PLANCK) - curved(far(maps)).log_prob(PLANCK)
    assert np.all(gain > 0.1)


@pytest.mark.parametrize("sigmas", [0.25, -0.25])
def test_shift_s8_arrives_and_stops(curved, maps, sigmas):
    objective = ShiftS8(sigmas)
    attacked = climb(curved, objective)(far(maps))
    found = objective.shift(curved(attacked), curved(far(maps)))
    np.testing.assert_allclose(found, sigmas, atol=0.02)


@pytest.mark.parametrize(("name", "sign"), [("overconfident", -1), ("underconfident", 1)])
def test_confidence_moves_the_right_way(curved, maps, name, sign):
    attacked = BIM(curved, 0.5, objective=name)(far(maps))
    volumes = [np.linalg.slogdet(curved(x).covariance())[1] for x in (attacked, far(maps))]
    assert np.all(sign * (volumes[0] - volumes[1]) > 0.1)


def test_an_objective_that_cannot_move_is_no_silent_success(linear_posterior, make_maps):
    with pytest.raises(ValueError, match="'overconfident' does not depend on the maps"):
        BIM(linear_posterior, 1.0, objective="overconfident")(make_maps(1, 16))


@pytest.mark.parametrize(
    "make_wrong",
    [
        lambda: ShiftS8(1.0, ("omega_m", "h")),
        lambda: TowardUniverse(0.3, 0.8, ("omega_m", "h")),
        lambda: named("mse"),
    ],
)
def test_impossible_objectives_are_refused(make_wrong):
    with pytest.raises(ValueError, match="objective"):
        make_wrong()


@pytest.mark.parametrize("sigmas", [0.0, float("nan")])
def test_a_shift_by_nothing_is_refused(sigmas):
    with pytest.raises(ValueError, match="sigmas"):
        ShiftS8(sigmas)
