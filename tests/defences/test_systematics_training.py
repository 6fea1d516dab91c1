"""Random systematics: which are drawn, from where, how often, and for whom."""

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter
from scipy import stats

from spurious import config
from spurious.defences.build import PATTERNS, build
from spurious.defences.systematics_training import SystematicsTraining
from spurious.description.family import AnyFamily
from spurious.search.families import build_family

PAIR = tf.constant([3, 5])
FAMILIES = {
    "logistic": {
        "kind": "logistic",
        "a": {"low": 0.3, "high": 1.0},
        "transition": {"low": 50.0, "high": 100.0},
        "beta": {"low": -10.0, "high": 30.0},
    },
    "gain": {"kind": "gain_drift", "amplitude": {"low": -0.2, "high": 0.4}, "angle": 0.0},
}


def member(entry):
    """A family of params.yaml as an object."""
    settings = TypeAdapter(AnyFamily).validate_python(entry)
    return (build_family("one", settings, 64.0, 0),)


def defence(names=FAMILIES, clean=0.2, **options):
    return SystematicsTraining(
        families={name: member(FAMILIES[name]) for name in names}, clean=clean, **options
    )


def shown(one, maps, pair=PAIR):
    graph = tf.function(lambda x: one.shown(None, x, None, pair), autograph=False)
    return graph(tf.constant(maps)).numpy()


@pytest.fixture(scope="module")
def many(make_maps):
    return np.repeat(make_maps(1, 16), 2000, axis=0)


def test_the_share_of_clean_maps_is_that_of_the_entry(many):
    unchanged = np.all(shown(defence(clean=0.3), many) == many, axis=(1, 2))
    assert np.mean(unchanged) == pytest.approx(0.3, abs=0.04)
    assert not np.any(np.all(shown(defence(clean=0.0), many[:300]) == many[:300], axis=(1, 2)))
    np.testing.assert_array_equal(shown(defence(clean=1.0), many[:10]), many[:10])


def test_every_family_is_drawn_as_often(many):
    """A gain drift keeps the mean of a map with no structure; a logistic does not."""
    flat = np.full((2000, 16, 16), 64.0, np.float32)
    found = shown(defence(clean=0.2), flat)
    moved = np.abs(found.mean((1, 2)) - 64) > 1e-3
    drifted = ~moved & np.any(found != flat, axis=(1, 2))
    assert np.mean(moved) == pytest.approx(0.4, abs=0.04)
    assert np.mean(drifted) == pytest.approx(0.4, abs=0.04)


def test_draws_cover_the_range_uniformly_and_differ_between_maps():
    """The gain's amplitude is read off a flat map, whose first axis has the wave."""
    flat = np.full((2000, 16, 16), 64.0, np.float32)
    found = shown(defence(["gain"], clean=0.0), flat)
    wave = np.sin(2 * np.pi * ((np.arange(16) + 0.5) / 16 - 0.5))
    amplitude = (found[:, :, 0] / 64 - 1) @ wave / (wave @ wave)
    assert -0.2 <= amplitude.min() < -0.195 and 0.395 < amplitude.max() <= 0.4
    quartiles = np.quantile(amplitude, [0.25, 0.5, 0.75])
    assert quartiles == pytest.approx([-0.05, 0.1, 0.25], abs=0.02)
    assert len(np.unique(amplitude)) > 1900


def test_all_coordinates_of_a_family_are_drawn_independently():
    """The logistic's step on a ramp: its place in its logarithm, its height in its asinh."""
    ramp = np.broadcast_to(
        np.linspace(20, 130, 16 * 16, dtype=np.float32).reshape(16, 16), (1500, 16, 16)
    )
    change = (shown(defence(["logistic"], clean=0.0), ramp) - ramp).reshape(1500, -1)
    beta, place = change[:, 0], np.empty(1500)
    for row in range(1500):
        half = np.argmin(np.abs(change[row] - beta[row] / 2))
        place[row] = ramp.reshape(1500, -1)[row, half]
    large = np.abs(beta) > 1  # where the place of the step can be seen
    low, high = np.arcsinh(-10), np.arcsinh(30)
    assert stats.kstest((np.arcsinh(beta) - low) / (high - low), "uniform").pvalue > 0.01
    step = (np.log(place[large]) - np.log(50)) / np.log(2)
    assert stats.kstest(step, "uniform").statistic < 0.06
    assert abs(np.corrcoef(step, beta[large])[0, 1]) < 0.1


def test_another_step_draws_others_and_the_same_step_the_same(many):
    one, again = shown(defence(), many[:50]), shown(defence(), many[:50])
    other = shown(defence(), many[:50], PAIR + 1)
    np.testing.assert_array_equal(one, again)
    assert np.mean(np.any(one != other, axis=(1, 2))) > 0.8


def test_maps_stay_possible_and_no_gradient_flows(make_maps):
    maps = tf.constant(make_maps(8, 16))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        found = defence(clean=0.0).shown(None, maps, None, PAIR)
    assert found.dtype == maps.dtype and found.numpy().min() >= 0
    assert tape.gradient(found, maps) is None


def entry(**options):
    return config.Network(
        kind="network", defence={"kind": "systematics_training", **options}
    ).defence


EVERY = {
    "logistic": {"kind": "logistic", "transition": {"low": 100.0, "high": 150.0}},
    "calibration": {"kind": "calibration", "log_slopes": {"low": -0.1, "high": 0.1}},
    "saturation": {"kind": "saturation", "threshold": {"low": 50.0, "high": 100.0}},
    "gain_drift": {"kind": "gain_drift", "amplitude": {"low": -0.1, "high": 0.1}},
    "stripes": {"kind": "stripes", "stripes": 4, "amplitude": {"low": 1.0, "high": 2.0}},
    "masked": {"kind": "masked"},
    "beam": {"kind": "beam", "mismatch": {"low": -0.1, "high": 0.2}},
    "baryons": {"kind": "baryons", "amplitude": {"low": 0.0, "high": 0.3}},
    "correlated_noise": {"kind": "correlated_noise", "rms": {"low": 0.5, "high": 1.0}},
}


@pytest.mark.parametrize("name", EVERY)
def test_every_family_of_the_search_can_be_trained_over(data, name):
    built = build(entry(families={name: EVERY[name]}, clean=0.0), data, seed=1)
    found = shown(built, data.maps[:6])
    assert np.isfinite(found).all() and found.min() >= 0
    changes = found - data.maps[:6]
    assert np.all(np.abs(changes).max(axis=(1, 2)) > 0)
    assert np.abs(changes[0] - changes[1]).max() > 0


def test_patterns_that_belong_to_an_instrument_are_several(data):
    """Stripes: as many offsets' patterns among the maps as there are members."""
    built = build(entry(families={"stripes": EVERY["stripes"]}, clean=0.0), data, seed=1)
    assert len(built.families["stripes"]) == PATTERNS
    change = shown(built, data.maps[:100]) - data.maps[:100]
    line = change.mean(axis=1)  # offsets of the columns
    size = line.std(axis=1, keepdims=True)
    pattern = np.round((line - line.mean(1, keepdims=True)) / size, 1)
    _, which = np.unique(pattern, axis=0, return_inverse=True)
    assert which.max() + 1 == PATTERNS
    # Each comes in all sizes: what chooses the pattern does not choose the amplitude.
    spread = [np.ptp(size[which.ravel() == number]) for number in range(PATTERNS)]
    assert min(spread) > 0.4
    alone = build(entry(families={"beam": EVERY["beam"]}), data, seed=1)
    assert len(alone.families["beam"]) == 1
