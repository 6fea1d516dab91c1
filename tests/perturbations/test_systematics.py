"""Systematics: closed forms, exact gradients, and what all of them promise."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from spurious.perturbations.systematics import (
    Baryons,
    Beam,
    Calibration,
    CorrelatedNoise,
    GainDrift,
    Logistic,
    Masked,
    Saturation,
    Stripes,
    matched,
)

PAPER = Logistic(0.25, -15.0, 3.0)
BOX = 32.0  # Mpc/h
KNOTS = (0.0, 40.0, 80.0, 200.0)

# name -> (the systematic, its differentiable parameters)
TABLE = {
    "logistic": (PAPER, ("a", "b", "beta")),
    "saturation": (Saturation(0.2, 90.0, 3.0), ("strength", "threshold", "sharpness")),
    "calibration": (Calibration(0.8, KNOTS, (0.2, -0.3, 0.1)), ("amplitude", "log_slopes")),
    "gain_drift": (GainDrift(0.1, 30.0, 2), ("amplitude", "angle")),
    "stripes": (Stripes(2.0, 5, 1, seed=1), ("amplitude",)),
    "masked": (Masked(0.7, 0.2, 3.0, BOX, seed=1), ("blend",)),
    "beam": (Beam(0.2, 4.0, BOX), ("mismatch", "fwhm")),
    "beam_narrow": (Beam(-0.2, 4.0, BOX), ("mismatch", "fwhm")),
    "baryons": (Baryons(0.3, 2.0, BOX, 50.0), ("amplitude", "scale", "threshold")),
    "correlated_noise": (CorrelatedNoise(2.0, -1.5, seed=1), ("rms", "index")),
}


@pytest.fixture(params=TABLE)
def systematic(request):
    return TABLE[request.param][0]


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(3, 16)


def amplitude(systematic):
    return getattr(systematic, systematic.AMPLITUDE)


def scaled(systematic, value):
    return replace(systematic, **{systematic.AMPLITUDE: value})


def wave(n, row_waves, column_waves):
    """A plane wave (1, n, n) around 64 with the given number of waves along each axis."""
    phase = 2 * np.pi * (row_waves * np.arange(n)[:, None] + column_waves * np.arange(n)) / n
    return (64 + 20 * np.cos(phase + 0.3))[None]


# What all of them promise.


def test_shape_type_range_and_determinism(systematic, maps):
    for given in (maps, maps.astype(np.float64)):
        changed = systematic(given)
        assert changed.shape == given.shape and changed.dtype == given.dtype
        assert np.all(np.isfinite(changed)) and np.min(changed) >= 0
        assert np.all(np.any(changed != given, axis=(1, 2)))
        np.testing.assert_array_equal(changed, systematic(given))


def test_float32_is_float64_to_rounding(systematic, maps):
    exact = systematic(maps.astype(np.float64))
    np.testing.assert_allclose(systematic(maps), exact, rtol=1e-5, atol=1e-4)


def test_amplitude_zero_changes_nothing(systematic, maps):
    np.testing.assert_array_equal(scaled(systematic, 0.0)(maps), maps)


def test_a_map_is_changed_alike_alone_and_in_company(systematic, maps):
    np.testing.assert_array_equal(systematic(maps[1:2])[0], systematic(maps)[1])


@pytest.mark.parametrize("name", TABLE)
def test_gradients_are_finite_differences(name, maps):
    systematic, parameters = TABLE[name]
    density = tf.constant(maps + 5, tf.float64)  # away from the clip
    weights = tf.constant(np.random.default_rng(0).normal(size=density.shape))

    def total(values, density):
        changed = replace(systematic, **dict(zip(parameters, values, strict=True)))
        return tf.reduce_sum(weights * changed.unclipped(density))

    values = [tf.constant(getattr(systematic, p), tf.float64) for p in parameters]
    with tf.GradientTape() as tape:
        tape.watch([*values, density])
        value = total(values, density)
    *exact, by_map = tape.gradient(value, [*values, density])
    for i, gradient in enumerate(exact):
        direction = np.random.default_rng(i).normal(size=values[i].shape)
        up, down = ([*values] for _ in range(2))
        up[i], down[i] = values[i] + 1e-5 * direction, values[i] - 1e-5 * direction
        numerical = (total(up, density) - total(down, density)) / 2e-5
        along = np.sum(tf.convert_to_tensor(gradient) * direction)
        np.testing.assert_allclose(along, numerical, rtol=1e-5, atol=1e-6)
        assert abs(along) > 1e-3
    if name != "correlated_noise":  # whose draw depends on the map
        step = 1e-5 * np.random.default_rng(9).normal(size=density.shape)
        numerical = (total(values, density + step) - total(values, density - step)) / 2
        np.testing.assert_allclose(np.sum(by_map * step), numerical, rtol=1e-5)


@pytest.mark.parametrize("name", TABLE)
def test_works_inside_one_graph_in_both_directions_of_differentiation(name, maps):
    """As the search uses it: forward mode and backward mode in a compiled function, float32."""
    systematic, _ = TABLE[name]

    @tf.function
    def derivatives(value):
        with tf.GradientTape() as tape:
            tape.watch(value)
            total = tf.reduce_sum(scaled(systematic, value)(maps) ** 2)
        with tf.autodiff.ForwardAccumulator(value, tf.ones_like(value)) as forward:
            again = tf.reduce_sum(scaled(systematic, value)(maps) ** 2)
        return tape.gradient(total, value), forward.jvp(again)

    backward, forward = derivatives(tf.constant(amplitude(systematic)))
    assert np.isfinite(backward) and backward != 0
    np.testing.assert_allclose(backward, forward, rtol=1e-3)


def test_extreme_densities_stay_finite(systematic):
    maps = np.zeros((1, 16, 16), np.float32)
    maps[0, 3, 4] = 1e6
    with tf.GradientTape() as tape:
        value = tf.constant(amplitude(systematic))
        tape.watch(value)
        changed = scaled(systematic, value)(maps)
        total = tf.reduce_sum(changed)
    assert np.all(np.isfinite(changed)) and np.isfinite(tape.gradient(total, value))


PERIODIC = ("saturation", "calibration", "beam", "baryons")


@pytest.mark.parametrize("name", PERIODIC)
def test_a_shifted_map_is_changed_alike(name, maps):
    systematic = TABLE[name][0]
    shifted = np.roll(maps, (5, 3), (1, 2))
    expected = np.roll(systematic(maps), (5, 3), (1, 2))
    np.testing.assert_allclose(systematic(shifted), expected, rtol=1e-5, atol=1e-4)


# The paper's logistic.


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


# Response.


def test_saturation_is_its_formula_and_a_power_law_at_the_bright_end():
    density = np.array([[[0.0, 1.0, 90.0, 9e4, 9e5]]])
    found = Saturation(0.2, 90.0, 3.0)(density).numpy()[0, 0]
    expected = density[0, 0] * (1 + (density[0, 0] / 90) ** 3) ** (-0.2 / 3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[1] == pytest.approx(1.0, abs=1e-6)
    slope = np.log(found[4] / found[3]) / np.log(10)
    assert slope == pytest.approx(0.8, abs=1e-8)


def test_total_saturation_stops_at_the_threshold():
    assert float(Saturation(1.0, 90.0)(np.array([[[1e6]]]))[0, 0, 0]) == pytest.approx(90, rel=1e-6)


def test_calibration_goes_through_its_knots_with_the_given_mean_slopes():
    curve = Calibration(0.8, KNOTS, (0.2, -0.3, 0.1))
    found = curve(np.array([[KNOTS]])).numpy()[0, 0]
    slopes = np.exp(0.8 * np.array([0.2, -0.3, 0.1]))
    np.testing.assert_allclose(found, np.append(0, np.cumsum(np.diff(KNOTS) * slopes)), rtol=1e-13)


def test_calibration_is_the_textbook_spline_with_continuous_slopes():
    """Gregory & Delbourgo's formula for the curve itself, against ours for its change."""
    s = np.exp(0.8 * np.array([0.2, -0.3, 0.1]))
    d = np.array([s[0], np.sqrt(s[0] * s[1]), np.sqrt(s[1] * s[2]), s[2]])
    t, w = 0.3, 40.0  # in the second interval
    rise = s[1] * w * (s[1] * t**2 + d[1] * t * (1 - t))
    expected = 40 * s[0] + rise / (s[1] + (d[1] + d[2] - 2 * s[1]) * t * (1 - t))
    curve = Calibration(0.8, KNOTS, (0.2, -0.3, 0.1))
    assert float(curve(np.array([[[40 + t * w]]]))[0, 0, 0]) == pytest.approx(expected, rel=1e-13)
    for knot, slope in zip(KNOTS, d, strict=True):
        near = np.array([[[knot, knot + 1e-5, max(knot - 1e-5, 0)]]])
        at, right, left = curve(near).numpy()[0, 0]
        assert (right - at) / 1e-5 == pytest.approx(slope, rel=1e-4)
        assert knot == 0 or (at - left) / 1e-5 == pytest.approx(slope, rel=1e-4)
    far = curve(np.array([[[300.0, 400.0]]])).numpy()[0, 0]
    assert far[1] - far[0] == pytest.approx(100 * d[3], rel=1e-12)


