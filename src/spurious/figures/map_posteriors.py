"""Figures of single maps: their posteriors on a grid and their power spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from spurious import figures, spectra
from spurious.data.maps import MapSet
from spurious.posteriors.posterior import Posterior

POINTS = 161
MARGIN = 0.15  # of the range of the labels, on either side
SMALLEST_RANGE = 0.05


def grid(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes (Omega_m, sigma_8) that cover the labels (n, 2) and a margin beyond them."""
    low, high = labels.min(axis=0), labels.max(axis=0)
    margin = MARGIN * np.maximum(high - low, SMALLEST_RANGE)
    omega_m, sigma_8 = np.linspace(low - margin, high + margin, POINTS, axis=1)
    return omega_m, sigma_8


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
    row: int, clean: MapSet, perturbed: Mapping[str, MapSet], posterior: Posterior
) -> Figure:
    """The paper's Figure 1 for test map `row`."""
    axes = grid(clean.labels)
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


def headline(row: int, clean: MapSet, name: str, perturbed: MapSet, posterior: Posterior) -> Figure:
    """What one perturbation does to test map `row`."""
    axes = grid(clean.labels)
    maps = np.stack([clean.maps[row], perturbed.maps[row]])
    before, after = densities(posterior, maps, axes)
    power = spectra.power(tf.constant(maps), clean.box_size, contrast=True).numpy()
    bins = spectra.bins(maps.shape[-1], clean.box_size)
    return figures.headline(
        maps[0],
        maps[1],
        name,
        {"clean": before, name: after},
        axes,
        clean.labels[row],
        power[1] / power[0] - 1,
        bins.k,
        spectra.cosmic_variance(bins.n_modes),
        clean.box_size,
    )


def examples(
    rows: np.ndarray,
    clean: MapSet,
    perturbed: Mapping[str, MapSet],
    posterior: Posterior,
) -> Figure:
    """The paper's Figure 2 for the test maps `rows`."""
    axes = grid(clean.labels)
    sets = {"clean": clean, **perturbed}
    density = {name: densities(posterior, data.maps[rows], axes) for name, data in sets.items()}
    return figures.examples(
        clean.maps[rows],
        [{name: d[i] for name, d in density.items()} for i in range(len(rows))],
        axes,
        clean.labels[rows],
        clean.box_size,
    )


def extremes(
    name: str,
    titles: Sequence[str],
    rows: np.ndarray,
    clean: MapSet,
    perturbed: MapSet,
    posterior: Posterior,
    axes: tuple[np.ndarray, np.ndarray],
) -> Figure:
    """Single maps that one perturbation damaged, with one title for each of `rows`."""
    before, after = (densities(posterior, data.maps[rows], axes) for data in (clean, perturbed))
    return figures.extremes(
        name,
        titles,
        clean.maps[rows],
        perturbed.maps[rows],
        [{"clean": b, name: a} for b, a in zip(before, after, strict=True)],
        axes,
        clean.labels[rows],
        clean.box_size,
    )
