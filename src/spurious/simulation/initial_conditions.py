"""White noise to the linear density contrast to particles at the first scale factor.

Lengths are in mesh cells. Displacements are first and second order Lagrangian perturbation
theory (Bouchet et al. 1995), discretised as in FlowPM.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from spurious import config
from spurious.cosmology import Cosmology, Power, linear_power
from spurious.simulation import fourier
from spurious.simulation.differences import derivative, gradient


def k_max(n_cells: int, box_size: float) -> float:
    """Wavenumber of the mesh's corner in h/Mpc for a box in Mpc/h."""
    return float(np.sqrt(3) * np.pi * n_cells / box_size)


def amplitude(power: Power, n_cells: int, box_size: float) -> np.ndarray:
    """What white noise is multiplied with in Fourier space to have the power spectrum `power`.

    sqrt(P(k) / cell volume) on the half spectrum (n, n, n/2 + 1), float32.
    """
    square = sum(k**2 for k in fourier.wave_numbers(n_cells))
    cell = box_size / n_cells
    return np.sqrt(power(np.sqrt(square) / cell) / cell**3).astype(np.float32)


def amplitude_of(cosmology: Cosmology, settings: config.Simulation) -> np.ndarray:
    """`amplitude` of a cosmology in the box, and by the method, that `settings` names."""
    n, box_size = settings.n_cells, settings.box_size.value
    power = linear_power(cosmology, k_max(n, box_size), settings.linear_power)
    return amplitude(power, n, box_size)


def linear_field(noise: tf.Tensor, amplitude: tf.Tensor) -> tf.Tensor:
    """Linear density contrast (n, n, n) at z = 0."""
    return fourier.coloured(noise, amplitude)


def lattice(n_cells: int) -> np.ndarray:
    """Undisplaced particles, one at each mesh point: (n^3, 3) float32."""
    return np.indices((n_cells,) * 3).reshape(3, -1).T.astype(np.float32)


def displacements(linear: tf.Tensor, order: int) -> tf.Tensor:
    """Displacements today, one row an order: (order, n^3, 3).

    The second order's source is 3/7 sum_{i<j} (phi_ii phi_jj - phi_ij^2); its growth factor
    is normalised to 1 today.
    """
    # A potential is dominated by the longest waves, so its differences lose digits. In single
    # precision the final map would show it.
    linear = tf.cast(linear, tf.float64)
    sources = [linear]
    if order == 2:
        sources.append(_second_order_source(fourier.potential(linear)))
    return tf.cast(tf.stack([_displacement(source) for source in sources]), tf.float32)


def _second_order_source(phi: tf.Tensor) -> tf.Tensor:
    first = [derivative(phi, axis) for axis in range(3)]
    source = tf.zeros_like(phi)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        source += derivative(first[i], i) * derivative(first[j], j) - derivative(first[i], j) ** 2
    return 3 / 7 * source


def _displacement(source: tf.Tensor) -> tf.Tensor:
    """The irrotational vector field (n^3, 3) whose divergence is minus `source`."""
    return -tf.reshape(gradient(fourier.potential(source)), [-1, 3])
