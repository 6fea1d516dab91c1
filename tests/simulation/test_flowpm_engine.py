import flowpm
import numpy as np
import pytest
import tensorflow as tf

from spurious import config
from spurious.cosmology import Cosmology
from spurious.errors import UserError
from spurious.simulation import initial_conditions, make_engine, white_noise
from spurious.simulation.particle_mesh import ParticleMesh

SETTINGS = config.Simulation(
    n_cells=16,
    box_size=config.Length(value=32.0, unit="Mpc/h"),
    scale_factors=config.Stages(stages=3),
)
COSMOLOGY = Cosmology(0.1, 0.9)  # far from the Planck cosmology that FlowPM falls back to


def relative_rms(a, b):
    return np.sqrt(np.mean((a - b) ** 2)) / np.std(b)


@pytest.mark.slow
@pytest.mark.parametrize("lpt_order", [1, 2])
def test_both_engines_agree(lpt_order):
    settings = SETTINGS.model_copy(update={"lpt_order": lpt_order})
    noise = white_noise(1, 16)
    theirs = make_engine(settings.model_copy(update={"engine": "flowpm"}))
    ours = make_engine(settings).density(COSMOLOGY, noise)
    assert relative_rms(ours, theirs.density(COSMOLOGY, noise)) < 1e-5
    assert flowpm.tfpm.D1 is flowpm.tfbackground.D1  # FlowPM is left as it was


def test_flowpm_called_naively_simulates_another_universe():
    """Why the engine exists: `cosmology=` alone changes the force but not the growth."""
    engine, noise = ParticleMesh(SETTINGS), white_noise(1, 16)
    amplitude = engine.factors(COSMOLOGY).amplitude
    linear = initial_conditions.linear_field(noise, amplitude)[None]
    naive = {**flowpm.tfbackground.cosmo, "Omega0_m": 0.1, "Omega0_de": 0.9}
    state = flowpm.lpt_init(linear, 0.1, cosmology=naive)
    state = flowpm.nbody(state, [0.1, 0.55, 1.0], 16, cosmology=naive)
    density = flowpm.cic_paint(tf.zeros_like(linear), state[0])[0].numpy()
    assert relative_rms(density, engine.density(COSMOLOGY, noise)) > 0.1


def test_a_finer_force_mesh_is_refused():
    with pytest.raises(UserError, match=r"simulation.force_mesh = 2: must be 1"):
        make_engine(SETTINGS.model_copy(update={"engine": "flowpm", "force_mesh": 2}))
