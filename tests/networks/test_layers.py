"""Periodic padding and the logarithm of the binned power."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from powerbox import get_power

from spurious import spectra
from spurious.networks.layers import SMALLEST_MEAN, Contrast, LogPower, WrapPadding

BOX = 128.0


@pytest.mark.parametrize("width", [1, 2])
def test_wrap_padding_is_numpys(width):
    images = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    expected = np.pad(images, [(0, 0), (width, width), (width, width), (0, 0)], mode="wrap")
    np.testing.assert_array_equal(WrapPadding(width)(images), expected)


def plainly_padded(images):
    images = tf.concat([images[:, -1:], images, images[:, :1]], axis=1)
    return tf.concat([images[:, :, -1:], images, images[:, :, :1]], axis=2)


@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_the_gradient_of_wrap_padding_is_tensorflows_bit_for_bit(side):
    """Of first order, and of a function of that gradient."""
    draw = np.random.default_rng(0)
    images, upstream = (
        tf.constant(draw.standard_normal((2, n, n, 3)), tf.float32) for n in (side, side + 2)
    )

    def gradients(padding):
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as inner:
                inner.watch(images)
                value = tf.reduce_sum(padding(images) ** 3 * upstream)
            first = inner.gradient(value, images)
            second = tf.reduce_sum(first**2)
        return first.numpy(), outer.gradient(second, images).numpy()

    for found, expected in zip(gradients(WrapPadding(1)), gradients(plainly_padded), strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_array_equal(found, expected)


def test_padded_convolution_commutes_with_rolls():
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 1)).astype(np.float32)
    convolution = keras.Sequential([WrapPadding(1), keras.layers.Conv2D(3, 3)])
    rolled = convolution(np.roll(images, (3, -2), (1, 2))).numpy()
    np.testing.assert_allclose(
        rolled, np.roll(convolution(images).numpy(), (3, -2), (1, 2)), atol=1e-6
    )


def test_log_power_is_powerboxs(make_maps):
    """Bin by bin, on the contrast, with the package's edges: (i - 1/2, i + 1/2] k_F."""
    maps = make_maps(3, 32)
    fundamental = 2 * np.pi / BOX
    edges = fundamental * (np.arange(1, 17) - 0.5)
    options = {"bins": edges, "remove_shotnoise": False, "ignore_zero_mode": True}
    expected = [
        get_power(one / one.mean() - 1, BOX, bins_upto_boxlen=True, **options).power
        for one in maps.astype(np.float64)
    ]
    np.testing.assert_allclose(LogPower(BOX)(maps), np.log(expected), rtol=0, atol=1e-4)


def test_contrast_is_each_map_over_its_own_mean(make_maps):
    maps = make_maps(3, 16) * np.array([0.5, 1.0, 3.0], np.float32)[:, None, None]
    expected = [one / one.mean() - 1 for one in maps.astype(np.float64)]
    np.testing.assert_allclose(Contrast()(maps), expected, rtol=1e-5, atol=1e-6)


def test_an_empty_map_has_a_finite_contrast():
    maps = np.stack([np.zeros((8, 8)), np.full((8, 8), SMALLEST_MEAN / 2)]).astype(np.float32)
    expected = np.repeat([-1.0, -0.5], 64).reshape(2, 8, 8)
    np.testing.assert_allclose(Contrast()(maps), expected, rtol=1e-6)


@pytest.mark.parametrize("make", [lambda **options: LogPower(BOX, **options), Contrast])
def test_layers_have_the_gradient_of_finite_differences(make_maps, make):
    maps = tf.constant(make_maps(1, 16), tf.float64)
    layer = make(dtype="float64")
    draw = np.random.default_rng(0)
    direction, weights = draw.standard_normal(maps.shape), draw.standard_normal(layer(maps).shape)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(weights * layer(maps))
    slope = np.sum(tape.gradient(total, maps).numpy() * direction)
    step = 1e-4
    up, down = (tf.reduce_sum(weights * layer(maps + sign * step * direction)) for sign in (1, -1))
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-5)


def test_a_map_without_fluctuations_has_a_finite_logarithm():
    maps = np.full((2, 16, 16), 64.0, np.float32)
    found = LogPower(BOX)(maps).numpy()
    assert found.shape == (2, len(spectra.bins(16, BOX).k))
    assert np.isfinite(found).all()
