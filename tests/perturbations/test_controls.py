"""Controls made from another perturbation: what they keep and what they destroy."""

import numpy as np
import pytest

from spurious.perturbations.controls import ShuffledPhases, ShuffledPixels
from spurious.perturbations.gradient import BIM
from spurious.perturbations.systematics import GainDrift, Logistic

CONTROLS = [ShuffledPixels, ShuffledPhases]


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(6, 16).astype(np.float64) + 100  # far from the clip


def correlation(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


def test_shuffled_pixels_keep_every_value_of_a_map(maps):
    drift = GainDrift(0.2, 30.0)
    change = (drift(maps) - maps).numpy()
    shuffled = (ShuffledPixels(drift, seed=1)(maps) - maps).numpy()
    ordered, expected = (np.sort(c.reshape(6, -1), axis=1) for c in (shuffled, change))
    np.testing.assert_allclose(ordered, expected, atol=1e-12)
    assert abs(correlation(shuffled, change)) < 5 / 16 / np.sqrt(6)


def test_every_map_has_its_own_order(maps):
    drift = GainDrift(0.2, 30.0)
    flat = np.broadcast_to(np.full((1, 16, 16), 100.0), (2, 16, 16)).copy()
    flat[1, 0, 0] += 1e-3
    shuffled = ShuffledPixels(drift, seed=1)(flat) - flat
    assert abs(correlation(shuffled[0].numpy(), shuffled[1].numpy())) < 0.3
    other = ShuffledPixels(drift, seed=2)(flat) - flat
    assert abs(correlation(shuffled.numpy(), other.numpy())) < 0.3


@pytest.mark.parametrize("size", [16, 15])
def test_shuffled_phases_keep_every_amplitude_of_the_change_and_its_mean(make_maps, size):
    maps = make_maps(6, size).astype(np.float64) + 100
    paper = Logistic(0.05, -8.0, 6.0)
    change = (paper(maps) - maps).numpy()
    shuffled = (ShuffledPhases(paper, seed=1)(maps) - maps).numpy()
    modes, expected = np.fft.fft2(shuffled), np.fft.fft2(change)
    np.testing.assert_allclose(np.abs(modes), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(shuffled.mean((1, 2)), change.mean((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(np.mean(shuffled**2), np.mean(change**2), rtol=1e-12)
    turned = (modes * expected.conj() / np.abs(expected) ** 2).reshape(6, -1)[:, 1:]
    assert abs(np.mean(turned)) < 5 / np.sqrt(turned.size / 2)


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_are_deterministic_and_map_by_map(make_maps, control):
    maps = make_maps(4, 16)
    made = control(Logistic(0.25, -15.0, 3.0), seed=1)
    changed = made(maps)
    assert changed.dtype == maps.dtype and changed.shape == maps.shape
    assert np.min(changed) >= 0
    np.testing.assert_array_equal(changed, made(maps))
    np.testing.assert_array_equal(made(maps[2:3])[0], changed[2])


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_of_nothing_change_nothing(make_maps, control):
    maps = make_maps(4, 16)
    np.testing.assert_array_equal(control(Logistic(0.25, -15.0, 0.0), seed=1)(maps), maps)


@pytest.mark.parametrize("control", CONTROLS)
def test_an_attack_loses_its_power_when_shuffled(linear_posterior, maps, control):
    truth = linear_posterior.means(maps) + 0.02
    attack = BIM(linear_posterior, alpha=0.4)
    shift = np.abs(linear_posterior.means(attack(maps, truth)) - linear_posterior.means(maps))
    shuffled = control(attack, seed=1)(maps, truth)
    left = np.abs(linear_posterior.means(shuffled) - linear_posterior.means(maps))
    assert left.mean() < 0.2 * shift.mean()
