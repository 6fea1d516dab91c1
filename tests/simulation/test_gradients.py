import numpy as np
import pytest
import tensorflow as tf
from slow import slow_but

from spurious import config
from spurious.cosmology import Cosmology
from spurious.simulation import white_noise
from spurious.simulation.gradients import differentiated, expansion
from spurious.simulation.particle_mesh import ParticleMesh

N = 16
NOISE = white_noise(1, N)


@pytest.fixture(scope="module", params=slow_but(("eisenstein_hu",), ("camb", "eisenstein_hu")))
def engine(request):
    """A large box of long waves: clouds have kinks, which a quiet field does not feel."""
    return ParticleMesh(
        config.Simulation(
            n_cells=N,
            box_size=config.Length(value=400.0, unit="Mpc/h"),
            scale_factors=config.Stages(stages=3),
            linear_power=request.param,
        )
    )


def objective(density):
    """Not symmetric in the axes: a swapped one would be seen."""
    x, y, z = (tf.constant(c, tf.float32) for c in 2 * np.pi * np.indices((N, N, N)) / N)
    waves = tf.cos(x) + tf.sin(2 * y) + 0.5 * tf.cos(z + x)
    return tf.reduce_sum(waves * density) + tf.reduce_sum(density**2)


@pytest.fixture(scope="module")
def gradients(engine):
    return differentiated(engine, objective)


def value(engine, omega_m, sigma_8, noise=NOISE):
    return float(objective(tf.constant(engine.density(Cosmology(omega_m, sigma_8), noise))))


@pytest.mark.parametrize(("omega_m", "sigma_8"), [(0.1, 0.9), (0.3, 0.8), (0.5, 0.6)])
def test_gradients_are_those_of_central_differences(engine, gradients, omega_m, sigma_8):
    found = gradients(Cosmology(omega_m, sigma_8), NOISE)
    assert found.value == pytest.approx(value(engine, omega_m, sigma_8), rel=1e-5)

    step = 0.02 * omega_m
    d_omega = value(engine, omega_m + step, sigma_8) - value(engine, omega_m - step, sigma_8)
    assert found.omega_m == pytest.approx(d_omega / (2 * step), rel=0.01)
    step = 0.01
    d_sigma = value(engine, omega_m, sigma_8 + step) - value(engine, omega_m, sigma_8 - step)
    assert found.sigma_8 == pytest.approx(d_sigma / (2 * step), rel=0.01)

    direction = found.white_noise / found.white_noise.std()
    high, low = (value(engine, omega_m, sigma_8, NOISE + s * direction) for s in (step, -step))
    expected = float(np.sum(found.white_noise.astype(np.float64) * direction))
    assert (high - low) / (2 * step) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("omega_m", "sigma_8", "tolerance"), [(0.3, 0.8, 1e-6), (0.302, 0.81, 1e-3)]
)
def test_the_expansion_is_exact_at_its_centre_and_good_nearby(engine, omega_m, sigma_8, tolerance):
    near = expansion(engine, Cosmology(0.3, 0.8))(tf.constant([omega_m, sigma_8]))
    for found, exact in zip(near, engine.factors(Cosmology(omega_m, sigma_8)), strict=True):
        np.testing.assert_allclose(found, exact, rtol=tolerance, atol=1e-2 * tolerance)


def test_the_edge_of_possible_universes_is_not_crossed(gradients):
    """At omega_m = 0.05 a step of 0.002 would leave less matter than baryons."""
    found = gradients(Cosmology(0.05, 0.8), NOISE)
    assert np.isfinite([found.omega_m, found.sigma_8]).all()
