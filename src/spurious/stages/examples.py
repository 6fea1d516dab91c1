"""Single maps for a reader's eye: their posteriors on a grid and their power spectra."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from spurious import config as cfg
from spurious import figures, spectra
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet

POINTS = 161
MARGIN = 0.15  # of the range of the labels, on either side


def grid(nodes: cfg.Grid) -> tuple[np.ndarray, np.ndarray]:
    """Axes (Omega_m, sigma_8) that cover the labels and a margin beyond them."""
    axes = []
    for axis in (nodes.omega_m, nodes.sigma_8):
        margin = MARGIN * max(axis.stop - axis.start, axis.step)
        axes.append(np.linspace(axis.start - margin, axis.stop + margin, POINTS))
    return axes[0], axes[1]


def densities(
    posterior: Posterior, maps: np.ndarray, axes: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Posterior density of each map on the grid, largest value 1: (n, n_sigma_8, n_omega_m)."""
    distribution = posterior(maps)
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 1, 2).astype(np.float32)
    log_density = distribution.log_prob(points).numpy().T
    log_density -= log_density.max(axis=1, keepdims=True)
    return np.exp(log_density).reshape(len(maps), len(axes[1]), len(axes[0]))


def workflow(
    row: int, clean: MapSet, perturbed: Mapping[str, MapSet], posterior: Posterior, nodes: cfg.Grid
) -> Figure:
    """The paper's Figure 1 for test map `row`."""
    axes = grid(nodes)
    names = ["clean", *perturbed]
    maps = np.stack([clean.maps[row], *(data.maps[row] for data in perturbed.values())])
    density = densities(posterior, maps, axes)
    power = spectra.power(tf.constant(maps), clean.box_size, contrast=True).numpy()
    bins = spectra.bins(maps.shape[-1], clean.box_size)
    return figures.workflow(
        maps[0],
        dict(zip(names[1:], maps[1:], strict=True)),
        dict(zip(names, density, strict=True)),
        axes,
        clean.labels[row],
        dict(zip(names, power, strict=True)),
        bins.k,
        spectra.cosmic_variance(bins.n_modes),
        clean.box_size,
    )


def examples(
    rows: np.ndarray,
    clean: MapSet,
    perturbed: Mapping[str, MapSet],
    posterior: Posterior,
    nodes: cfg.Grid,
) -> Figure:
    """The paper's Figure 2 for the test maps `rows`."""
    axes = grid(nodes)
    sets = {"clean": clean, **perturbed}
    density = {name: densities(posterior, data.maps[rows], axes) for name, data in sets.items()}
    return figures.examples(
        clean.maps[rows],
        [{name: d[i] for name, d in density.items()} for i in range(len(rows))],
        axes,
        clean.labels[rows],
        clean.box_size,
    )
