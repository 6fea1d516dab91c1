"""Minkowski functionals of the excursion sets of two-dimensional periodic fields.

Per unit area, of the set where a field u exceeds a threshold nu: V0 its area, V1 a quarter of the
length of its boundary, V2 its Euler characteristic. The boundary is integrated over pixels,

    V1 = <delta_D(u - nu) |grad u|> / 4
    V2 = <delta_D(u - nu) |grad u| kappa> / (2 pi)
    |grad u| kappa = (2 u_x u_y u_xy - u_x^2 u_yy - u_y^2 u_xx) / |grad u|^2,

with delta_D a top hat as wide as the step between thresholds, and with derivatives by Fourier
transform (Schmalzing & Gorski 1998, astro-ph/9710185).
"""

from __future__ import annotations

import numpy as np
from scipy import fft

TINY = 1e-300


def standardised(fields: np.ndarray) -> np.ndarray:
    """Fields (batch, N, N) less their own mean, over their own standard deviation."""
    mean = fields.mean(axis=(1, 2), keepdims=True)
    spread = fields.std(axis=(1, 2), keepdims=True)
    return (fields - mean) / np.maximum(spread, TINY)


def functionals(fields: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """V0, V1 and V2 of each field at each threshold.

    Args:
        fields: (batch, N, N).
        thresholds: equidistant and rising, (t,), in the unit of the fields.

    Returns:
        (batch, 3, t): V0 without unit, V1 in 1/pixel, V2 in 1/pixel^2.
    """
    gradient, curvature = _gradient_and_curvature(fields)
    width = thresholds[1] - thresholds[0]
    v = np.empty((len(fields), 3, len(thresholds)))
    for i, nu in enumerate(thresholds):
        v[:, 0, i] = (fields > nu).mean(axis=(1, 2))
        near = (fields >= nu - width / 2) & (fields < nu + width / 2)
        v[:, 1, i] = (gradient * near).mean(axis=(1, 2)) / width / 4
        v[:, 2, i] = (curvature * near).mean(axis=(1, 2)) / width / (2 * np.pi)
    return v


def _gradient_and_curvature(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|grad u|, 1/pixel, and |grad u| kappa, 1/pixel^2."""
    n = fields.shape[-1]
    modes = fft.rfft2(fields)
    kx, ky = fft.fftfreq(n)[:, None] * 2 * np.pi, fft.rfftfreq(n)[None] * 2 * np.pi
    # Neither sign of the Nyquist mode is better than the other: it has no first derivative.
    if n % 2 == 0:
        x, y = kx.copy(), ky.copy()
        x[n // 2], y[:, -1] = 0, 0
    else:
        x, y = kx, ky
    factors = (1j * x, 1j * y, -(kx**2), -(ky**2), -(x * y))
    ux, uy, uxx, uyy, uxy = (fft.irfft2(modes * factor, s=(n, n)) for factor in factors)
    squared = ux**2 + uy**2
    bent = 2 * ux * uy * uxy - ux**2 * uyy - uy**2 * uxx
    # A flat pixel has no direction, and where the field is constant nothing bends.
    return np.sqrt(squared), bent / np.maximum(squared, TINY)