@pytest.mark.parametrize(
    "curve", [Saturation(1.0, 30.0, 8.0), Calibration(5.0, KNOTS, (1.0, -1.0, 1.0)), PAPER]
)
def test_responses_keep_the_order_of_densities(curve):
    density = np.linspace(0, 400, 4001).reshape(1, 1, -1)
    rise = np.diff(curve(density).numpy()[0, 0])
    assert np.all(rise >= -1e-9)


# Position in the field.


def test_gain_drift_is_a_wave_along_its_angle():
    flat = np.full((1, 16, 16), 50.0)
    sine = np.sin(2 * np.pi * ((np.arange(16) + 0.5) / 16 - 0.5))
    rows = GainDrift(0.1, 0.0)(flat).numpy()[0]
    columns = GainDrift(0.1, 90.0)(flat).numpy()[0]
    np.testing.assert_allclose(rows, 50 * (1 + 0.1 * sine[:, None]) * np.ones(16), rtol=1e-12)
    np.testing.assert_allclose(columns, 50 * (1 + 0.1 * sine) * np.ones((16, 1)), rtol=1e-12)
    slanted = GainDrift(0.1, 30.0, order=3)(flat).numpy()[0] / 50
    assert slanted.mean() == pytest.approx(1, abs=1e-12)
    assert slanted.std() == pytest.approx(0.1 / np.sqrt(2), rel=1e-12)


