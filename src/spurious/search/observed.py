"""Statistics of maps that fences compare, with exact gradients.

Of the fences of detectability, `pdf` looks at the share of pixels above each of `QUANTILES` of
ln(density / mean of the map), with steps softened by `SOFTNESS`; `scattering` at the coefficients
of `spurious.detection.scattering`. d'^2 = d^T C^-1 d is the squared change d of these statistics in
units of their scatter C from map to map at a fixed cosmology: the covariance of what a quadratic in
the parameters leaves, shrunk as by Chen et al. (2010, IEEE Trans. Signal Process. 58, 5016; OAS). A
linear detector that knows the cosmology and the change tells one such map from a clean one with
AUROC = Phi(d' / sqrt(2)): 0.64 for d' = 0.5, 0.76 for 1, 0.92 for 2.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from spurious import spectra
from spurious.lazy import tf
from spurious.perturbations.base import like

QUANTILES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.998)  # of the clean pixels
SOFTNESS = 0.1  # in ln(density)
EMPTY = 1e-2  # of the mean: densities below it are all the same to the PDF


class Observed:
    """Statistics of a set of maps, each computed at most once.

    Args:
        maps: (batch, N, N) in counts.
        box_size: side of a map, Mpc/h.
        groups: number of the simulation that each map is of, (batch,); default: one a map. Only
            those of the clean maps are asked for.
        labels: true parameters (batch, p), which `pdf` and `scattering` need of the clean maps.
    """

    def __init__(
        self,
        maps: tf.Tensor,
        box_size: float,
        groups: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        self.maps = maps
        self.box_size = box_size
        numbers = np.arange(maps.shape[0]) if groups is None else np.asarray(groups)
        self.simulation = np.unique(numbers, return_inverse=True)[1]
        self.labels = labels

    @cached_property
    def contrast_power(self) -> tf.Tensor:
        """Spectra of the contrast, (batch, n_bins)."""
        return spectra.power(self.maps, self.box_size, contrast=True)

    @cached_property
    def raw_power(self) -> tf.Tensor:
        """Spectra of the counts, (batch, n_bins)."""
        return spectra.power(self.maps, self.box_size, contrast=False)

    @cached_property
    def means(self) -> tf.Tensor:
        """Mean of each map, (batch,) in counts."""
        return tf.reduce_mean(self.maps, axis=(1, 2))

    @property
    def cosmic_variance(self) -> tf.Tensor:
        """Relative, of one map's bins: (n_bins,)."""
        n_modes = spectra.bins(self.maps.shape[-1], self.box_size).n_modes
        return like(spectra.cosmic_variance(n_modes), self.maps)

    @cached_property
    def log_density(self) -> tf.Tensor:
        """The logarithm of each pixel over the mean of its map, (batch, pixels)."""
        shares = self.maps / self.means[:, None, None]
        return tf.reshape(
            tf.math.log(tf.maximum(shares, like(EMPTY, shares))), (shares.shape[0], -1)
        )

    @cached_property
    def edges(self) -> np.ndarray:
        """The densities above which the PDF counts, in `log_density`: (len(QUANTILES),)."""
        return np.quantile(np.asarray(self.log_density, np.float64), QUANTILES)

    def above(self, edges: np.ndarray) -> tf.Tensor:
        """The soft share of each map's pixels above each edge, (batch, len(edges))."""
        field = self.log_density
        shares = [
            tf.reduce_mean(tf.sigmoid((field - like(edge, field)) / like(SOFTNESS, field)), axis=1)
            for edge in edges
        ]
        return tf.stack(shares, axis=1)

    @cached_property
    def scattering(self) -> tf.Tensor:
        """Logarithms of the scattering coefficients, (batch, d)."""
        from spurious.detection.scattering import scattering

        return scattering(self.maps)

    @cached_property
    def pdf_whitening(self) -> np.ndarray:
        """See `whitening`; of the PDF."""
        return self._whitening("pdf", self.above(self.edges))

    @cached_property
    def scattering_whitening(self) -> np.ndarray:
        """See `whitening`; of the scattering coefficients."""
        return self._whitening("scattering", self.scattering)

    def _whitening(self, name: str, statistics: tf.Tensor) -> np.ndarray:
        if self.labels is None:
            raise ValueError(f"the fence {name} needs the true parameters of the maps")
        return whitening(np.asarray(statistics, np.float64), self.labels)


def whitening(statistics: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """W (d, d) with W W^T the inverse of the statistics' scatter at fixed parameters.

    Args:
        statistics: of each map, (n, d).
        labels: its parameters, (n, p).

    Raises:
        ValueError: fewer maps than what the quadratic in the parameters takes, and d.
    """
    count, size = statistics.shape
    scaled = (labels - labels.mean(0)) / np.maximum(labels.std(0), 1e-12)
    pairs = np.triu_indices(scaled.shape[1])
    terms = np.column_stack([np.ones(count), scaled, scaled[:, pairs[0]] * scaled[:, pairs[1]]])
    free = count - terms.shape[1]
    if free <= size:
        raise ValueError(f"{count} maps are too few for the scatter of {size} statistics")
    left = statistics - terms @ np.linalg.lstsq(terms, statistics, rcond=None)[0]
    scale = np.sqrt(np.sum(left**2, axis=0) / free)
    correlation = (left / scale).T @ (left / scale) / free
    squared, trace = np.sum(correlation**2), np.trace(correlation)
    share = (1 - 2 / size) * squared + trace**2
    share /= (free + 1 - 2 / size) * (squared - trace**2 / size)
    share = min(share, 1.0)
    shrunk = (1 - share) * correlation + share * trace / size * np.eye(size)
    root: np.ndarray = np.linalg.cholesky(np.linalg.inv(shrunk)) / scale[:, None]
    return root
