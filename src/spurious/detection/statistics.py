"""Standard statistics of maps, with which a survey would notice that something is wrong.

All see the density contrast of each map over its own mean, because a survey does not know the mean
density better than from its own map: a common factor on all counts changes none of them. None
changes when a map is rolled, rotated by 90 degrees or flipped.

Counts of pixels and of peaks enter through their square root, whose variance hardly depends on the
mean (Bartlett 1936, J. R. Stat. Soc. Suppl. 3, 68), so that one covariance can hold for all
cosmologies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

from spurious import spectra
from spurious.detection import bispectrum, minkowski, scattering
from spurious.networks.layers import log_power

# Cumulative shares at which the bins of the one-point PDF and of the peaks' heights end.
PDF_QUANTILES = (0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.99, 0.997)
PEAK_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
THRESHOLDS = tuple(np.arange(-2.0, 2.01, 0.5))
SMOOTHING = 1.0  # pixels
LOWEST = 1e-3  # densities in units of the mean below this count as this: a logarithm must be finite
BATCH = 64  # maps at a time: more would not fit into the processor's caches


class Statistic(Protocol):
    """A summary of maps."""

    @property
    def axis(self) -> np.ndarray:
        """What its d entries stand at, (d,)."""
        ...

    @property
    def axis_label(self) -> str:
        """What that is, with its unit."""
        ...

    @property
    def label(self) -> str:
        """What the entries are, with their unit."""
        ...

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """Summarise maps (n, N, N) in counts, each on its own: (n, d) float64."""
        ...


@dataclass(frozen=True)
class LogPower:
    """ln P(k) of the contrast in the annuli of `spurious.spectra`.

    Args:
        n: pixels a side.
        box_size: side of the maps, Mpc/h.
    """

    n: int
    box_size: float

    axis_label = "k [h/Mpc]"
    label = "ln P [(Mpc/h)^2]"

    @property
    def axis(self) -> np.ndarray:
        """Mean |k| of each annulus, h/Mpc."""
        return spectra.bins(self.n, self.box_size).k

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """See `Statistic`."""
        return log_power(np.asarray(maps), self.box_size).astype(np.float64)


@dataclass(frozen=True)
class Pdf:
    """One-point PDF: square root of the share of pixels in bins of ln(1 + delta).

    The first and the last bin are open. The last is left out: all shares sum to one.

    Args:
        axis: the bins' upper ends, rising, (d,).
    """

    axis: np.ndarray

    axis_label = "ln(1 + delta), upper end of the bin"
    label = "square root of the share of pixels"

    @classmethod
    def fit(cls, maps: np.ndarray) -> Pdf:
        """With bins that hold fixed shares of the pixels of clean maps."""
        return cls(_quantiles(log_density(maps).ravel(), PDF_QUANTILES))

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """See `Statistic`."""
        values = np.concatenate([log_density(part) for part in _batches(maps)])
        counts = _counts(values.reshape(len(values), -1), self.axis)
        return np.sqrt(counts[:, :-1] / values[0].size)


@dataclass(frozen=True)
class Peaks:
    """Peak counts: square root of the number of local maxima in bins of height, ln(1 + delta).

    A local maximum is denser than each of its 8 neighbours; the box is periodic. The first and the
    last bin are open.

    Args:
        edges: between the bins, rising, (d - 1,).
    """

    edges: np.ndarray

    axis_label = "ln(1 + delta) of the peak, lower end of the bin"
    label = "square root of the number of peaks"

    @property
    def axis(self) -> np.ndarray:
        """Lower ends of the bins; the first is -inf."""
        return np.concatenate([[-np.inf], self.edges])

    @classmethod
    def fit(cls, maps: np.ndarray) -> Peaks:
        """With bins that hold fixed shares of the peaks of clean maps."""
        heights = log_density(maps)[local_maxima(maps)]
        return cls(_quantiles(heights, PEAK_QUANTILES))

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """See `Statistic`."""
        parts = []
        for part in _batches(maps):
            heights = np.where(local_maxima(part), log_density(part), np.nan)
            parts.append(_counts(heights.reshape(len(part), -1), self.edges))
        return np.sqrt(np.concatenate(parts))


@dataclass(frozen=True)
class Bispectrum:
    """Normalised bispectrum of the contrast, B / (P1 P2 P3)^(1/2), of one shape of triangles.

    For a Gaussian field its variance is L^2 / n_triangles times 1, 2 or 6 and depends on nothing
    else. See `spurious.detection.bispectrum`.

    Args:
        n: pixels a side.
        box_size: side of the maps, Mpc/h.
        squeezed: one side in the lowest annulus and two equal longer ones, instead of three equal.
    """

    n: int
    box_size: float
    squeezed: bool

    axis_label = "k of the (two) longer side(s) [h/Mpc]"
    label = "B / sqrt(P1 P2 P3) [Mpc/h]"

    @property
    def triangles(self) -> list[tuple[int, int, int]]:
        """Numbers of the annuli of the three sides."""
        count = len(bispectrum.edges(self.n)) - 1
        if self.squeezed:
            return [(0, i, i) for i in range(1, count)]
        return [(i, i, i) for i in range(count)]

    @property
    def axis(self) -> np.ndarray:
        """Middle of the annulus of the longest side, h/Mpc."""
        edges = bispectrum.edges(self.n)
        middle = (edges[1:] + edges[:-1]) / 2 * 2 * np.pi / self.box_size
        return middle[[sides[2] for sides in self.triangles]]

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """See `Statistic`."""
        parts = (contrast(part) for part in _batches(maps))
        return np.concatenate(
            [bispectrum.normalised(part, self.triangles, self.box_size) for part in parts]
        )


@dataclass(frozen=True)
class Minkowski:
    """Minkowski functionals V0, V1, V2 of excursion sets, all thresholds of one after another.

    Of the logarithm of the density smoothed with a Gaussian of 1 pixel, standardised map by map:
    the thresholds are standard deviations from the mean. See `spurious.detection.minkowski`.
    """

    axis = np.tile(THRESHOLDS, 3)
    axis_label = "threshold [standard deviations], for V0, V1 and V2"
    label = "V0 [1], V1 [1/pixel], V2 [1/pixel^2]"

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """See `Statistic`."""
        return np.concatenate([self._summary(part) for part in _batches(maps)])

    @staticmethod
    def _summary(maps: np.ndarray) -> np.ndarray:
        smooth = ndimage.gaussian_filter(1 + contrast(maps), (0, SMOOTHING, SMOOTHING), mode="wrap")
        field = np.log(np.maximum(smooth, LOWEST))
        standard = minkowski.standardised(field)
        return minkowski.functionals(standard, np.array(THRESHOLDS)).reshape(len(maps), -1)


@dataclass(frozen=True)
class Scattering:
    """Logarithms of the scattering coefficients of ln(1 + delta), first and second order.

    See `spurious.detection.scattering`.

    Args:
        n: pixels a side.
    """

    n: int

    axis_label = "scale of the (narrower) wavelet [pixel]"
    label = "ln S1 and ln(S2 / S1)"

    @property
    def axis(self) -> np.ndarray:
        """2^j of the first wavelet."""
        return np.array([2.0 ** entry[0] for entry in scattering.coefficients(self.n)])

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """See `Statistic`."""
        return scattering.in_batches(maps)


def standard(maps: np.ndarray, box_size: float) -> dict[str, Statistic]:
    """All statistics by name.

    Args:
        maps: clean maps (n, N, N) in counts, from which the bins of densities are taken.
        box_size: side of the maps, Mpc/h.
    """
    n = maps.shape[-1]
    return {
        "log_power": LogPower(n, box_size),
        "pdf": Pdf.fit(maps),
        "peaks": Peaks.fit(maps),
        "equilateral": Bispectrum(n, box_size, squeezed=False),
        "squeezed": Bispectrum(n, box_size, squeezed=True),
        "minkowski": Minkowski(),
        "scattering": Scattering(n),
    }


def contrast(maps: np.ndarray) -> np.ndarray:
    """Density contrast of maps (n, N, N) over the mean of each, float64."""
    maps = np.asarray(maps, np.float64)
    return maps / maps.mean(axis=(1, 2), keepdims=True) - 1


def log_density(maps: np.ndarray) -> np.ndarray:
    """ln(1 + delta) of maps (n, N, N), float64; not below ln(0.001)."""
    return np.log(np.maximum(1 + contrast(maps), LOWEST))


def local_maxima(maps: np.ndarray) -> np.ndarray:
    """Which pixels of maps (n, N, N) are above each of their 8 neighbours, in a periodic box."""
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    higher = np.ones(maps.shape, bool)
    for shift in shifts:
        higher &= maps > np.roll(maps, shift, axis=(1, 2))
    return higher


def _quantiles(values: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Distinct quantiles: where many values are equal, bins without width are left out."""
    return np.unique(np.quantile(values, shares))


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Numbers of values (n, m) in each bin, (n, len(edges) + 1); NaN is in none."""
    rows, n_bins = len(values), len(edges) + 1
    place = np.digitize(values, edges) + n_bins * np.arange(rows)[:, None]
    counts = np.bincount(place[~np.isnan(values)], minlength=rows * n_bins)
    return counts.reshape(rows, n_bins).astype(np.float64)


def _batches(maps: np.ndarray) -> Iterator[np.ndarray]:
    return (maps[start : start + BATCH] for start in range(0, len(maps), BATCH))
