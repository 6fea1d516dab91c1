"""Large boxes against linear theory: CAMB's P(k), measured by powerbox, and the labels' sigma_8."""

import itertools

import numpy as np
import pytest
from powerbox import get_power
from slow import slow_but

from spurious import config
from spurious.cosmology import Cosmology
from spurious.simulation import white_noise
from spurious.simulation.initial_conditions import amplitude_of, linear_field
from spurious.simulation.particle_mesh import ParticleMesh

N, BOX = 64, 1000.0
SMALL = 400.0
# All but the planes k_z = 0 and Nyquist of a half spectrum stand for two modes.
MODES = np.r_[1, np.full(N // 2 - 1, 2), 1]
SEEDS = (1, 2, 3)
EDGES = np.linspace(0.5, 6.5, 7) * 2 * np.pi / BOX  # k up to 0.041 h/Mpc
COSMOLOGIES = [(0.1, 0.9), (0.3, 0.8), (0.5, 0.6)]
OMEGA_M, SIGMA_8 = np.linspace(0.05, 0.55, 11).round(2), np.linspace(0.5, 1.0, 11).round(2)


def box(box_size=BOX, **changes):
    return config.Simulation(
        n_cells=N, box_size=config.Length(value=box_size, unit="Mpc/h"), **changes
    )


@pytest.fixture(scope="module")
def engine():
    """With a fine force mesh: on the coarse one these waves feel less than their own pull."""
    return ParticleMesh(box(force_mesh=2))


@pytest.fixture(scope="module")
def cambs(run_camb):
    """P(k) in (Mpc/h)^3 of CAMB's own, normalised by its own sigma_8; k in h/Mpc."""

    def power_of(omega_m, sigma_8, k_max=10.0):
        results = run_camb(omega_m, k_max)
        power = results.get_matter_power_interpolator(nonlinear=False).P
        scale = (sigma_8 / float(results.get_sigma8_0())) ** 2
        return lambda k: scale * power(0.0, k)

    return power_of


def wave_number(box_size=BOX):
    full, half = (2 * np.pi * f(N, box_size / N) for f in (np.fft.fftfreq, np.fft.rfftfreq))
    return np.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half**2)


def bin_powers(contrast):
    """P(k) of a field (n, n, n) in the bins, in (Mpc/h)^3, by powerbox."""
    return np.asarray(get_power(contrast.astype(np.float64), BOX, bins=EDGES).power)


def expected_powers(power):
    """Mean of P over the modes of each bin."""
    k = wave_number()
    means = []
    for low, high in itertools.pairwise(EDGES):
        inside = (k >= low) & (k < high)
        weights = np.broadcast_to(MODES, k.shape)[inside]
        means.append(np.average(power(k[inside]), weights=weights))
    return np.array(means)


def flat_noise(seed):
    """White noise with amplitude 1 in every mode: its P(k) has no cosmic variance (Angulo &
    Pontzen 2016, arXiv:1603.05253).
    """
    noise = np.fft.rfftn(white_noise(seed, N).astype(np.float64))
    return np.fft.irfftn(noise / np.abs(noise) * N**1.5).astype(np.float32)


def painted_window():
    """What cloud-in-cell leaves of a wave's amplitude: prod sinc^2 (k_i / 2), k in cells."""
    full, half = np.fft.fftfreq(N), np.fft.rfftfreq(N)
    return (np.sinc(full)[:, None, None] * np.sinc(full)[None, :, None] * np.sinc(half)) ** 2


@pytest.mark.parametrize(("omega_m", "sigma_8"), COSMOLOGIES)
def test_power_of_the_initial_conditions_is_cambs(engine, cambs, omega_m, sigma_8):
    """To 0.3 % in every bin."""
    amplitude = engine.factors(Cosmology(omega_m, sigma_8)).amplitude
    powers = [bin_powers(linear_field(flat_noise(seed), amplitude).numpy()) for seed in SEEDS]
    ratio = np.mean(powers, axis=0) / expected_powers(cambs(omega_m, sigma_8))
    np.testing.assert_allclose(ratio, 1, atol=3e-3)


@pytest.mark.parametrize(("omega_m", "sigma_8"), COSMOLOGIES)
def test_power_of_the_evolved_field_is_cambs(engine, cambs, omega_m, sigma_8):
    """To 3 % in every bin up to 0.022 h/Mpc, to 1 % together, after ten stages.

    Where matter is mostly baryons the spectrum is so steep that beyond it modes couple.
    """
    powers = []
    for seed in SEEDS:
        spectrum = np.fft.rfftn(engine.density(Cosmology(omega_m, sigma_8), flat_noise(seed)))
        powers.append(bin_powers(np.fft.irfftn(spectrum / painted_window())))
    ratio = np.mean(powers, axis=0) / expected_powers(cambs(omega_m, sigma_8))
    np.testing.assert_allclose(ratio[:3], 1, atol=0.03)
    assert ratio[:3].mean() == pytest.approx(1, abs=0.01)


def top_hat(k, radius=8.0):
    x = np.maximum(k * radius, 1e-6)
    return 3 * (np.sin(x) - x * np.cos(x)) / x**3


@pytest.mark.parametrize("omega_m", slow_but((0.05, 0.3), OMEGA_M))
def test_sigma_8_of_the_linear_field_is_the_label_at_every_node(cambs, omega_m):
    """To 0.1 %, smoothing a real field; what the box cannot hold is added from CAMB's P(k)."""
    k = wave_number(SMALL)
    unit = cambs(omega_m, 1.0, k_max=20.0)
    held = np.sum((k > 0) * MODES * unit(np.maximum(k, 1e-4)) * top_hat(k) ** 2) / SMALL**3
    fine = np.geomspace(1e-4, 15, 60_001)
    whole = np.trapezoid(fine**3 * unit(fine) * top_hat(fine) ** 2 / (2 * np.pi**2), np.log(fine))
    assert held / whole > 0.8
    for sigma_8 in SIGMA_8:
        amplitude = amplitude_of(Cosmology(float(omega_m), float(sigma_8)), box(SMALL))
        spectrum = np.fft.rfftn(linear_field(flat_noise(5), amplitude).numpy().astype(np.float64))
        smoothed = np.fft.irfftn(spectrum * top_hat(k))
        measured = np.sqrt(smoothed.var() + sigma_8**2 * (whole - held))
        assert measured == pytest.approx(sigma_8, rel=1e-3)