def test_stripes_run_along_their_axis_and_have_the_given_rms():
    flat = np.full((1, 16, 16), 50.0)
    columns = Stripes(2.0, 4, axis=0, seed=3)(flat).numpy()[0] - 50
    rows = Stripes(2.0, 4, axis=1, seed=3)(flat).numpy()[0] - 50
    np.testing.assert_allclose(rows, columns.T, rtol=1e-12)
    assert np.ptp(columns, axis=0).max() == 0 and np.ptp(columns, axis=1).min() > 1
    assert len(np.unique(columns[0])) == 4 and np.ptp(columns[0, :4]) == 0
    assert columns.std() == pytest.approx(2, rel=1e-12) and abs(columns.mean()) < 1e-12
    other = Stripes(2.0, 4, axis=0, seed=4)(flat).numpy()[0] - 50
    assert np.abs(other - columns).max() > 0.1


def test_uneven_stripes_too():
    flat = np.full((1, 16, 16), 50.0)
    change = Stripes(2.0, 5, axis=0, seed=3)(flat).numpy() - 50
    assert change.std() == pytest.approx(2, rel=1e-12) and abs(change.mean()) < 1e-12


def holes(maps, **changes):
    """Where the holes are."""
    masked = Masked(1.0, 0.2, 3.0, BOX, seed=1)
    return np.any(replace(masked, **changes)(maps) != maps, axis=0)


def test_holes_cover_their_share_and_the_rest_is_untouched(make_maps):
    maps = make_maps(2, 32) + 1
    assert holes(maps).sum() == round(0.2 * 32**2)
    assert np.all(holes(maps, fraction=0.3)[holes(maps)])
    assert holes(maps, fraction=0.0).sum() == 0
    assert np.any(holes(maps) != holes(maps, seed=2))


