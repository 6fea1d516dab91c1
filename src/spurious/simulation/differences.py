"""Derivatives on a periodic mesh by the four-point finite difference, which is FlowPM's.

Its response to exp(ikx) is i (8 sin k - sin 2k) / 6, k in radians a cell: exact to fourth order,
and falling to zero at the smallest scales, where it damps the noise of particles (FastPM,
arXiv:1603.00476, Section 2.2). In real space one inverse Fourier transform, that of the
potential, serves all derivatives.
"""

from __future__ import annotations

import tensorflow as tf


def derivative(field: tf.Tensor, axis: int) -> tf.Tensor:
    """Derivative of a field (n, n, n) along one axis, per cell."""
    near = tf.roll(field, -1, axis) - tf.roll(field, 1, axis)
    far = tf.roll(field, -2, axis) - tf.roll(field, 2, axis)
    return (8 * near - far) / 12


def gradient(field: tf.Tensor) -> tf.Tensor:
    """Gradient (n, n, n, 3) of a field (n, n, n), per cell."""
    return tf.stack([derivative(field, axis) for axis in range(3)], axis=-1)
