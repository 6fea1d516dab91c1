"""Scattering transform of periodic maps, as differentiable TensorFlow.

With wavelets psi_jl of scale 2^j pixels and orientation pi l / L, x the logarithm of the density,
and < > the mean over pixels,

    S1(j)            = mean over l of < |x * psi_jl| >
    S2(j1, j2, dl)   = mean over l of < | |x * psi_j1,l| * psi_j2,l+dl | >,  j1 < j2

(Bruna & Mallat 2013, arXiv:1203.1513; averaged over orientations as in Cheng et al. 2020,
arXiv:2006.08561, but with the angle dl between the two wavelets kept, dl and -dl together).
The summary is ln S1(j) and ln(S2(j1, j2, dl) / S1(j1)).

The wavelets are those of Kymatio (Andreux et al. 2020, JMLR 21, 60): Morlet wavelets

    psi(r) ~ exp(-(x^2 + s^2 y^2) / (2 sigma^2)) (exp(i xi x) - beta),  x along the orientation,

with sigma = 0.8 2^j, xi = (3 pi / 4) / 2^j, s = 4 / L, and beta such that their sum is zero.
Kymatio itself pads by reflection and has had no release since 2022; maps here are periodic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

ORIENTATIONS = 4
MAX_SCALES = 4
LOWEST = 1e-3  # densities in units of the mean below this count as this
BATCH = 32  # maps at a time, in which the moduli of one scale fill a processor's cache
TINY = 1e-12  # squared modulus, which keeps the gradient finite where a wavelet sees nothing


def scales(n: int) -> int:
    """Number of scales that fit into n x n pixels: the widest wavelet is n / 4 pixels or less.

    Raises:
        ValueError: not even two fit.
    """
    count = min(MAX_SCALES, int(np.log2(n)) - 1)
    if count < 2:
        raise ValueError(f"maps of {n} x {n} pixels are too small for a scattering transform")
    return count


def coefficients(n: int) -> list[tuple[int, ...]]:
    """What each entry of `scattering` is: (j) or (j1, j2, dl)."""
    count = scales(n)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    angles = range(ORIENTATIONS // 2 + 1)
    return [(j,) for j in range(count)] + [(i, j, dl) for i, j in pairs for dl in angles]


def scattering(maps: Any) -> tf.Tensor:
    """Logarithms of the scattering coefficients of each map.

    Args:
        maps: (batch, N, N) in any unit of density, floating point; differentiable.

    Returns:
        (batch, d) in the maps' precision, in the order of `coefficients`; a common factor, a
        translation, a rotation by 90 degrees or a reflection of a map changes none.
    """
    maps = tf.convert_to_tensor(maps)
    n = maps.shape[-1]
    density = maps / tf.reduce_mean(maps, axis=(1, 2), keepdims=True)
    field = tf.math.log(tf.maximum(density, LOWEST))
    moduli = [_moduli(field[:, None], j) for j in range(scales(n))]
    first = [tf.reduce_mean(modulus, axis=(1, 2, 3)) for modulus in moduli]
    entries = [tf.math.log(one) for one in first]
    for i in range(len(moduli)):
        for j in range(i + 1, len(moduli)):
            seconds = _by_angle(tf.reduce_mean(_moduli(moduli[i][:, :, None], j), axis=(3, 4)))
            entries += [tf.math.log(second / first[i]) for second in seconds]
    return tf.stack(entries, axis=1)


def in_batches(maps: np.ndarray) -> np.ndarray:
    """What `scattering` makes of maps (n, N, N) in single precision, as (n, d) float64."""
    compiled = _compiled(maps.shape[-1])
    parts = (maps[start : start + BATCH] for start in range(0, len(maps), BATCH))
    found = [compiled(tf.constant(part, tf.float32)).numpy() for part in parts]
    return np.concatenate(found).astype(np.float64)


@lru_cache(maxsize=8)
def _compiled(n: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Of maps of n x n pixels, however many: the number of scales must be known."""
    return tf.function(scattering, input_signature=[tf.TensorSpec((None, n, n), tf.float32)])


def _moduli(fields: tf.Tensor, scale: int) -> tf.Tensor:
    """|field * psi| for every orientation, which takes the place of axis -3, of length 1."""
    complex_type = tf.complex128 if fields.dtype == tf.float64 else tf.complex64
    wavelets = tf.constant(_wavelets(fields.shape[-1])[scale], complex_type)
    modes = tf.signal.fft2d(tf.cast(fields, complex_type))
    waves = tf.signal.ifft2d(modes * wavelets)
    return tf.sqrt(tf.math.real(waves) ** 2 + tf.math.imag(waves) ** 2 + TINY)


def _by_angle(means: tf.Tensor) -> list[tf.Tensor]:
    """Means (batch, l1, l2) averaged over pairs with the same angle: one (batch,) an angle."""
    place = np.arange(ORIENTATIONS)
    turn = (place[None] - place[:, None]) % ORIENTATIONS
    angle = np.minimum(turn, ORIENTATIONS - turn)
    shares = [(angle == dl) / (angle == dl).sum() for dl in range(ORIENTATIONS // 2 + 1)]
    return [tf.einsum("bij,ij->b", means, tf.constant(share, means.dtype)) for share in shares]


@lru_cache(maxsize=4)
def _wavelets(n: int) -> np.ndarray:
    """Fourier transforms of the wavelets on n x n pixels, (scales, L, n, n); all are real."""
    return np.array(
        [[_wavelet(n, j, np.pi * l / ORIENTATIONS) for l in range(ORIENTATIONS)]  # noqa: E741
         for j in range(scales(n))]
    )  # fmt: skip


def _wavelet(n: int, scale: int, angle: float) -> np.ndarray:
    """One wavelet, as the sum of its transform over the aliases of each mode, (n, n)."""
    sigma, xi, slant = 0.8 * 2**scale, 0.75 * np.pi / 2**scale, 4 / ORIENTATIONS
    k = 2 * np.pi * (np.fft.fftfreq(n)[:, None] + np.arange(-3, 4))  # (mode, alias)
    kx, ky = k[:, None, :, None], k[None, :, None, :]
    along, across = np.cos(angle) * kx + np.sin(angle) * ky, np.cos(angle) * ky - np.sin(angle) * kx

    def gauss(centre: float) -> np.ndarray:
        exponent = (along - centre) ** 2 + (across / slant) ** 2
        return np.exp(-(sigma**2) / 2 * exponent).sum(axis=(2, 3))

    carried, still = gauss(xi), gauss(0.0)
    return carried - carried[0, 0] / still[0, 0] * still
