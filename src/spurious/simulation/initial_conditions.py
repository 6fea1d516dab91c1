"""White noise to the linear density contrast to particles at the first scale factor.

Lengths are in mesh cells. Displacements are first and second order Lagrangian perturbation
theory (Bouchet et al. 1995), discretised as in FlowPM.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from spurious.cosmology import Power
from spurious.simulation import fourier


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


def linear_field(noise: tf.Tensor, amplitude: tf.Tensor) -> tf.Tensor:
    """Linear density contrast (n, n, n) at z = 0."""
    return fourier.filtered(noise, lambda: tf.complex(amplitude, 0.0)[None])[0]


def lattice(n_cells: int) -> np.ndarray:
    """Undisplaced particles, one at each mesh point: (n^3, 3) float32."""
    return np.indices((n_cells,) * 3).reshape(3, -1).T.astype(np.float32)


def displacements(linear: tf.Tensor, order: int) -> tf.Tensor:
    """Displacements today, one row an order: (order, n^3, 3).

    The second order's source is 3/7 sum_{i<j} (phi_ii phi_jj - phi_ij^2); its growth factor
    is normalised to 1 today.
    """
    sources = [linear]
    if order == 2:
        shear = fourier.filtered(linear, lambda: fourier.shear_kernels(linear.shape[-1]))
        diagonal, mixed = shear[:3], shear[3:]
        products = diagonal * tf.roll(diagonal, 1, axis=0) - mixed**2
        sources.append(3 / 7 * tf.reduce_sum(products, axis=0))
    return tf.stack([_displacement(source) for source in sources])


def _displacement(source: tf.Tensor) -> tf.Tensor:
    """The irrotational vector field (n^3, 3) whose divergence is minus `source`."""
    n = source.shape[-1]
    field = fourier.filtered(source, lambda: fourier.displacement_kernels(n))
    return tf.transpose(tf.reshape(field, [3, n**3]))
