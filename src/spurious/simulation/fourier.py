"""Linear operators that are diagonal in Fourier space, on a periodic mesh, with gradients.

Half spectra have the shape (n, n, n/2 + 1).
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


def coloured(noise: tf.Tensor, amplitude: tf.Tensor) -> tf.Tensor:
    """Multiply the spectrum of a real field (n, n, n) by a real, even one (n, n, n/2 + 1).

    Differentiable in both. TensorFlow has no gradient for irfft3d, but the product is its own
    adjoint in the field, and in the amplitude a correlation of the two spectra.
    """
    n = noise.shape[-1]

    @tf.custom_gradient
    def apply(
        field: tf.Tensor, factor: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        def adjoint(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            product = tf.math.conj(tf.signal.rfft3d(field)) * tf.signal.rfft3d(upstream)
            # All but the planes k_z = 0 and Nyquist stand for two modes of the whole spectrum.
            twice = np.full(n // 2 + 1, 2 / n**3, np.float32)
            twice[[0, -1]] /= 2
            return _multiplied(upstream, factor), tf.math.real(product) * twice

        return _multiplied(field, factor), adjoint

    return apply(noise, amplitude)


def filtered(field: tf.Tensor, kernel: Callable[[], tf.Tensor]) -> tf.Tensor:
    """Multiply the spectrum of a real field (n, n, n) by a real, even constant (n, n, n/2 + 1).

    `kernel` makes it. It is a function, so that inside a loop the adjoint, the same filter,
    makes it anew rather than keep one copy a step.
    """

    @tf.custom_gradient
    def apply(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def adjoint(upstream: tf.Tensor) -> tf.Tensor:
            # A gather's gradient arrives as IndexedSlices.
            return _multiplied(tf.convert_to_tensor(upstream), kernel())

        return _multiplied(values, kernel()), adjoint

    return apply(field)


def _multiplied(field: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    spectrum = tf.complex(factor, tf.zeros_like(factor)) * tf.signal.rfft3d(field)
    return tf.signal.irfft3d(spectrum, field.shape)


def potential(source: tf.Tensor) -> tf.Tensor:
    """The field (n, n, n) of mean zero whose Laplacian is `source`; lengths in cells."""
    return filtered(source, lambda: _inverse_laplacian(source.shape[-1], source.dtype))


def _inverse_laplacian(n: int, dtype: tf.DType) -> tf.Tensor:
    """-1/k^2 on the half spectrum, zero at k = 0."""
    # Constants are made from NumPy here, inside the program: a loop's gradient cannot reach
    # tensors made outside.
    squares = [tf.constant(k**2, dtype) for k in wave_numbers(n)]
    total = tf.add_n([tf.zeros([n, n, n // 2 + 1], dtype) + square for square in squares])
    return tf.math.divide_no_nan(tf.constant(-1, dtype), total)
