"""Power spectra of projected maps, as differentiable TensorFlow.

Modes of an (N, N) map with side L are k = k_F (i, j) with the fundamental k_F = 2 pi / L. They are
averaged in annuli of width k_F centred on whole multiples of k_F::

    P(k) = L^2 / N^4  sum over the modes of an annulus of |FFT|^2  /  n_modes

from k_F up to the last annulus that lies wholly below the Nyquist frequency pi N / L; modes in the
corners beyond it, which the box samples in some directions only, are left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from spurious.lazy import tf


class Bins(NamedTuple):
    """Annuli of a 2-D power spectrum.

    Attributes:
        k: mean `|k|` of the modes of each annulus, h/Mpc, shape (n_bins,).
        n_modes: modes of each annulus over the full plane, shape (n_bins,). A real map has the
            same amplitude at k and -k, so half of them are independent.
    """

    k: np.ndarray
    n_modes: np.ndarray


def bins(n: int, box_size: float) -> Bins:
    """Annuli of maps with n x n pixels and a side of `box_size` Mpc/h.

    Raises:
        ValueError: the map is too small to hold one annulus.
    """
    radius, annulus, weight = _half_plane(n)
    inside = annulus >= 0
    n_modes = np.bincount(annulus[inside], weight[inside])
    mean_radius = np.bincount(annulus[inside], (weight * radius)[inside]) / n_modes
    return Bins(mean_radius * 2 * np.pi / box_size, np.rint(n_modes).astype(np.int64))


def power(maps: Any, box_size: float, *, contrast: bool) -> tf.Tensor:
    """Power spectrum of each map.

    Args:
        maps: (batch, N, N), floating point.
        box_size: side of the map, Mpc/h.
        contrast: divide each map by its own mean and subtract 1 first, so that a change of the
            mean counts as a change of every mode. Otherwise the map's own unit is kept.

    Returns:
        (batch, n_bins) in (Mpc/h)^2 for the contrast, else in (unit of the map)^2 (Mpc/h)^2.
    """
    maps = tf.convert_to_tensor(maps)
    n = maps.shape[-1]
    mean = tf.reduce_mean(maps, axis=(-2, -1), keepdims=True)
    # Only k = 0 sees the mean: without it, the float32 FFT loses no digits to it.
    fluctuation = (maps - mean) / mean if contrast else maps - mean
    modes = tf.signal.rfft2d(fluctuation)
    squared = tf.math.real(modes) ** 2 + tf.math.imag(modes) ** 2
    return _annulus_sums(squared, n) * (box_size**2 / n**4)


def cosmic_variance(n_modes: Any) -> np.ndarray:
    """Relative standard deviation of one map's P(k), for a Gaussian field: sqrt(2 / n_modes)."""
    return np.sqrt(2.0 / np.asarray(n_modes))


def _annulus_sums(squared: tf.Tensor, n: int) -> tf.Tensor:
    """Mean of (batch, N, N // 2 + 1) squared amplitudes over each annulus: (batch, n_bins)."""
    _, annulus, weight = _half_plane(n)
    inside = np.flatnonzero(annulus >= 0)
    n_bins = annulus.max() + 1
    n_modes = np.bincount(annulus[inside], weight[inside])
    share = tf.constant(weight[inside] / n_modes[annulus[inside]], squared.dtype)
    used = tf.gather(tf.reshape(squared, (-1, annulus.size)), inside, axis=1) * share
    sums = tf.math.unsorted_segment_sum(tf.transpose(used), annulus[inside], n_bins)
    return tf.transpose(sums)


@lru_cache(maxsize=8)
def _half_plane(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Modes of `rfft2d`, flattened: |k| / k_F, annulus (-1: none), modes of the full plane.

    The half plane holds one of each pair k, -k, except on the columns that are their own partner.
    """
    n_bins = (n - 1) // 2
    if n_bins < 1:
        raise ValueError(f"maps of {n} x {n} pixels hold no annulus: at least 3 x 3 are needed")
    rows = np.fft.fftfreq(n, 1 / n)[:, None]
    columns = np.fft.rfftfreq(n, 1 / n)[None, :]
    radius = np.hypot(rows, columns)
    nearest = np.floor(radius + 0.5).astype(np.int32)
    annulus = np.where((nearest >= 1) & (nearest <= n_bins), nearest - 1, -1)
    alone = (columns == 0) | (columns == n / 2)
    weight = np.broadcast_to(np.where(alone, 1.0, 2.0), radius.shape)
    return radius.ravel(), annulus.ravel(), weight.ravel()
