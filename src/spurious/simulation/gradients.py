"""Exact gradients through a whole simulation: in the white noise and in the cosmology.

The particle mesh is differentiated by TensorFlow. What it knows of a cosmology, a few hundred
thousand numbers from CAMB and the growth equation, is differentiated by central differences, in
Omega_m; in sigma_8 it is the amplitude alone, and linear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from spurious.cosmology import Cosmology
from spurious.simulation.particle_mesh import Factors, ParticleMesh, evolve

STEP = 2e-3  # in Omega_m: CAMB's own scatter and the third derivative both matter less than 1e-3

Objective = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Gradients:
    """An objective of the final density and its derivatives.

    Attributes:
        value: the objective.
        white_noise: (n, n, n), its gradient in the white noise.
        omega_m: its derivative in Omega_m at fixed sigma_8, Omega_b, h and n_s.
        sigma_8: its derivative in sigma_8.
    """

    value: float
    white_noise: np.ndarray
    omega_m: float
    sigma_8: float


class Expansion(NamedTuple):
    """The program's factors to first order in (Omega_m, sigma_8), exact at `centre`.

    Attributes:
        factors: at the centre.
        slopes: their derivatives in Omega_m.
        centre: (2,), Omega_m and sigma_8.
    """

    factors: Factors
    slopes: Factors
    centre: tf.Tensor

    def __call__(self, theta: tf.Tensor) -> Factors:
        """Factors at theta (2,), near the centre; differentiable."""
        omega_m, sigma_8 = tf.unstack(theta - self.centre)
        pairs = zip(self.factors, self.slopes, strict=True)
        near = Factors(*(value + omega_m * slope for value, slope in pairs))
        growth = sigma_8 / self.centre[1]
        return near._replace(amplitude=near.amplitude + growth * self.factors.amplitude)


def expansion(engine: ParticleMesh, cosmology: Cosmology) -> Expansion:
    """The expansion of an engine's factors about a cosmology."""
    step = min(STEP, (cosmology.omega_m - cosmology.omega_b) / 2, (1 - cosmology.omega_m) / 2)
    low, high = (
        engine.factors(replace(cosmology, omega_m=cosmology.omega_m + shift))
        for shift in (-step, step)
    )
    slopes = [(above - below) / (2 * step) for above, below in zip(high, low, strict=True)]
    centre = tf.constant([cosmology.omega_m, cosmology.sigma_8], tf.float32)
    return Expansion(engine.factors(cosmology), Factors(*slopes), centre)


def differentiated(
    engine: ParticleMesh, objective: Objective
) -> Callable[[Cosmology, np.ndarray], Gradients]:
    """A function that simulates and differentiates `objective(density)`.

    Args:
        engine: the particle mesh.
        objective: density (n, n, n) in units of the mean to a scalar, in TensorFlow.

    Returns:
        A function of a cosmology and white noise (n, n, n) float32. It compiles at its first
        call, for some seconds.

    Example:
        >>> gradients = differentiated(ParticleMesh(settings), tf.math.reduce_variance)
        >>> gradients(Cosmology(0.3, 0.8), white_noise(1, 64)).sigma_8
    """
    force_mesh = engine.settings.force_mesh

    @tf.function(jit_compile=True)
    def run(noise: tf.Tensor, near: Expansion) -> tuple[tf.Tensor, ...]:
        theta = tf.identity(near.centre)  # not the tensor that it is measured from
        with tf.GradientTape() as tape:
            tape.watch([noise, theta])
            value = objective(evolve(noise, near(theta), force_mesh))
        return value, *tape.gradient(value, [noise, theta])

    def gradients(cosmology: Cosmology, white_noise: np.ndarray) -> Gradients:
        value, noise, theta = run(tf.constant(white_noise), expansion(engine, cosmology))
        omega_m, sigma_8 = theta.numpy().tolist()
        return Gradients(float(value), noise.numpy(), omega_m, sigma_8)

    return gradients
