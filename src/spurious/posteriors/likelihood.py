"""The classical estimator: a Gaussian likelihood of the power spectrum, as a Keras model.

The data vector is ln P(k) of a map's contrast in all bins, its mean a polynomial in the parameters
and its covariance that of the training simulations (`spurious.posteriors.emulator`). The prior is
flat in the parameters' ranges. The posterior is tabulated on a grid, so that one `.keras` file
holds all of it and gradients with respect to the maps are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from spurious import spectra
from spurious.data.maps import Standardiser
from spurious.densities.grid import cell_centres
from spurious.errors import UserError
from spurious.networks.grid import MAX_PARAMETERS, GridHead
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.layers import LogPower, log_power
from spurious.networks.power_spectrum import POWER
from spurious.networks.preset import counts_of
from spurious.posteriors.emulator import Emulator, emulate

LIKELIHOOD = "likelihood"


@keras.saving.register_keras_serializable(package="spurious")
class GaussianLikelihood(keras.layers.Layer):
    """Data vectors (batch, b) to ln N(d | mean of a cell, C) for each cell, (batch, n_cells).

    Up to a constant a map, -(d - mean)^T C^-1 (d - mean) / 2. With whitened data y = L^T (d - c)
    and means m = L^T (mean - c), for C^-1 = L L^T and any c, that is y . m - m . m / 2: one matrix
    product for all maps and cells. Entries of the data beyond the first b are not used.

    Args:
        n_cells: number of cells.
        n_bins: b.
    """

    def __init__(self, n_cells: int, n_bins: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_cells = n_cells
        self.n_bins = n_bins

    def build(self, input_shape: Any) -> None:
        """Make the weights, which `tabulate` fills."""
        shapes = {
            "centre": (self.n_bins,),
            "whitening": (self.n_bins, self.n_bins),
            "means": (self.n_cells, self.n_bins),
        }
        for name, shape in shapes.items():
            weight = self.add_weight(shape=shape, name=name, trainable=False, initializer="zeros")
            setattr(self, name, weight)

    def tabulate(self, means: np.ndarray, precision: np.ndarray) -> None:
        """Set the mean of each cell (n_cells, b) and the inverse covariance (b, b)."""
        centre = means.mean(axis=0)
        whitening = np.linalg.cholesky(precision)
        self.centre.assign(centre)
        self.whitening.assign(whitening)
        # About the centre, so that float32 loses no digits to a common offset.
        self.means.assign((means - centre) @ whitening)

    def call(self, data: Any) -> Any:
        """The log likelihood of each cell, up to a constant a map."""
        whitened = ops.matmul(data[:, : self.n_bins] - self.centre, self.whitening)
        return ops.matmul(whitened, ops.transpose(self.means)) - 0.5 * ops.sum(self.means**2, -1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "n_cells": self.n_cells, "n_bins": self.n_bins}


def fit(
    maps: np.ndarray,
    labels: np.ndarray,
    ranges: Mapping[str, Sequence[float]],
    standardiser: Standardiser,
    box_size: float,
    degree: int | None = None,
    cells: int | Sequence[int] = 64,
    k_max: float | None = None,
) -> keras.Model:
    """The posterior from the power spectrum of each map.

    Args:
        maps: of the training simulations, in counts, (n, N, N). Maps of one simulation along
            several axes count as several; the covariance then has fewer degrees of freedom than
            its correction assumes.
        labels: their parameters, (n, p), p at most 3.
        ranges: parameter name -> (low, high) of the flat prior, in the order of the labels.
        standardiser: the model's first layer, which says in what unit budgets are given; undone
            before the spectrum.
        box_size: side of a map, Mpc/h.
        degree: of the polynomial mean; by default chosen by cross-validation.
        cells: of the grid, along each parameter, or along all.
        k_max: use only bins up to this mean |k|, h/Mpc; by default all.

    Returns:
        A model from maps (batch, N, N) in counts to the output of its `GridHead`.

    Raises:
        UserError: there are too few simulations; k_max is below the first bin; p is above 3.
    """
    summaries = log_power(maps, box_size)
    n_bins = _n_bins(maps.shape[-1], box_size, k_max)
    counts, x = counts_of(maps.shape[-1], standardiser)
    x = LogPower(box_size, dtype="float32", name=POWER)(x)
    outputs = _posterior(x, summaries[:, :n_bins], labels, ranges, degree, cells)
    return keras.Model(counts, outputs, name="likelihood")


def fit_summaries(
    summaries: np.ndarray,
    labels: np.ndarray,
    ranges: Mapping[str, Sequence[float]],
    degree: int | None = None,
    cells: int | Sequence[int] = 64,
) -> keras.Model:
    """The same from any data vectors (n, b): a model from (batch, b) to a `GridHead`'s output."""
    x = keras.Input((summaries.shape[1],), name="summaries")
    outputs = _posterior(x, summaries, labels, ranges, degree, cells)
    return keras.Model(x, outputs, name="likelihood")


def _posterior(
    x: Any,
    summaries: np.ndarray,
    labels: np.ndarray,
    ranges: Mapping[str, Sequence[float]],
    degree: int | None,
    cells: int | Sequence[int],
) -> Any:
    """The likelihood of `summaries` and the head, put on top of `x`."""
    if len(ranges) > MAX_PARAMETERS:
        raise UserError(
            f"{len(ranges)} parameters ({', '.join(ranges)}) are too many for a grid: "
            f"at most {MAX_PARAMETERS}"
        )
    grid = GridHead(cells=(cells,) if isinstance(cells, int) else tuple(cells))
    head = HeadLayer(ranges, grid, dtype="float32", name=HEAD)
    box = list(head.ranges.values())
    fitted: Emulator = emulate(summaries, labels, box, degree)
    n_cells, n_bins = head.n_features, summaries.shape[1]
    layer = GaussianLikelihood(n_cells, n_bins, dtype="float32", name=LIKELIHOOD)
    features = layer(x)
    layer.tabulate(fitted.mean(cell_centres(box, grid.along(len(box)))), fitted.precision)
    return head(features)


def _n_bins(n: int, box_size: float, k_max: float | None) -> int:
    """How many bins of maps with n x n pixels have a mean |k| up to `k_max`."""
    k = spectra.bins(n, box_size).k
    if k_max is None:
        return len(k)
    if k_max < k[0]:
        raise UserError(f"k_max = {k_max}: must be at least {k[0]:.4f} h/Mpc, the first bin")
    return int(np.sum(k <= k_max))
