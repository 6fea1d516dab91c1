"""The engine `flowpm`: FlowPM's own functions, made to use the right cosmology.

FlowPM 0.1.1 takes `cosmology=` but then uses its module's Planck dictionary in `lpt_init`, `kick`
and `drift`. Here that name is bound to a dictionary of tensors while FlowPM is traced, once; the
tensors are then the traced function's arguments. FlowPM's growth, a cache inside
the dictionary, is solved by FlowPM itself, once per Omega_m, from a fresh dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import flowpm
import numpy as np
import tensorflow as tf
from flowpm import tfbackground, tfpm

from spurious import config
from spurious.cosmology import Cosmology, linear_power
from spurious.files import UserError
from spurious.simulation import initial_conditions
from spurious.simulation.particle_mesh import scale_factors


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
        self._run = tf.function(self._trace)

    def density(self, cosmology: Cosmology, white_noise: np.ndarray) -> np.ndarray:
        """Density (n, n, n) at the last scale factor, in units of the mean, from white noise."""
        n, box_size = self.settings.n_cells, self.settings.box_size.value
        power = linear_power(cosmology, initial_conditions.k_max(n, box_size))
        amplitude = initial_conditions.amplitude(power, n, box_size)
        linear = initial_conditions.linear_field(tf.constant(white_noise), tf.constant(amplitude))
        return self._run(linear[None], _background(cosmology.omega_m)).numpy()[0]

    def _trace(self, linear: tf.Tensor, background: Mapping[str, Any]) -> tf.Tensor:
        n, stages = self.settings.n_cells, scale_factors(self.settings.scale_factors).tolist()
        with _bound(background) as cosmo:
            state = tfpm.lpt_init(linear, stages[0], self.settings.lpt_order, cosmology=cosmo)
            state = tfpm.nbody(state, stages, n, cosmology=cosmo)
        return flowpm.cic_paint(tf.zeros_like(linear), state[0])


@contextmanager
def _bound(background: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Have FlowPM's functions use `background` instead of the module's dictionary."""
    planck = tfpm.cosmo
    tfpm.cosmo = dict(background)
    try:
        yield tfpm.cosmo
    finally:
        tfpm.cosmo = planck


@lru_cache(maxsize=64)
def _background(omega_m: float) -> dict[str, Any]:
    """FlowPM's dictionary of a flat universe, as tensors, with FlowPM's growth in it."""
    planck = {"w0": -1.0, "wa": 0.0, "Omega0_k": 0.0}
    values = planck | {"Omega0_m": omega_m, "Omega0_de": 1 - omega_m}
    background: dict[str, Any] = {key: tf.constant(v, tf.float32) for key, v in values.items()}
    tfbackground.maybe_compute_ODE(background)
    return background
