"""The engine `flowpm`: FlowPM's own particle mesh, made to use the right cosmology.

FlowPM 0.1.1 takes `cosmology=` but then uses its module's Planck dictionary for all growth, and
its growth is a float32 table that is right to 2e-5. Here the growth functions that its particle
mesh calls are bound, while it is traced, to values of `spurious.simulation.growth`, which a test
compares with FlowPM's own functions. The values are arguments of the traced function, so one
trace serves all cosmologies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import flowpm
import numpy as np
import tensorflow as tf
from flowpm import tfpm

from spurious import config
from spurious.cosmology import Cosmology
from spurious.errors import UserError
from spurious.simulation import initial_conditions
from spurious.simulation.growth import growth
from spurious.simulation.particle_mesh import scale_factors

# FlowPM's names, and ours in `Growth`. Its gf2 only fills a force that `nbody` computes anew.
GROWTH = {
    "E": "e",
    "D1": "d1",
    "D2": "d2",
    "f1": "f1",
    "f2": "f2",
    "D1f": "d1_prime",
    "Gf": "g",
    "gf": "g_prime",
    "gf2": "g_prime",
}


class FlowPM:
    """FlowPM for one shape of box, traced at its first use.

    Args:
        settings: the box and the particle mesh; `settings.engine` is not looked at.

    Raises:
        UserError: `force_mesh` is not 1, where FlowPM's force is too strong by that factor.
    """

    def __init__(self, settings: config.Simulation) -> None:
        if settings.force_mesh != 1:
            raise UserError(
                f"simulation.force_mesh = {settings.force_mesh}: must be 1 with engine flowpm"
            )
        self.settings = settings
        stages = scale_factors(settings.scale_factors)
        self._stages = stages.tolist()
        self._times = np.concatenate([stages, np.sqrt(stages[1:] * stages[:-1])])
        self._run = tf.function(self._trace)

    def density(self, cosmology: Cosmology, white_noise: np.ndarray) -> np.ndarray:
        """Density (n, n, n) at the last scale factor, in units of the mean, from white noise."""
        amplitude = initial_conditions.amplitude_of(cosmology, self.settings)
        linear = initial_conditions.linear_field(tf.constant(white_noise), tf.constant(amplitude))
        now = growth(cosmology.omega_m, self._times)
        tables = {
            theirs: tf.constant(getattr(now, ours), tf.float32) for theirs, ours in GROWTH.items()
        }
        omega_m = tf.constant(cosmology.omega_m, tf.float32)
        return self._run(linear[None], omega_m, tables).numpy()[0]

    def _trace(
        self, linear: tf.Tensor, omega_m: tf.Tensor, tables: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        cosmo = {"Omega0_m": omega_m}  # all that is asked of it beside growth
        functions = {name: self._looked_up(table) for name, table in tables.items()}
        with _bound(functions):
            state = tfpm.lpt_init(linear, self._stages[0], self.settings.lpt_order, cosmology=cosmo)
            state = tfpm.nbody(state, self._stages, self.settings.n_cells, cosmology=cosmo)
        return flowpm.cic_paint(tf.zeros_like(linear), state[0])

    def _looked_up(self, table: tf.Tensor) -> Callable[[object, float], tf.Tensor]:
        def value(_: object, a: float) -> tf.Tensor:
            index = int(np.argmin(np.abs(self._times - a)))
            if abs(self._times[index] - a) > 1e-9:
                raise ValueError(f"FlowPM asks for growth at a = {a}, which was not prepared")
            return table[index]

        return value


@contextmanager
def _bound(functions: Mapping[str, Callable[[object, float], tf.Tensor]]) -> Iterator[None]:
    """Have FlowPM's particle mesh call `functions` instead of its own of the same names."""
    originals = {name: getattr(tfpm, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(tfpm, name, function)
        yield
    finally:
        for name, function in originals.items():
            setattr(tfpm, name, function)
