"""Double backpropagation against finite differences and closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from spurious.data.maps import Standardiser
from spurious.defences.double_backpropagation import information, squared_gradient
from spurious.defences.fisher_penalty import FisherPenalty
from spurious.defences.gradient_penalty import GradientPenalty
from spurious.training.defended import Trainee

tfd = tfp.distributions
PAIR = tf.constant([3, 5])
UNITS = Standardiser(64.0, 30.0)


@pytest.fixture(scope="module")
def trainee():
    """A small network all in float64, for finite differences."""
    keras.utils.set_random_seed(2)
    maps = keras.Input((4, 4), dtype="float64")
    x = keras.layers.Rescaling(1 / 30, offset=-2, dtype="float64")(maps)
    x = keras.layers.Flatten(dtype="float64")(x)
    x = keras.layers.Dense(8, "tanh", dtype="float64", name="hidden")(x)
    outputs = [
        keras.layers.Dense(2, dtype="float64")(x),
        keras.layers.Dense(2, "softplus", dtype="float64")(x),
    ]
    model = keras.Model(maps, outputs)
    return Trainee(model, lambda x: tfd.MultivariateNormalDiag(x[0], 0.1 + x[1]), UNITS)


def test_the_squared_gradient_is_that_of_finite_differences(make_maps):
    """Of a function whose maps do not mix; in standard units."""
    maps = tf.constant(make_maps(2, 4), tf.float64)

    def function(at):
        return tf.reduce_sum(tf.sin(at / 50) * tf.constant([1.0, 2.0, 3.0, 4.0], at.dtype), (1, 2))

    _, found = squared_gradient(function, maps, std=30.0)
    for row in range(2):
        total = 0.0
        for i in range(4):
            for j in range(4):
                step = np.zeros((2, 4, 4))
                step[row, i, j] = 30.0 * 1e-5
                up, down = (function(maps + sign * step)[row] for sign in (1, -1))
                total += (float(up - down) / 2e-5) ** 2
        assert float(found[row]) == pytest.approx(total, rel=1e-6)


def test_the_gradient_penalty_is_the_closed_form_of_a_linear_gaussian(
    network, linear_posterior, maps, truth
):
    error = (truth.numpy() - linear_posterior.means(maps)) / linear_posterior.scale**2
    gradient = 30.0 * np.einsum("bp,pij->bij", error, linear_posterior.weights)
    expected = -network(maps).log_prob(truth) + 0.2 * np.sum(gradient**2, axis=(1, 2))
    found = GradientPenalty(weight=0.2).loss(network, maps, truth, PAIR)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_information_is_the_closed_form_of_a_linear_gaussian(
    network, linear_posterior, maps, truth
):
    rows = 30.0 * linear_posterior.weights / linear_posterior.scale[:, None, None]
    expected = -network(maps).log_prob(truth) + 0.2 * np.sum(rows**2)
    found = FisherPenalty(weight=0.2).loss(network, maps, truth, PAIR)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_half_the_information_along_a_small_change_is_the_divergence(make_maps):
    """KL = d^T F d / 2, averaged over directions: tr F over the pixels, for correlated widths."""
    draw = np.random.default_rng(0)
    weights = tf.constant(draw.normal(size=(2, 4, 4)) * 1e-3)
    factor = tf.constant([[0.05, 0.0], [-0.03, 0.02]], tf.float64)

    def posterior(at):
        mean = tf.einsum("pij,bij->bp", weights, at)
        return tfd.MultivariateNormalTriL(mean, factor[None])

    maps = tf.constant(make_maps(1, 4), tf.float64)
    _, trace = information(posterior, maps, std=1.0)
    total = 0.0
    for i in range(4):
        for j in range(4):
            step = np.zeros((1, 4, 4))
            step[0, i, j] = 1.0
            total += 2 * float(posterior(maps + step).kl_divergence(posterior(maps))[0])
    assert float(trace[0]) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("defence", [GradientPenalty(weight=0.1), FisherPenalty(weight=0.1)])
def test_the_penalty_has_the_gradient_of_finite_differences_in_the_weights(
    trainee, make_maps, defence
):
    """The second backpropagation: along a random direction of a layer's weights."""
    maps = tf.constant(make_maps(3, 4), tf.float64)
    truth = tf.constant([[0.2, 0.6], [0.3, 0.8], [0.4, 0.9]], tf.float64)
    weight = trainee.model.get_layer("hidden").kernel
    direction = np.random.default_rng(1).standard_normal(weight.shape)

    def loss():
        return tf.reduce_sum(defence.loss(trainee, maps, truth, PAIR))

    with tf.GradientTape() as tape:
        value = loss()
    slope = np.sum(tape.gradient(value, weight.value).numpy() * direction)
    before, values = weight.numpy(), []
    for sign in (1, -1):
        weight.assign(before + sign * 1e-5 * direction)
        values.append(float(loss()))
    weight.assign(before)
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)
