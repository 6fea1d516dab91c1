"""The compact preset, its periodic padding and its mixture head."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spurious.inference.network import MixtureHead, WrapPadding, compact
from spurious.maps import Standardiser

RANGES = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}
UNITS = Standardiser(mean=64.0, std=38.8)


def counts(batch, n, seed=0):
    draw = np.random.default_rng(seed)
    return draw.gamma(2.7, 23.7, (batch, n, n)).astype(np.float32)


@pytest.mark.parametrize("width", [1, 2])
def test_wrap_padding_is_numpys(width):
    images = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    expected = np.pad(images, [(0, 0), (width, width), (width, width), (0, 0)], mode="wrap")
    np.testing.assert_array_equal(WrapPadding(width)(images), expected)


def test_padded_convolution_commutes_with_rolls():
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 1)).astype(np.float32)
    convolution = keras.Sequential([WrapPadding(1), keras.layers.Conv2D(3, 3)])
    rolled = convolution(np.roll(images, (3, -2), (1, 2))).numpy()
    np.testing.assert_allclose(
        rolled, np.roll(convolution(images).numpy(), (3, -2), (1, 2)), atol=1e-6
    )


@pytest.mark.parametrize(("n", "m", "p"), [(16, 1, 1), (32, 3, 2), (64, 1, 2), (100, 2, 4)])
def test_outputs_have_the_documented_shapes_and_positive_scales(n, m, p):
    ranges = {f"parameter_{i}": (0.0, 1.0 + i) for i in range(p)}
    means, scales, logits = compact(n, m, UNITS, ranges, seed=1)(counts(3, n))
    assert (means.shape, scales.shape, logits.shape) == ((3, m, p), (3, m, p), (3, m))
    assert np.all(scales.numpy() > 0)


def test_head_is_in_physical_units():
    """Worked by hand: half ranges 0.25 and 2, centres 0.3 and 3, softplus(0) = log 2."""
    head = MixtureHead({"a": (0.05, 0.55), "b": (1.0, 5.0)}, components=2, floor=0.01)
    features = np.array([[0, 1, 0, -40, 7, -1, 0.5, -40, 0, 8]], np.float32)
    means, scales, logits = head(features)
    np.testing.assert_allclose(means, [[[0.3, 5.0], [0.05, 4.0]]], rtol=1e-6)
    half = np.array([0.25, 2.0])
    soft = np.array([[np.log(2), 0.0], [0.0, np.log(2)]])
    np.testing.assert_allclose(scales[0], half * (soft + 0.01), rtol=1e-5)
    np.testing.assert_allclose(logits, [[7.0, 8.0]])


def test_units_are_inside_the_network():
    """Maps in other units with another standardiser give the same answer."""
    maps = counts(4, 32)
    expected = compact(32, 1, UNITS, RANGES, seed=1)(maps)
    halved = Standardiser(UNITS.mean / 2, UNITS.std / 2)
    for one, two in zip(expected, compact(32, 1, halved, RANGES, seed=1)(maps / 2), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_output_ignores_rolls_by_the_poolings_stride():
    network = compact(64, 1, UNITS, RANGES, seed=1)
    maps = counts(2, 64)
    here, there = network(maps), network(np.roll(maps, (16, -32), (1, 2)))
    for one, two in zip(here, there, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_seed_decides_the_weights_whatever_ran_before():
    first = compact(16, 2, UNITS, RANGES, seed=2**62 + 3).get_weights()
    keras.utils.set_random_seed(99)
    again = compact(16, 2, UNITS, RANGES, seed=2**62 + 3).get_weights()
    other = compact(16, 2, UNITS, RANGES, seed=4).get_weights()
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])


def test_size_is_what_the_docstring_says():
    assert 300_000 < compact(64, 1, UNITS, RANGES, seed=1).count_params() < 400_000


def test_gradients_reach_every_pixel_and_repeat_exactly():
    network = compact(32, 1, UNITS, RANGES, seed=1)
    maps = tf.constant(counts(2, 32))

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(network(maps, training=False)[0])
        return tape.gradient(total, maps).numpy()

    first = gradient()
    assert np.all(first != 0)
    np.testing.assert_array_equal(first, gradient())


@pytest.mark.parametrize(("n", "m"), [(15, 1), (64, 0)])
def test_impossible_sizes_are_refused(n, m):
    with pytest.raises(ValueError, match="must be at least"):
        compact(n, m, UNITS, RANGES, seed=1)
