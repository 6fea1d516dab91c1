"""The particle mesh as one XLA program: white noise and a cosmology in, density out.

FlowPM's scheme (Modi, Lanusse & Seljak 2021, arXiv:2010.11847; FastPM, arXiv:1603.00476):
Lagrangian perturbation theory, then a leapfrog whose kicks and drifts are exact for linear
growth, with cloud-in-cell forces. A cosmology enters only through tensors, so that one
compilation serves all cosmologies.
Positions are in mesh cells, momenta are a^3 E dx/da.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from spurious import config
from spurious.cosmology import Cosmology
from spurious.simulation import clouds, differences, fourier, initial_conditions
from spurious.simulation.growth import growth, leapfrog


class Factors(NamedTuple):
    """All that the program knows of a cosmology, float32.

    Attributes:
        amplitude: (n, n, n/2 + 1), square root of linear power over cell volume.
        displace: (order,) growth factors at the first scale factor.
        move: (order,) momenta a unit displacement today has at the first scale factor.
        kick: (stages - 1,) includes 3/2 Omega_m.
        drift: (stages - 1,).
    """

    amplitude: np.ndarray | tf.Tensor
    displace: np.ndarray | tf.Tensor
    move: np.ndarray | tf.Tensor
    kick: np.ndarray | tf.Tensor
    drift: np.ndarray | tf.Tensor


class ParticleMesh:
    """The engine `xla`: compiled at its first use, once for all boxes of the same shape.

    Args:
        settings: the box and the particle mesh; `settings.engine` is not looked at.
    """

    def __init__(self, settings: config.Simulation) -> None:
        self.settings = settings
        self._scale_factors = scale_factors(settings.scale_factors)
        self._factors = lru_cache(maxsize=128)(self._make_factors)

    def density(self, cosmology: Cosmology, white_noise: np.ndarray) -> np.ndarray:
        """Density (n, n, n) at the last scale factor, in units of the mean, from white noise."""
        factors = self.factors(cosmology)
        return _compiled(tf.constant(white_noise), factors, self.settings.force_mesh).numpy()

    def factors(self, cosmology: Cosmology) -> Factors:
        """Power spectrum and growth of a cosmology, as the program wants them."""
        return self._factors(cosmology)

    def _make_factors(self, cosmology: Cosmology) -> Factors:
        first = growth(cosmology.omega_m, self._scale_factors[0])
        orders = slice(self.settings.lpt_order)
        displace = np.array([first.d1, first.d2])
        move = displace * [first.f1, first.f2] * first.a**2 * first.e
        kick, drift = leapfrog(cosmology.omega_m, self._scale_factors)
        return Factors(
            *(
                tf.constant(values, tf.float32)
                for values in (
                    initial_conditions.amplitude_of(cosmology, self.settings),
                    displace[orders],
                    move[orders],
                    1.5 * cosmology.omega_m * kick,
                    drift,
                )
            )
        )


def scale_factors(stages: config.Stages) -> np.ndarray:
    """Scale factors of the leapfrog, both ends included."""
    return np.linspace(stages.start, stages.stop, stages.stages)


def evolve(white_noise: tf.Tensor, factors: Factors, force_mesh: int) -> tf.Tensor:
    """Density (n, n, n) at the last scale factor, in units of the mean, from white noise.

    To differentiate it, call it with a `tf.GradientTape` inside a
    `tf.function(jit_compile=True)`.
    """
    n, steps = white_noise.shape[-1], factors.kick.shape[0]
    linear = initial_conditions.linear_field(white_noise, factors.amplitude)
    psi = initial_conditions.displacements(linear, order=factors.displace.shape[0])

    def step(i: tf.Tensor, x: tf.Tensor, p: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        p = p + factors.kick[i] * force(x, n, force_mesh)
        return i + 1, x + factors.drift[i] * p, p

    position = initial_conditions.lattice(n) + tf.tensordot(factors.displace, psi, 1)
    momentum = tf.tensordot(factors.move, psi, 1)
    _, position, _ = tf.while_loop(
        lambda i, x, p: i < steps,
        step,
        (tf.constant(0), position, momentum),
        maximum_iterations=steps,
    )
    return clouds.paint(position, n)


_compiled = tf.function(evolve, jit_compile=True)


def force(position: tf.Tensor, n: int, force_mesh: int) -> tf.Tensor:
    """Minus the gradient of the potential whose Laplacian is the density contrast: (n^3, 3).

    The force mesh has `force_mesh` cells a particle and side; the result is in units of
    the n-cell mesh.
    """
    fine = n * force_mesh
    position = position * float(force_mesh)
    contrast = clouds.paint(position, fine) * float(force_mesh**3)
    pull = clouds.read(differences.gradient(fourier.potential(contrast)), position)
    return -pull / float(force_mesh)
