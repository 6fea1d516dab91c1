"""Linear operators that are diagonal in Fourier space, on a periodic mesh, with gradients.

Half spectra have the shape (n, n, n/2 + 1). Kernels are FlowPM's (`flowpm.kernels`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def wave_numbers(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Components of k in radians per cell, shaped to broadcast to the half spectrum."""
    full = 2 * np.pi * np.fft.fftfreq(n)
    half = 2 * np.pi * np.fft.rfftfreq(n)
    return full[:, None, None], full[None, :, None], half[None, None, :]


def filtered(field: tf.Tensor, kernels: Callable[[], tf.Tensor]) -> tf.Tensor:
    """Convolve a real field (n, n, n) with each of m kernels: shape (m, n, n, n).

    `kernels` makes the tensor (m, n, n, n/2 + 1), complex64, Hermitian as half spectra of real
    kernels are. TensorFlow has no gradient for irfft3d, but the map is linear and its adjoint
    is the same sum with the conjugate kernels. It is a function, so that inside a loop the
    adjoint makes the kernels anew rather than keep one copy a step.
    """
    n = field.shape[-1]

    @tf.custom_gradient
    def apply(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def adjoint(upstream: tf.Tensor) -> tf.Tensor:
            upstream = tf.convert_to_tensor(upstream)  # a gather's gradient is IndexedSlices
            spectra = tf.math.conj(kernels()) * tf.signal.rfft3d(upstream)
            return tf.signal.irfft3d(tf.reduce_sum(spectra, axis=0), [n, n, n])

        return tf.signal.irfft3d(kernels() * tf.signal.rfft3d(values), [n, n, n]), adjoint

    return apply(field)


def displacement_kernels(n: int) -> tf.Tensor:
    """Kernels (3, n, n, n/2 + 1) of the inverse divergence: i g_j / k^2, zero at k = 0.

    g = (8 sin k - sin 2k) / 6 is the four-point finite difference, which damps the smallest
    scales; 1/k^2 inverts the Laplacian (FastPM, arXiv:1603.00476, Section 2.2).
    """
    gradient, inverse_square = _derivatives(n)
    return tf.stack([tf.complex(0.0, g * inverse_square) for g in gradient])


def shear_kernels(n: int) -> tf.Tensor:
    """Kernels (6, n, n, n/2 + 1) of -g_i g_j / k^2 for ij = 00, 11, 22, 12, 20, 01."""
    gradient, inverse_square = _derivatives(n)
    pairs = ((0, 0), (1, 1), (2, 2), (1, 2), (2, 0), (0, 1))
    return tf.stack(
        [tf.complex(-gradient[i] * gradient[j] * inverse_square, 0.0) for i, j in pairs]
    )


def _derivatives(n: int) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Finite-difference gradient (three vectors that broadcast) and 1/k^2 on the half spectrum."""
    k = wave_numbers(n)
    # Constants are made from NumPy here, inside the program: a loop's gradient cannot reach
    # tensors made outside.
    gradient = [tf.constant((8 * np.sin(c) - np.sin(2 * c)) / 6, tf.float32) for c in k]
    square = tf.add_n([tf.zeros([n, n, n // 2 + 1]) + tf.constant(c**2, tf.float32) for c in k])
    return gradient, tf.math.divide_no_nan(1.0, square)
