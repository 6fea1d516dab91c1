"""Everything that is measured of one posterior on maps whose true parameters are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spurious import bootstrap
from spurious.data.maps import MapSet
from spurious.posteriors.posterior import Posterior
from spurious.posteriors.trained import predict
from spurious.quality import accuracy, coverage

CELLS = 8  # a parameter, over which a design without repeated cosmologies is gathered
FEW = 4  # maps a cosmology; with fewer than this on average a design counts as one of those
SBC_SAMPLES = 99
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Assessment:
    """How accurate and how well calibrated a posterior is.

    Attributes:
        means: posterior means, (n, p).
        stds: posterior standard deviations, (n, p).
        pit: marginal CDFs at the truth, (n, p).
        ranks: simulation-based calibration, of `SBC_SAMPLES` draws, (n, p).
        tarp: joint coverage.
        metrics: of `calibration.metrics`, and `tarp_deviation` and `tarp_p_value`.
        nodes: of `calibration.over_grid`.
        edges: of `calibration.edge`.
    """

    means: np.ndarray
    stds: np.ndarray
    pit: np.ndarray
    ranks: np.ndarray
    tarp: coverage.Tarp
    metrics: dict[str, Any]
    nodes: dict[str, Any]
    edges: dict[str, Any]

    def row(self) -> dict[str, Any]:
        """What a file keeps of it, JSON-able."""
        return {**self.metrics, "nodes": self.nodes, "edges": self.edges}


def assess(posterior: Posterior, test: MapSet, ranges: Ranges, seed: int) -> Assessment:
    """Measure a posterior on test maps.

    Args:
        posterior: maps -> distribution.
        test: maps that it was not trained on.
        ranges: parameter name -> (low, high) of the prior.
        seed: root seed of bootstrap resamples and of draws from the posteriors.
    """
    predicted = predict(posterior, test.maps)
    means, stds = predicted.mean().numpy(), predicted.stddev().numpy()
    metrics = accuracy.metrics(predicted, test.labels, test.names, seed, test.index)
    joint = coverage.tarp(predicted, test.labels, ranges, seed=seed, groups=test.index)
    repeated = len(test) >= FEW * len(np.unique(test.labels, axis=0))
    return Assessment(
        means=means,
        stds=stds,
        pit=coverage.pit(predicted, test.labels, seed=seed),
        ranks=coverage.sbc_ranks(predicted, test.labels, SBC_SAMPLES, seed),
        tarp=joint,
        metrics=metrics | {f"tarp_{name}": value for name, value in joint.summary.items()},
        nodes=accuracy.over_grid(
            means, stds, test.labels, test.names, cells=None if repeated else CELLS
        ),
        edges=accuracy.edge(means, stds, test.labels, ranges, seed, test.index),
    )


def rmse_ratios(
    one: Assessment, other: Assessment, test: MapSet, seed: int
) -> dict[str, dict[str, float]]:
    """RMSE of one posterior over another's on the same maps: parameter -> ratio with interval.

    The maps are resampled together, so that what is hard for both cancels.
    """
    weights = bootstrap.bootstrap_weights(len(test), seed, test.index)
    first, second = ((found.means - test.labels) ** 2 for found in (one, other))

    def ratio(column: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda w: np.sqrt((w @ first[:, column]) / (w @ second[:, column]))

    return {name: bootstrap.interval(ratio(i), weights) for i, name in enumerate(test.names)}
