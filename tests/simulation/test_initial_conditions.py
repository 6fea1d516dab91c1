import itertools

import numpy as np
import pytest
import tensorflow as tf

from spurious.cosmology import Cosmology, linear_power
from spurious.simulation import initial_conditions, white_noise

N = 16
WAVE = 2 * np.pi * 2 / N  # radians per cell
SLOPE = (8 * np.sin(WAVE) - np.sin(2 * WAVE)) / 6  # of the four-point difference


def coordinate(axis):
    return np.indices((N, N, N))[axis].astype(np.float32)


def test_white_noise_is_unit_and_seeded():
    noise = white_noise(5, 32)
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(0, abs=4 / 32**1.5)
    assert noise.var() == pytest.approx(1, abs=4 * np.sqrt(2) / 32**1.5)
    assert np.array_equal(noise, white_noise(5, 32))
    assert abs(np.mean(noise * white_noise(6, 32))) < 4 / 32**1.5


@pytest.mark.parametrize("omega_m", [0.05, 0.3])
def test_linear_field_has_the_power_spectrum(omega_m):
    n, box_size = 48, 600.0
    power = linear_power(Cosmology(omega_m, 0.8))
    amplitude = initial_conditions.amplitude(power, n, box_size)
    field = initial_conditions.linear_field(white_noise(1, n), amplitude).numpy()

    measured = np.abs(np.fft.fftn(field.astype(np.float64))) ** 2 * box_size**3 / n**6
    frequencies = 2 * np.pi * np.fft.fftfreq(n, box_size / n)
    k = np.sqrt(sum(axis**2 for axis in np.meshgrid(*[frequencies] * 3)))
    edges = np.linspace(0.02, np.pi * n / box_size, 9)
    for low, high in itertools.pairwise(edges):
        shell = (k >= low) & (k < high)
        expected = power(k[shell])
        # Half the modes are independent, each with a relative variance of 1.
        scatter = np.sqrt(2 * np.sum(expected**2)) / np.sum(expected)
        assert np.sum(measured[shell]) / np.sum(expected) == pytest.approx(1, abs=4 * scatter)
    assert abs(field.mean()) < 1e-6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_zeldovich_displacement_of_a_plane_wave(axis):
    """delta = cos(kx) displaces by -g/k^2 sin(kx), towards the crests, along x only."""
    x = coordinate(axis)
    psi = initial_conditions.displacements(tf.constant(np.cos(WAVE * x)), order=1).numpy()
    expected = np.zeros((N, N, N, 3))
    expected[..., axis] = -SLOPE / WAVE**2 * np.sin(WAVE * x)
    assert psi.shape == (1, N**3, 3)
    np.testing.assert_allclose(psi[0], expected.reshape(-1, 3), atol=2e-6)


def test_a_plane_wave_has_no_second_order():
    wave = tf.constant(np.cos(WAVE * coordinate(1)))
    second = initial_conditions.displacements(wave, order=2).numpy()[1]
    np.testing.assert_allclose(second, 0, atol=1e-6)


@pytest.mark.parametrize(("i", "j"), [(0, 1), (1, 2), (2, 0)])
def test_second_order_of_two_crossed_waves(i, j):
    x, y = WAVE * coordinate(i), WAVE * coordinate(j)
    second = initial_conditions.displacements(tf.constant(np.cos(x) + np.cos(y)), order=2)[1]
    source = 3 / 7 * (SLOPE / WAVE) ** 4
    expected = np.zeros((N, N, N, 3))
    expected[..., i] = -source * SLOPE / (2 * WAVE**2) * np.sin(x) * np.cos(y)
    expected[..., j] = -source * SLOPE / (2 * WAVE**2) * np.cos(x) * np.sin(y)
    np.testing.assert_allclose(second, expected.reshape(-1, 3), atol=2e-6)


def test_second_order_of_oblique_waves_has_mixed_terms():
    """cos(x + y) + cos(x - y): the diagonal terms alone would give another answer."""
    x, y = WAVE * coordinate(0), WAVE * coordinate(1)
    oblique = tf.constant(np.cos(x + y) + np.cos(x - y))
    second = initial_conditions.displacements(oblique, order=2)[1]
    # phi_xx = phi_yy = -q (C+ + C-), phi_xy = -q (C+ - C-), with q = g^2 / 2k^2, so the source
    # is 3/7 q^2 4 C+ C- = 3/7 q^2 2 (cos 2x + cos 2y).
    q = SLOPE**2 / (2 * WAVE**2)
    double = (8 * np.sin(2 * WAVE) - np.sin(4 * WAVE)) / 6
    expected = np.zeros((N, N, N, 3))
    for axis, phase in ((0, x), (1, y)):
        expected[..., axis] = -6 / 7 * q**2 * double / (2 * WAVE) ** 2 * np.sin(2 * phase)
    np.testing.assert_allclose(second, expected.reshape(-1, 3), atol=2e-6)
