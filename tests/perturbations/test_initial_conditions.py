"""Universes that mislead: their gradients, their budget, and that they look like any other."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from spurious import config
from spurious.data.maps import Standardiser
from spurious.networks.compact import Compact
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.perturbations.initial_conditions import InitialConditions, change, rotated, within
from spurious.posteriors.trained import NetworkPosterior
from spurious.simulation import white_noise
from spurious.simulation.engine import cosmology_at, one_map

N = 16
SETTINGS = config.Simulation(
    n_cells=N,
    box_size=config.Length(value=200.0, unit="Mpc/h"),
    scale_factors=config.Stages(stages=3),
    linear_power="eisenstein_hu",
)
LABEL = (0.3, 0.8)
UNIVERSE = cosmology_at(*LABEL, config.Background())
TRUTH = tf.constant([LABEL], tf.float32)


@pytest.fixture(scope="module")
def network():
    ranges = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}
    units = Standardiser(16.0, 8.0)
    return NetworkPosterior(Compact(width=0.25).model(N, HeadLayer(ranges, name=HEAD), units, 3))


@pytest.fixture(scope="module")
def attack(network):
    return InitialConditions(network, 0.1, SETTINGS, steps=10)


@pytest.fixture(scope="module")
def climbed(attack):
    return [attack.climb(seed, LABEL, axis) for seed, axis in ((1, 2), (2, 0), (3, 1))]


def powers(noise):
    return np.abs(np.fft.fftn(noise.astype(np.float64))) ** 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gradients_are_those_of_central_differences(attack, axis):
    noise = white_noise(1, N)

    def value(noise):
        return attack.value_and_gradient(noise, UNIVERSE, TRUTH, axis)[1]

    gradient = attack.value_and_gradient(noise, UNIVERSE, TRUTH, axis)[2].astype(np.float64)
    direction = gradient / gradient.std()
    step = 0.01
    slope = (
        value((noise + step * direction).astype(np.float32))
        - value((noise - step * direction).astype(np.float32))
    ) / (2 * step)
    assert slope == pytest.approx(np.sum(gradient * direction), rel=0.02)


def test_the_objective_rises(climbed):
    for one in climbed:
        rises = np.diff(one.values)
        assert np.mean(rises > 0) >= 0.8
        assert one.values[-1] > one.values[0] + 10 * np.abs(rises[rises < 0]).sum()


def test_it_does_much_more_than_random_phases(network, attack, climbed):
    for one, (seed, axis) in zip(climbed, ((1, 2), (2, 0), (3, 1)), strict=True):
        modes = np.fft.rfftn(white_noise(seed, N).astype(np.float64))
        gains = []
        for draw in range(4):
            field = np.random.default_rng(draw).normal(size=(N, N, N))
            phases = 0.3 * np.angle(np.fft.rfftn(field))
            noise = rotated(modes, within(modes, phases, 0.1))
            value = attack.value_and_gradient(noise, UNIVERSE, TRUTH, axis)[1]
            gains.append(abs(value - one.values[0]))
        assert one.values.max() - one.values[0] > 3 * np.mean(gains)


def test_every_mode_keeps_its_power(climbed):
    for one, seed in zip(climbed, (1, 2, 3), strict=True):
        before, after = powers(white_noise(seed, N)), powers(one.noise)
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5 * before.mean())
        k = np.fft.fftfreq(N) * N
        bins = np.rint(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)).astype(int)
        ratio = np.bincount(bins.ravel(), after.ravel()) / np.bincount(bins.ravel(), before.ravel())
        np.testing.assert_allclose(ratio, 1, rtol=1e-5)


def test_the_budget_is_respected_and_used(climbed):
    for one, seed in zip(climbed, (1, 2, 3), strict=True):
        clean = white_noise(seed, N)
        size = np.linalg.norm((one.noise - clean).astype(np.float64)) / np.linalg.norm(clean)
        assert 0.08 < size < 0.1 * (1 + 1e-5)


def test_the_noise_stays_a_plausible_gaussian_draw(climbed):
    """One-point moments within five sigma, and the CDF that of a unit Gaussian."""
    for one in climbed:
        values = one.noise.ravel().astype(np.float64)
        assert abs(stats.skew(values)) < 5 * np.sqrt(6 / values.size)
        assert abs(stats.kurtosis(values)) < 5 * np.sqrt(24 / values.size)
        assert stats.kstest(values, "norm").pvalue > 0.01
        # Also along the lines of sight, where the posterior looks.
        for axis in range(3):
            lines = one.noise.mean(axis).ravel() * np.sqrt(N)
            assert stats.kstest(lines, "norm").pvalue > 0.01


def test_maps_are_those_of_the_noises(attack):
    seeds, labels, axes = [4, 5], [LABEL, (0.2, 0.9)], [2, 0]
    maps, noises = attack.perturb(seeds, labels, axes)
    assert maps.shape == (2, N, N) and maps.dtype == np.float32
    assert noises.shape == (2, N, N, N) and noises.dtype == np.float32
    for i, (label, axis) in enumerate(zip(labels, axes, strict=True)):
        universe = cosmology_at(*label, config.Background())
        density = attack.engine.density(universe, noises[i])
        np.testing.assert_array_equal(density.sum(axis, dtype=np.float32), maps[i])
        assert maps[i].mean() == pytest.approx(N, rel=1e-5)
        assert maps[i].min() >= 0


def test_deterministic_and_alike_alone_and_in_company(network, attack):
    anew = InitialConditions(network, 0.1, SETTINGS, steps=10)
    maps, noises = attack.perturb([4, 5], [LABEL, LABEL])
    alone = anew.perturb([5], [LABEL])
    np.testing.assert_array_equal(noises[1], alone.noises[0])
    np.testing.assert_array_equal(maps[1], alone.maps[0])


def test_zero_budget_changes_nothing(network, attack):
    maps, noises = InitialConditions(network, 0.0, SETTINGS).perturb([6], [LABEL])
    np.testing.assert_array_equal(noises[0], white_noise(6, N))
    np.testing.assert_array_equal(maps[0], one_map(attack.engine, UNIVERSE, 6))


def test_an_objective_that_is_flat_at_the_clean_map(network):
    found = InitialConditions(network, 0.1, SETTINGS, steps=8, objective="kl").climb(1, LABEL)
    assert found.values[0] == pytest.approx(0, abs=1e-6)
    assert found.values.max() > 100 * max(found.values[1], 1e-9)


def test_no_maps(attack):
    maps, noises = attack.perturb([], np.zeros((0, 2)))
    assert maps.shape == (0, N, N) and noises.shape == (0, N, N, N)


def test_sizes_are_those_of_the_noises():
    """The sum over the half spectrum against the fields themselves."""
    clean = white_noise(7, N)
    modes = np.fft.rfftn(clean.astype(np.float64))
    phases = 0.4 * np.angle(np.fft.rfftn(white_noise(8, N).astype(np.float64)))
    phases[np.abs(modes.imag) < 1e-9] = 0.0
    other = rotated(modes, phases)
    size = np.linalg.norm((other - clean).astype(np.float64)) / np.linalg.norm(clean)
    assert change(modes, phases) == pytest.approx(size, rel=1e-5)
    assert change(modes, within(modes, phases, 0.05)) == pytest.approx(0.05, rel=1e-6)
    np.testing.assert_allclose(within(modes, phases, 2.0), phases, atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": -0.1},
        {"epsilon": 1.1},
        {"epsilon": float("nan")},
        {"steps": 0},
        {"objective": "mse"},
        {"simulation": config.Simulation(engine="flowpm")},
    ],
)
def test_impossible_settings_are_refused(network, wrong):
    with pytest.raises(ValueError, match=r"epsilon|steps|objective|engine"):
        InitialConditions(network, **{"epsilon": 0.1, "simulation": SETTINGS} | wrong)


def test_unknown_lines_of_sight_and_missing_labels_are_refused(attack):
    with pytest.raises(ValueError, match="axis = -1 must be 0, 1 or 2"):
        attack.perturb([1], [LABEL], -1)
    with pytest.raises(ValueError, match="labels have shape"):
        attack.perturb([1, 2], [LABEL])
