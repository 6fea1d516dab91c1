"""Bispectrum of two-dimensional periodic fields, by products of filtered fields.

With the field filtered to an annulus a, f_a(x) = N^-2 sum over the modes k of a of F(k) e^{ikx},

    sum over x of f_a f_b f_c = N^-4  sum over triangles k1 + k2 + k3 = 0 of F(k1) F(k2) F(k3),

with k1, k2, k3 in a, b, c; the same sum with every F(k) = 1 counts the triangles (Scoccimarro
2000, astro-ph/0004086; Sefusatti et al. 2016, arXiv:1512.07295). The estimate is the mean of
F(k1) F(k2) F(k3) times L^4 / N^6 for a side L, so that the continuous field has <F F F> = L^2 B.
Every ordered choice of k1, k2, k3 counts as a triangle. No annulus goes beyond N / 3 fundamental
modes, from where on triangles would close across the edge of the Fourier grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import fft

Triangles = Sequence[tuple[int, int, int]]

BINS = 10  # annuli of a map with 64 pixels or more a side, about
TINY = 1e-300
ALL_CORES = -1


def edges(n: int) -> np.ndarray:
    """Edges of the annuli of maps with n x n pixels, in units of the fundamental mode.

    From 0.5 in steps of 2 for 64 pixels a side, up to n / 3.

    Raises:
        ValueError: the map is too small to hold two annuli.
    """
    width = max(1, round(n / (3 * BINS)))
    found = np.arange(0.5, n / 3, width)
    if len(found) < 3:
        raise ValueError(f"maps of {n} x {n} pixels are too small for a bispectrum")
    return found


def bispectrum(fields: np.ndarray, triangles: Triangles, box_size: float) -> np.ndarray:
    """Bispectrum of each field.

    Args:
        fields: (batch, N, N), for instance a density contrast.
        triangles: numbers of the annuli of the three sides, from 0.
        box_size: side of the field, Mpc/h.

    Returns:
        (batch, len(triangles)), in (unit of the field)^3 (Mpc/h)^4.
    """
    return _means(_filtered(fields, triangles), triangles) * box_size**4 / fields.shape[-1] ** 6


def normalised(fields: np.ndarray, triangles: Triangles, box_size: float) -> np.ndarray:
    """The same over (P1 P2 P3)^(1/2), with each field's own power in the three annuli.

    Returns:
        (batch, len(triangles)) in Mpc/h; 0 where a field has no power.
    """
    n = fields.shape[-1]
    filtered = _filtered(fields, triangles)
    # Parseval: the sum over x of f_a^2 is N^-2 times that over the annulus of |F|^2.
    power = {
        i: np.einsum("bij,bij->b", f, f) * n**2 / _masks(n)[i].sum() for i, f in filtered.items()
    }
    scale = [np.sqrt(np.prod([power[i] for i in sides], axis=0)) for sides in triangles]
    return _means(filtered, triangles) / np.maximum(np.stack(scale, axis=1), TINY) * box_size


def n_triangles(n: int, triangles: Triangles) -> np.ndarray:
    """Number of ordered closed triangles of each shape, on a grid of n x n pixels."""
    ones = {i: fft.ifft2(_masks(n)[i]).real for sides in triangles for i in sides}
    sums = [np.sum(ones[a] * ones[b] * ones[c]) for a, b, c in triangles]
    return np.rint(np.array(sums) * n**4)


def _filtered(fields: np.ndarray, triangles: Triangles) -> dict[int, np.ndarray]:
    """Fields (batch, N, N) with the modes of one annulus only, for each that has a side in it."""
    n = fields.shape[-1]
    modes = fft.rfft2(np.asarray(fields, np.float64))
    half = n // 2 + 1
    needed = sorted({i for sides in triangles for i in sides})
    return {
        i: fft.irfft2(modes * _masks(n)[i][:, :half], s=(n, n), workers=ALL_CORES) for i in needed
    }


def _means(filtered: dict[int, np.ndarray], triangles: Triangles) -> np.ndarray:
    """Mean of F(k1) F(k2) F(k3) over the triangles of each shape, (batch, len(triangles))."""
    sums = [np.einsum("bij,bij,bij->b", *(filtered[i] for i in sides)) for sides in triangles]
    n = next(iter(filtered.values())).shape[-1]
    return np.stack(sums, axis=1) * n**4 / n_triangles(n, triangles)


@lru_cache(maxsize=8)
def _masks(n: int) -> np.ndarray:
    """Which modes of the full plane each annulus holds, (n_annuli, n, n)."""
    k = fft.fftfreq(n, 1 / n)
    place = np.digitize(np.hypot(k[:, None], k[None]), edges(n)) - 1
    return place == np.arange(len(edges(n)) - 1)[:, None, None]
