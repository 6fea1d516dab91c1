"""Noise: the random-sign and Gaussian controls, and noise with a chosen power spectrum."""

import numpy as np
import pytest
import tensorflow as tf

from spurious import spectra
from spurious.perturbations.noise import CorrelatedNoise, GaussianNoise, RandomSign, normals


def test_signs_are_fair_and_independent_between_maps_and_seeds(make_maps):
    maps = make_maps(20, 32) + 10
    signs = np.sign(RandomSign(1.0, seed=3)(maps) - maps).reshape(20, -1)
    other = np.sign(RandomSign(1.0, seed=4)(maps) - maps).reshape(20, -1)
    assert set(np.unique(signs)) == {-1, 1}
    # Five standard errors of a mean of n fair signs.
    assert abs(signs.mean()) < 5 / np.sqrt(signs.size)
    assert abs((signs * other).mean()) < 5 / np.sqrt(signs.size)
    between = (signs @ signs.T / signs.shape[1])[~np.eye(20, dtype=bool)]
    assert np.abs(between).max() < 5 / np.sqrt(signs.shape[1])


def test_gaussian_noise_has_its_rms_and_is_independent_between_pixels_maps_and_seeds(make_maps):
    maps = make_maps(20, 32).astype(np.float64) + 100
    noise = (GaussianNoise(3.0, seed=3)(maps) - maps).numpy() / 3
    other = (GaussianNoise(3.0, seed=4)(maps) - maps).numpy() / 3
    error = 1 / np.sqrt(noise.size)
    assert abs(noise.mean()) < 5 * error
    assert abs(np.mean(noise**2) - 1) < 5 * np.sqrt(2) * error
    assert abs(np.mean(noise**4) - 3) < 5 * np.sqrt(96) * error  # Gaussian
    assert abs(np.mean(noise * other)) < 5 * error
    assert abs(np.mean(noise * np.roll(noise, 1, axis=1))) < 5 * error
    assert abs(np.mean(noise * np.roll(noise, 1, axis=2))) < 5 * error
    flat = noise.reshape(20, -1)
    between = (flat @ flat.T / flat.shape[1])[~np.eye(20, dtype=bool)]
    assert np.abs(between).max() < 5 / np.sqrt(flat.shape[1])


@pytest.mark.parametrize("index", [0.0, -1.5, 1.0])
def test_correlated_noise_has_its_spectrum_and_rms(make_maps, index):
    maps = make_maps(60, 32).astype(np.float64) + 100
    noise = (CorrelatedNoise(2.0, index, seed=1)(maps) - maps).numpy()
    np.testing.assert_allclose(noise.mean((1, 2)), 0, atol=1e-12)
    bins = spectra.bins(32, 32.0)
    power = spectra.power(noise, 32.0, contrast=False).numpy().mean(0)
    # Mean of k^index over each annulus, normalised over all modes but k = 0 to the variance.
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(32, 1 / 32), np.fft.fftfreq(32, 1 / 32)))
    law = np.where(k > 0, np.maximum(k, 1) ** index, 0)
    annulus = np.floor(k + 0.5)
    expected = np.array([law[annulus == i + 1].mean() for i in range(len(bins.k))])
    expected *= 4.0 * 32**2 / law.sum()  # sum of P over modes / L^2 = variance
    scatter = spectra.cosmic_variance(bins.n_modes) / np.sqrt(60)
    assert np.all(np.abs(power / expected - 1) < 5 * scatter)
    # The variance's own scatter: a sum of chi-squared terms weighted by the law.
    spread = np.sqrt(2 * np.sum(law**2) / np.sum(law) ** 2 / 60)
    assert np.mean(noise**2) == pytest.approx(4.0, rel=5 * spread)


def test_both_axes_are_alike(make_maps):
    maps = make_maps(60, 32).astype(np.float64) + 100
    noise = (CorrelatedNoise(2.0, -1.0, seed=1)(maps) - maps).numpy()
    rows, columns = (np.mean(noise * np.roll(noise, 1, axis=axis)) for axis in (1, 2))
    assert rows == pytest.approx(columns, rel=0.1) and rows > 1


def test_a_map_and_its_double_precision_copy_have_the_same_draw(make_maps):
    maps = make_maps(3, 16)
    double = normals(tf.constant(maps, tf.float64), 1, "x")
    np.testing.assert_array_equal(normals(tf.constant(maps), 1, "x"), double)


def test_one_changed_pixel_changes_the_draw(make_maps):
    maps = np.repeat(make_maps(1, 16), 3, axis=0)
    maps[1, 3, 4] += 1
    maps[2, 4, 3] += 1
    draws = normals(tf.constant(maps), 1, "x").numpy().reshape(3, -1)
    assert np.abs(np.corrcoef(draws)[~np.eye(3, dtype=bool)]).max() < 0.35


def test_the_draw_is_the_same_in_a_graph(make_maps):
    maps = make_maps(3, 16)
    noise = CorrelatedNoise(2.0, -1.0, seed=1)
    np.testing.assert_allclose(tf.function(noise)(maps), noise(maps), rtol=1e-5, atol=1e-4)
