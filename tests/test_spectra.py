"""Power spectra against plane waves, brute force, powerbox and finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from powerbox import get_power

from spurious import spectra

BOX = 128.0


def plane_wave(n, rows, columns, amplitude=1.0):
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    return amplitude * np.cos(2 * np.pi * (rows * i + columns * j) / n + 0.3)


def brute_force(maps, box_size):
    """P(k), k and mode counts by a loop over every mode of the full plane."""
    n = maps.shape[-1]
    squared = np.abs(np.fft.fft2(maps.astype(np.float64))) ** 2
    sums, radii, counts = {}, {}, {}
    for i in range(n):
        for j in range(n):
            radius = np.hypot(i if i <= n // 2 else i - n, j if j <= n // 2 else j - n)
            centre = int(radius + 0.5)
            if centre < 1 or centre + 0.5 > n / 2:
                continue
            sums[centre] = sums.get(centre, 0) + squared[:, i, j]
            radii[centre] = radii.get(centre, 0) + radius
            counts[centre] = counts.get(centre, 0) + 1
    order = sorted(counts)
    power = np.stack([sums[c] / counts[c] for c in order], axis=1) * box_size**2 / n**4
    k = np.array([radii[c] / counts[c] for c in order]) * 2 * np.pi / box_size
    return power, k, np.array([counts[c] for c in order])


@pytest.mark.parametrize("n", [3, 15, 16, 64])
def test_bins_and_power_match_a_loop_over_all_modes(n):
    maps = np.random.default_rng(1).lognormal(size=(3, n, n)) * 64
    expected, k, n_modes = brute_force(maps, BOX)
    found = spectra.bins(n, BOX)
    np.testing.assert_array_equal(found.n_modes, n_modes)
    np.testing.assert_allclose(found.k, k, rtol=1e-12)
    np.testing.assert_allclose(spectra.power(maps, BOX, contrast=False), expected, rtol=1e-10)
    contrast = maps / maps.mean((1, 2), keepdims=True) - 1
    np.testing.assert_allclose(
        spectra.power(maps, BOX, contrast=True), brute_force(contrast, BOX)[0], rtol=1e-10
    )


def test_first_annulus_holds_eight_modes_and_the_last_is_below_nyquist():
    found = spectra.bins(64, BOX)
    fundamental = 2 * np.pi / BOX
    assert len(found.k) == 31
    assert found.n_modes[0] == 8  # (+-1, 0), (0, +-1), (+-1, +-1)
    assert found.k[0] == pytest.approx(fundamental * (4 + 4 * np.sqrt(2)) / 8)
    assert found.k[-1] < np.pi * 64 / BOX


@pytest.mark.parametrize("n", [32, 33])
@pytest.mark.parametrize(
    ("rows", "columns", "annulus"), [(5, 0, 5), (0, 5, 5), (3, 4, 5), (4, -3, 5), (7, 7, 10)]
)
def test_a_plane_wave_has_its_power_in_its_annulus(n, rows, columns, annulus):
    """A cos wave has variance A^2 / 2, which is the sum over modes of P / L^2."""
    amplitude = 3.0
    wave = plane_wave(n, rows, columns, amplitude)
    power = spectra.power(wave[None], BOX, contrast=False).numpy()[0]
    expected = np.zeros_like(power)
    n_modes = spectra.bins(n, BOX).n_modes[annulus - 1]
    expected[annulus - 1] = amplitude**2 / 2 * BOX**2 / n_modes
    np.testing.assert_allclose(power, expected, atol=1e-9)


def test_contrast_ignores_the_unit_and_raw_ignores_the_mean():
    maps = 64 + np.random.default_rng(2).normal(size=(2, 16, 16))
    contrast = spectra.power(maps, BOX, contrast=True)
    raw = spectra.power(maps, BOX, contrast=False)
    np.testing.assert_allclose(spectra.power(7 * maps, BOX, contrast=True), contrast)
    np.testing.assert_allclose(spectra.power(maps + 5, BOX, contrast=False), raw)
    means = maps.mean((1, 2))[:, None]
    np.testing.assert_allclose(raw, contrast * means**2)


@pytest.mark.parametrize("n", [32, 33])
def test_against_powerbox(n):
    contrast = np.random.default_rng(3).normal(size=(n, n))
    found = spectra.bins(n, BOX)
    edges = (np.arange(len(found.k) + 1) + 0.5) * 2 * np.pi / BOX
    theirs = get_power(
        contrast,
        BOX,
        bins=edges,
        remove_shotnoise=False,
        ignore_zero_mode=True,
        bins_upto_boxlen=True,
    )
    ours = spectra.power(contrast[None], BOX, contrast=False).numpy()[0]
    np.testing.assert_allclose(ours, theirs.power, rtol=1e-10)
    np.testing.assert_allclose(found.k, theirs.bin_avg, rtol=1e-10)


def test_gaussian_fields_recover_their_spectrum_and_scatter_by_the_cosmic_variance():
    n, count = 32, 2000
    k = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None]) * n * 2 * np.pi / BOX
    true = 50.0 * np.where(k > 0, k, 1) ** -1.5
    white = np.random.default_rng(4).normal(size=(count, n, n))
    fields = np.fft.ifft2(np.fft.fft2(white) * np.sqrt(true) * n / BOX).real
    power = spectra.power(fields, BOX, contrast=False).numpy()
    found = spectra.bins(n, BOX)
    annulus = np.rint(k * BOX / (2 * np.pi)).astype(int)
    expected = np.array([true[annulus == j + 1].mean() for j in range(len(found.k))])
    # Five standard errors: 1 / sqrt(2000) of the cosmic variance; the scatter's is 1.6 %.
    error = spectra.cosmic_variance(found.n_modes) / np.sqrt(count)
    assert np.all(np.abs(power.mean(0) / expected - 1) < 5 * error)
    # Within an annulus the spectrum is nearly flat from the fourth on, so modes weigh the same.
    scatter = power.std(0) / power.mean(0)
    np.testing.assert_allclose(scatter[3:], spectra.cosmic_variance(found.n_modes)[3:], rtol=0.1)


@pytest.mark.parametrize("n", [15, 16])
@pytest.mark.parametrize("contrast", [False, True])
def test_gradient_matches_central_differences(n, contrast):
    rng = np.random.default_rng(5)
    maps = tf.constant(64 * rng.lognormal(0, 0.5, size=(2, n, n)))
    weights = rng.normal(size=(2, len(spectra.bins(n, BOX).k)))

    def total(x):
        return tf.reduce_sum(spectra.power(x, BOX, contrast=contrast) * weights)

    with tf.GradientTape() as tape:
        tape.watch(maps)
        value = total(maps)
    gradient = tape.gradient(value, maps)
    for _ in range(3):
        direction = rng.normal(size=maps.shape)
        numerical = (total(maps + 1e-4 * direction) - total(maps - 1e-4 * direction)) / 2e-4
        np.testing.assert_allclose(np.sum(gradient * direction), numerical, rtol=1e-6)


def test_float32_is_accurate_to_a_hundred_thousandth_and_compiles():
    maps = 64 * np.random.default_rng(6).lognormal(0, 0.1, size=(4, 64, 64))
    exact = spectra.power(maps, BOX, contrast=True)
    compiled = tf.function(lambda x: spectra.power(x, BOX, contrast=True))
    single = compiled(tf.constant(maps, tf.float32))
    assert single.dtype == tf.float32
    np.testing.assert_allclose(single, exact, rtol=1e-5)
    np.testing.assert_array_equal(single, compiled(tf.constant(maps, tf.float32)))


def test_too_small_maps_are_refused():
    with pytest.raises(ValueError, match="2 x 2"):
        spectra.bins(2, BOX)