def test_a_single_hole_is_a_disc_of_its_radius_across_the_edge(make_maps):
    maps = make_maps(2, 32) + 1
    around = np.add.outer(np.arange(-10, 11) ** 2, np.arange(-10, 11) ** 2) <= 100
    found = holes(maps, fraction=around.sum() / 32**2, radius=10.0)
    places = [
        np.array_equal(np.roll(found, (-i, -j), (0, 1))[:21, :21], around)
        for i in range(32)
        for j in range(32)
    ]
    assert found.sum() == around.sum() and sum(places) == 1
    assert np.any(found[0] | found[:, 0]) and np.any(found[-1] | found[:, -1])


def test_holes_are_filled_from_outside_and_smoothly():
    smooth = wave(32, 1, 0)
    filled = Masked(1.0, 0.1, 2.0, BOX, seed=1)(smooth).numpy()
    assert np.abs(filled - smooth).max() < 10  # of an amplitude of 20
    flat = np.full((1, 32, 32), 50.0)
    np.testing.assert_allclose(Masked(1.0, 0.3, 2.0, BOX, seed=1)(flat), flat, rtol=1e-12)
    spoilt = np.where(holes(smooth, fraction=0.1, radius=2.0), 1e5, smooth)
    again = Masked(1.0, 0.1, 2.0, BOX, seed=1)(spoilt).numpy()
    # What is in a hole does not matter, but for the mean that fills where nothing is seen.
    np.testing.assert_allclose(again, filled, rtol=1e-6)
    half = Masked(0.5, 0.1, 2.0, BOX, seed=1)(smooth)
    np.testing.assert_allclose(half, (smooth + filled) / 2, rtol=1e-12)


# Filters.


@pytest.mark.parametrize(("row_waves", "column_waves"), [(3, 0), (0, 3), (2, -5), (8, 0)])
@pytest.mark.parametrize("mismatch", [0.3, -0.3])
def test_beam_on_a_plane_wave(row_waves, column_waves, mismatch):
    clean = wave(16, row_waves, column_waves)
    k = 2 * np.pi / BOX * np.hypot(row_waves, column_waves)
    sigma = 2.0 / 2.3548200450309493
    damping = np.exp(-(k**2) * sigma**2 * ((1 + mismatch) ** 2 - 1) / 2)
    expected = 64 + damping * (clean - 64)
    np.testing.assert_allclose(Beam(mismatch, 2.0, BOX).unclipped(clean), expected, rtol=1e-12)


@pytest.mark.parametrize(("row_waves", "column_waves"), [(3, 0), (0, 3), (2, -5)])
def test_baryons_on_a_plane_wave(row_waves, column_waves):
    clean = wave(32, row_waves, column_waves)
    pixel = BOX / 32
    angles = np.pi * np.array([row_waves, column_waves]) / 32
    lattice = np.sum(4 * np.sin(angles) ** 2) / pixel**2
    factor = 1 - 0.3 * (1 - 1 / (1 + lattice * 1.5**2))
    expected = 64 + factor * (clean - 64)
    np.testing.assert_allclose(Baryons(0.3, 1.5, BOX)(clean), expected, rtol=1e-12)


@pytest.mark.parametrize("threshold", [0.0, 100.0])
def test_baryons_conserve_the_total_and_empty_no_pixel(maps, threshold):
    maps = maps.astype(np.float64)
    maps[:, 4, 4] = 5000.0
    feedback = Baryons(1.0, 3.0, BOX, threshold)
    np.testing.assert_allclose(np.sum(feedback(maps), (1, 2)), maps.sum((1, 2)), rtol=1e-13)
    assert np.min(feedback.unclipped(maps)) > 0 or threshold
    assert np.min(feedback.unclipped(maps)) >= 0


def test_the_mean_survives_the_beam(maps):
    maps = maps.astype(np.float64)
    np.testing.assert_allclose(
        np.mean(Beam(0.5, 4.0, BOX)(maps), (1, 2)), maps.mean((1, 2)), rtol=1e-12
    )


def test_a_threshold_confines_feedback_to_peaks():
    density = np.full((1, 32, 32), 20.0)
    density[0, 16, 16] = 2000.0
    everywhere = Baryons(0.5, 1.0, BOX)(density) - density
    peaks = Baryons(0.5, 1.0, BOX, 500.0)(density) - density
    assert float(peaks[0, 16, 16]) == pytest.approx(float(everywhere[0, 16, 16]) * 0.8, rel=0.02)
    expected = 0.5 * (2000 * 2000 / 2500 - 20 * 20 / 520)
    kernel = 1 - float(everywhere[0, 16, 16]) / (-0.5 * 1980)
    assert float(peaks[0, 16, 16]) == pytest.approx(-expected * (1 - kernel), rel=1e-10)


