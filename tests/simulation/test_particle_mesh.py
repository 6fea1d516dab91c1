import numpy as np
import pytest
import tensorflow as tf

from spurious import config
from spurious.cosmology import Cosmology
from spurious.simulation import make_engine, particle_mesh, project, simulate, white_noise
from spurious.simulation.initial_conditions import lattice, linear_field
from spurious.simulation.particle_mesh import ParticleMesh, evolve, force

N = 16


def settings(box_size=32.0, stages=4, n_cells=N, **changes):
    return config.Simulation(
        n_cells=n_cells,
        box_size=config.Length(value=box_size, unit="Mpc/h"),
        scale_factors=config.Stages(stages=stages),
        **changes,
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("force_mesh", [1, 2])
def test_force_of_a_plane_wave(axis, force_mesh):
    """A small wave of displacements d sin(kx) is pulled along x with d sin(kx), softened."""
    wave, size = 2 * np.pi / N, 1e-2
    displacement = np.zeros((N**3, 3), np.float32)
    displacement[:, axis] = size * np.sin(wave * lattice(N)[:, axis])
    pull = force(tf.constant(lattice(N) + displacement), N, force_mesh).numpy()
    others = np.delete(pull, axis, axis=1)
    slope = np.sum(pull * displacement) / np.sum(displacement**2)
    assert slope == pytest.approx(1, abs=0.06)
    assert np.abs(others).max() < 0.02 * size


def large_scale_response(engine, factors):
    """Final over linear density contrast, averaged over the longest waves of the box."""
    noise = white_noise(2, engine.settings.n_cells)
    linear = np.fft.rfftn(linear_field(noise, factors.amplitude).numpy())
    final = np.fft.rfftn(evolve(noise, factors, engine.settings.force_mesh).numpy())
    large = np.zeros(linear.shape, bool)
    large[:2, :2, :2] = True
    large[0, 0, 0] = False
    return np.sum((final * linear.conj()).real[large]) / np.sum(np.abs(linear[large]) ** 2)


@pytest.mark.parametrize("omega_m", [0.05, 0.55])
@pytest.mark.parametrize("force_mesh", [1, 2])
def test_large_scales_grow_as_linear_theory_says(omega_m, force_mesh):
    """In a large box the final density is the linear field: growth ends at 1 in any cosmology."""
    box = settings(n_cells=32, box_size=1600.0, stages=6, force_mesh=force_mesh)
    engine = ParticleMesh(box)
    factors = engine.factors(Cosmology(omega_m, 0.5))
    assert large_scale_response(engine, factors) == pytest.approx(1, abs=0.04)
    # The growth of another cosmology does not pass, whatever the amplitude of the linear field.
    other = engine.factors(Cosmology(0.3, 0.5))
    wrong = factors._replace(kick=other.kick * omega_m / 0.3, drift=other.drift)
    assert abs(large_scale_response(engine, wrong) - 1) > 0.1


@pytest.mark.parametrize("lpt_order", [1, 2])
def test_density_is_a_density(lpt_order):
    engine = make_engine(settings(lpt_order=lpt_order))
    density = engine.density(Cosmology(0.3, 0.9), white_noise(1, N))
    assert density.shape == (N, N, N)
    assert density.dtype == np.float32
    assert density.min() >= 0
    assert density.mean(dtype=np.float64) == pytest.approx(1, rel=1e-6)
    assert density.std() > 0.5


@pytest.mark.parametrize("force_mesh", [1, 2])
def test_momentum_is_conserved(force_mesh):
    """No net force on clustered particles: each pull has its opposite, on any mesh."""
    clustered = lattice(N) + np.random.default_rng(2).normal(0, 3, (N**3, 3)).astype(np.float32)
    pull = force(tf.constant(clustered), N, force_mesh).numpy().astype(np.float64)
    assert np.sqrt(np.mean(pull**2)) > 0.1
    assert np.abs(pull.mean(axis=0)).max() < 1e-6 * np.sqrt(np.mean(pull**2))


def quiet():
    """A box whose rounding errors have no time to grow."""
    return make_engine(settings(box_size=64.0, stages=3))


@pytest.mark.parametrize("shift", [(1, 0, 0), (0, 3, 0), (0, 0, 5), (2, 7, 11)])
def test_a_shift_of_the_noise_shifts_the_density(shift):
    noise, engine = white_noise(1, N), quiet()
    density = engine.density(Cosmology(0.3, 0.8), noise)
    moved = engine.density(Cosmology(0.3, 0.8), np.roll(noise, shift, (0, 1, 2)))
    np.testing.assert_allclose(moved, np.roll(density, shift, (0, 1, 2)), atol=1e-4)


@pytest.mark.parametrize("axes", [(1, 0, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0)])
def test_no_axis_is_special(axes):
    noise, engine = white_noise(1, N), quiet()
    density = engine.density(Cosmology(0.3, 0.8), noise)
    turned = engine.density(Cosmology(0.3, 0.8), noise.transpose(axes).copy())
    np.testing.assert_allclose(turned, density.transpose(axes), atol=1e-4)


def test_a_mirrored_noise_mirrors_the_density():
    noise, engine = white_noise(1, N), quiet()
    density = engine.density(Cosmology(0.3, 0.8), noise)
    index = -np.arange(N) % N  # the mirror leaves the lattice point 0 where it is
    mirrored = engine.density(Cosmology(0.3, 0.8), noise[index].copy())
    np.testing.assert_allclose(mirrored, density[index], atol=1e-4)


def test_one_compilation_serves_all_cosmologies():
    noise = white_noise(1, N)
    ParticleMesh(settings()).density(Cosmology(0.1, 0.8), noise)
    traced = particle_mesh._compiled.experimental_get_tracing_count()
    for omega_m in (0.3, 0.5):
        ParticleMesh(settings()).density(Cosmology(omega_m, 0.8), noise)
    assert particle_mesh._compiled.experimental_get_tracing_count() == traced


def test_projection_sums_along_the_last_axis():
    density = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(project(density), density[..., 0:4].sum(axis=2))
    np.testing.assert_array_equal(project(density, axis=0), density[0] + density[1])


def test_simulate_makes_one_map_in_counts():
    made = simulate(0.3, 0.8, seed=7, settings=settings())
    assert made.shape == (N, N)
    assert made.mean(dtype=np.float64) == pytest.approx(N, rel=1e-6)
    assert np.array_equal(made, simulate(0.3, 0.8, seed=7, settings=settings()))
    assert not np.allclose(made, simulate(0.3, 0.8, seed=8, settings=settings()))
    assert not np.allclose(made, simulate(0.2, 0.8, seed=7, settings=settings()))


@pytest.mark.slow
@pytest.mark.parametrize("force_mesh", [1, 2])
def test_gradient_is_that_of_central_differences(force_mesh):
    """Clouds have kinks, so the differences are taken in a smooth objective of a quiet field."""
    engine = ParticleMesh(settings(box_size=160.0, stages=3, force_mesh=force_mesh))
    factors, noise = engine.factors(Cosmology(0.3, 0.5)), tf.constant(white_noise(1, N))
    x, y = np.indices((N, N))
    weights = tf.constant(np.cos(2 * np.pi * x / N) + np.sin(4 * np.pi * y / N), tf.float32)

    @tf.function(jit_compile=True)
    def objective(noise):
        with tf.GradientTape() as tape:
            tape.watch(noise)
            value = tf.reduce_sum(weights * tf.reduce_sum(evolve(noise, factors, force_mesh), 2))
        return value, tape.gradient(value, noise)

    gradient = objective(noise)[1].numpy()
    rng = np.random.default_rng(0)
    for direction in (gradient / gradient.std(), rng.normal(size=(N, N, N)).astype(np.float32)):
        step = 0.02
        high, low = (float(objective(noise + s * direction)[0]) for s in (step, -step))
        assert (high - low) / (2 * step) == pytest.approx(np.sum(gradient * direction), rel=0.02)
