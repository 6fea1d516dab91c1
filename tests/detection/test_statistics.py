"""Statistics of maps against other codes and closed forms."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import norm

from spurious.detection import bispectrum, minkowski
from spurious.detection.statistics import (
    THRESHOLDS,
    Bispectrum,
    Pdf,
    Peaks,
    local_maxima,
    log_density,
    standard,
)

BOX = 100.0
NAMES = ("log_power", "pdf", "peaks", "equilateral", "squeezed", "minkowski", "scattering")


def gaussian_fields(count, n, smoothing, seed=0):
    """Gaussian fields of mean 0 and variance 1, P ~ exp(-(k smoothing)^2), and their slope."""
    k = 2 * np.pi * np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None])
    amplitude = np.exp(-((k * smoothing) ** 2) / 2)
    amplitude[0, 0] = 0
    amplitude /= np.sqrt(np.mean(amplitude**2))
    noise = np.random.default_rng(seed).normal(size=(count, n, n))
    fields = np.fft.ifft2(np.fft.fft2(noise) * amplitude).real
    return fields, np.sqrt(np.mean(k**2 * amplitude**2))


def tomita(thresholds, slope):
    """V0, V1, V2 of a Gaussian field of variance 1, RMS |grad u| = slope (Tomita 1986)."""
    bell = np.exp(-(thresholds**2) / 2)
    v1 = slope / (8 * np.sqrt(2)) * bell
    v2 = slope**2 / 2 / (2 * np.pi) ** 1.5 * thresholds * bell
    return np.stack([norm.sf(thresholds), v1, v2])


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(40, 32, 1)


@pytest.fixture(scope="module")
def statistics(maps):
    return standard(maps, BOX)


@pytest.mark.parametrize("name", NAMES)
def test_every_statistic_is_finite_and_has_the_length_of_its_axis(name, statistics, maps):
    values = statistics[name](maps[:5])
    assert values.dtype == np.float64
    assert values.shape == (5, len(statistics[name].axis))
    assert np.isfinite(values).all()
    assert statistics[name].axis_label and statistics[name].label
    empty = maps[:5].copy()
    empty[:, :20] = 0
    assert np.isfinite(statistics[name](empty)).all()


def test_there_are_no_others(statistics):
    assert tuple(statistics) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change",
    [
        lambda m: np.roll(m, (3, -5), axis=(1, 2)),
        lambda m: np.rot90(m, axes=(1, 2)),
        lambda m: m[:, ::-1],
        lambda m: m[:, :, ::-1],
        lambda m: 2 * m,
    ],
    ids=["roll", "rotation", "flip rows", "flip columns", "common factor"],
)
def test_symmetries_of_the_box_and_the_unit_change_nothing(name, change, statistics, maps):
    before = statistics[name](maps[:4])
    after = statistics[name](np.ascontiguousarray(change(maps[:4])))
    # ln P is computed in float32.
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5 if name == "log_power" else 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_each_map_is_summarised_on_its_own(name, statistics, maps):
    whole = statistics[name](np.concatenate([maps] * 7))  # more than one batch
    np.testing.assert_allclose(whole[-3:], statistics[name](maps[-3:]), rtol=1e-5, atol=1e-9)


def test_bins_hold_their_shares_of_clean_maps(maps, statistics):
    shares = (statistics["pdf"](maps) ** 2).mean(axis=0)
    np.testing.assert_allclose(np.cumsum(shares)[[3, 6, 9]], [0.1, 0.5, 0.9], atol=0.005)
    counts = (statistics["peaks"](maps) ** 2).mean(axis=0)
    np.testing.assert_allclose((np.cumsum(counts) / counts.sum())[[2, 3]], [0.25, 0.5], atol=0.01)


def test_the_pdf_is_numpys_histogram(maps):
    edges = np.array([-0.7, -0.1, 0.2, 1.0])
    for one, row in zip(maps[:3], Pdf(edges)(maps[:3]), strict=True):
        values = np.log(np.maximum(one / one.mean(dtype=np.float64), 1e-3))
        counts, _ = np.histogram(values, [-np.inf, *edges])
        np.testing.assert_allclose(row**2 * one.size, counts)


def test_peaks_are_those_of_a_maximum_filter(maps):
    edges = np.array([-0.5, 0.0, 0.5, 1.0])
    for one, found, row in zip(maps, local_maxima(maps), Peaks(edges)(maps), strict=True):
        # Strictly above the neighbours, and not on the plateau of empty pixels.
        expected = (one == ndimage.maximum_filter(one, 3, mode="wrap")) & (one > 0)
        np.testing.assert_array_equal(found, expected)
        heights = log_density(one[None])[0][expected]
        counts, _ = np.histogram(heights, [-np.inf, *edges, np.inf])
        np.testing.assert_allclose(row**2, counts)


def test_bispectrum_of_three_waves_that_close_a_triangle():
    n, a, b, c, phases = 64, 1.3, 0.7, 2.1, (0.3, -1.1, 0.2)
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    vectors = ((3, 0), (0, 6), (-3, -6))  # 3.0, 6.0 and 6.7 fundamental modes long
    waves = [
        amplitude * np.cos(2 * np.pi * (i * x + j * y) / n + phase)
        for amplitude, (i, j), phase in zip((a, b, c), vectors, phases, strict=True)
    ]
    shapes = [(1, 2, 3), (3, 1, 2), (1, 2, 2), (1, 1, 1)]
    (found,) = bispectrum.bispectrum(sum(waves)[None], shapes, BOX)
    # Triangles: (k1, k2, k3) and its negative; <F F F> = 2 (N^2 / 2)^3 a b c cos(sum of phases).
    one = BOX**4 * a * b * c * np.cos(sum(phases)) / 4 / bispectrum.n_triangles(n, shapes)[0]
    np.testing.assert_allclose(found, [one, one, 0, 0], rtol=1e-10, atol=1e-9 * abs(one))


def test_bispectrum_against_a_sum_over_all_triangles():
    n = 8
    field = np.random.default_rng(2).normal(size=(n, n))
    modes = np.fft.fft2(field)
    wave = [tuple(v) for v in itertools.product(range(-3, 4), repeat=2)]
    edges = bispectrum.edges(n)
    annuli = [
        [k for k in wave if low <= np.hypot(*k) < high] for low, high in itertools.pairwise(edges)
    ]
    shapes = [(0, 0, 0), (1, 1, 1), (0, 1, 1)]
    sums, counts = [], []
    for one, two, three in shapes:
        closed = [
            (p, q, r)
            for p, q, r in itertools.product(annuli[one], annuli[two], annuli[three])
            if p[0] + q[0] + r[0] == 0 and p[1] + q[1] + r[1] == 0
        ]
        sums.append(sum(modes[p] * modes[q] * modes[r] for p, q, r in closed))
        counts.append(len(closed))
    np.testing.assert_array_equal(bispectrum.n_triangles(n, shapes), counts)
    expected = np.real(sums) / counts * BOX**4 / n**6
    np.testing.assert_allclose(bispectrum.bispectrum(field[None], shapes, BOX)[0], expected)
    power = [np.mean([abs(modes[k]) ** 2 for k in one]) * BOX**2 / n**4 for one in annuli]
    scale = [np.sqrt(power[p] * power[q] * power[r]) for p, q, r in shapes]
    found = bispectrum.normalised(field[None], shapes, BOX)[0]
    np.testing.assert_allclose(found, expected / scale)


def test_bispectrum_of_gaussian_fields_is_zero_with_the_known_variance():
    n, count = 32, 600
    fields, _ = gaussian_fields(count, n, 0.5)
    for squeezed, factor in ((False, 6), (True, 2)):
        shapes = Bispectrum(n, BOX, squeezed).triangles
        values = bispectrum.normalised(fields, shapes, BOX)
        variance = factor * BOX**2 / bispectrum.n_triangles(n, shapes)
        z = values.mean(axis=0) / np.sqrt(variance / count)
        assert np.abs(z).max() < 3.5
        # Of annuli with few modes, where the own power scatters, the ratio is not normal: no test.
        np.testing.assert_allclose(values.var(axis=0)[3:], variance[3:], rtol=0.25)


def test_bispectrum_sees_skewness_with_its_sign(make_maps):
    maps = make_maps(60, 32, 3)
    for squeezed in (False, True):
        assert Bispectrum(32, BOX, squeezed)(maps).mean(axis=0)[:4].min() > 0


def test_minkowski_functionals_of_gaussian_fields_are_tomitas():
    fields, slope = gaussian_fields(150, 96, 3.0)
    thresholds = np.array(THRESHOLDS)
    found = minkowski.functionals(fields, thresholds)
    width = thresholds[1] - thresholds[0]
    fine = thresholds[:, None] + np.linspace(-0.5, 0.5, 41)[None] * width
    expected = tomita(fine.ravel(), slope).reshape(3, *fine.shape).mean(axis=2)
    expected[0] = tomita(thresholds, slope)[0]  # an area has no bins of thresholds
    # To 2 % of the largest value, within 4 standard errors of which there is nothing else.
    error = found.std(axis=0) / np.sqrt(len(found))
    largest = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(found.mean(axis=0) - expected) / largest).max() < 0.02
    assert (np.abs(found.mean(axis=0) - expected) / (error + 2e-3 * largest)).max() < 4


def test_minkowski_functionals_of_discs():
    n, radius, count = 64, 12.0, 200
    # Hills whose contour at 0 is a circle, centred anywhere within a pixel.
    centre = n / 2 + np.random.default_rng(0).uniform(size=(2, count))
    x, y = np.arange(n)[None] - centre[:, :, None]
    distance = np.hypot(x[:, :, None], y[:, None])
    fields = np.tanh((radius - distance) / 4)
    found = minkowski.functionals(fields, np.array([-0.2, 0.0, 0.2]))[:, :, 1].mean(axis=0)
    v0, v1, v2 = found * n**2
    assert v0 == pytest.approx(np.pi * radius**2, rel=0.01)
    assert 4 * v1 == pytest.approx(2 * np.pi * radius, rel=0.01)
    assert v2 == pytest.approx(1, rel=0.01)


def test_maps_too_small_for_a_bispectrum_are_refused():
    with pytest.raises(ValueError, match="too small"):
        bispectrum.edges(4)