# Amplitudes.


@pytest.mark.parametrize("beta", [3.0, 0.0, -3.0])
@pytest.mark.parametrize("target", [1e-4, 2.0, 300.0])
def test_matched_logistics_reach_the_mean_square(make_maps, beta, target):
    maps = make_maps(4, 32)
    found = matched(Logistic(0.25, -15.0, beta), maps, target)
    assert found.beta < 0 if beta < 0 else found.beta > 0
    assert (found.a, found.b) == (0.25, -15.0)
    change = found(maps.astype(np.float64)) - maps
    assert np.mean(change**2) == pytest.approx(target, rel=1e-6)


@pytest.mark.parametrize("target", [1e-4, 2.0, 12.0])
def test_matched_amplitudes_reach_the_mean_square(systematic, maps, target):
    found = matched(systematic, maps, target)
    assert np.sign(amplitude(found)) == np.sign(amplitude(systematic))
    change = found(maps.astype(np.float64)) - maps
    assert np.mean(change**2) == pytest.approx(target, rel=1e-6)
    assert scaled(found, 1.0) == scaled(systematic, 1.0)


def test_matching_undoes_itself(systematic, maps):
    maps = maps.astype(np.float64)
    target = float(np.mean((systematic(maps) - maps) ** 2))
    assert amplitude(matched(systematic, maps, target)) == pytest.approx(
        amplitude(systematic), rel=1e-9
    )


def test_nothing_to_match_is_no_change(systematic, maps):
    np.testing.assert_array_equal(matched(systematic, maps, 0.0)(maps), maps)


@pytest.mark.parametrize(
    ("systematic", "target"),
    [
        (PAPER, -1.0),
        (PAPER, float("nan")),
        (Logistic(0.25, -15.0, -3.0), 1e5),  # more than there is
        (Logistic(0.25, 1e4, 3.0), 1.0),  # touches no pixel
        (Logistic(0.25, 1e4, -3.0), 1.0),
        (GainDrift(0.1), 1e5),
        (Beam(-0.1, 0.5, BOX), 1e6),
        (Masked(0.1, 0.0, 3.0, BOX, seed=1), 1.0),  # no holes
        (Saturation(0.1, 1e30), 1.0),
    ],
)
def test_impossible_targets_are_refused(make_maps, systematic, target):
    with pytest.raises(ValueError, match=r"mean_square|no pixel"):
        matched(systematic, make_maps(2, 16), target)


def test_the_logistic_and_its_closed_form_amplitude_are_exact_to_the_bit(make_maps):
    """Published numbers rest on these two expressions."""
    maps = make_maps(4, 16)
    expected = maps + np.float32(3) * tf.sigmoid(-(np.float32(0.25) * maps + np.float32(-15)))
    np.testing.assert_array_equal(PAPER(maps), expected)
    density = maps.astype(np.float64).ravel()
    expected = np.sqrt(2.0 / np.mean(expit(-(0.25 * density - 15.0)) ** 2))
    assert matched(PAPER, maps, 2.0).beta == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: Saturation(1.1, 90.0),
        lambda: Saturation(0.1, 0.0),
        lambda: Calibration(1.0, (1.0, 2.0), (0.1,)),
        lambda: Calibration(1.0, (0.0, 2.0, 2.0), (0.1, 0.1)),
        lambda: Calibration(1.0, (0.0, 2.0), (0.1, 0.1)),
        lambda: GainDrift(float("nan")),
        lambda: GainDrift(0.1, order=0),
        lambda: Stripes(1.0, 1, 0, 0),
        lambda: Stripes(1.0, 4, 2, 0),
        lambda: Stripes(1.0, 17, 0, 0)(np.ones((1, 16, 16))),
        lambda: Masked(1.1, 0.1, 1.0, BOX, 0),
        lambda: Masked(1.0, 0.95, 1.0, BOX, 0),
        lambda: Beam(-1.1, 4.0, BOX),
        lambda: Beam(0.1, -4.0, BOX),
        lambda: Baryons(2.0, 1.0, BOX),
        lambda: CorrelatedNoise(-1.0, 0.0, 0),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"must|needed"):
        make()
