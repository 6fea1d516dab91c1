"""Figures of single maps: their posteriors on a grid and their power spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from spurious import figures, spectra
from spurious.data.maps import NAMES, MapSet
from spurious.densities.mixtures import marginal
from spurious.posteriors.posterior import Posterior

POINTS = 161
MARGIN = 0.15  # of the range of the labels, on either side
SMALLEST_RANGE = 0.05


def plane(names: Sequence[str]) -> list[int]:
    """Which parameters are drawn: Omega_m and sigma_8 if both are there, else the first two."""
    if set(NAMES) <= set(names):
        return [list(names).index(name) for name in NAMES]
    return list(range(min(len(names), 2)))


def grid(labels: np.ndarray, names: Sequence[str] = NAMES) -> tuple[np.ndarray, ...]:
    """Axes of the parameters that are drawn; they cover the labels (n, p) and a margin."""
    columns = plane(names)
    low, high = labels[:, columns].min(axis=0), labels[:, columns].max(axis=0)
    known = np.isin(np.array(names)[columns], NAMES)  # another's range may be of any size
    least = np.where(known | (low == high), SMALLEST_RANGE, 0)
    margin = MARGIN * np.maximum(high - low, least)
    return tuple(np.linspace(low - margin, high + margin, POINTS, axis=1))


def densities(posterior: Posterior, maps: np.ndarray, axes: tuple[np.ndarray, ...]) -> np.ndarray:
    """Posterior density of each map on the grid, largest value 1, others marginalised.

    Returns:
        (n, n_second, n_first) for the two parameters that are drawn, or (n, n_first) for one.
    """
    distribution = posterior(maps)
    if len(axes) < len(posterior.names):
        distribution = marginal(distribution, plane(posterior.names))
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 1, len(axes)).astype(np.float32)
    log_density = distribution.log_prob(points).numpy().T
    log_density -= log_density.max(axis=1, keepdims=True)
    return np.exp(log_density).reshape(len(maps), *(len(axis) for axis in axes[::-1]))


def _shown(clean: MapSet) -> tuple[np.ndarray, list[str]]:
    """Labels and names of the parameters that are drawn."""
    columns = plane(clean.names)
    return clean.labels[:, columns], [clean.names[column] for column in columns]


def workflow(
    row: int, clean: MapSet, perturbed: Mapping[str, MapSet], posterior: Posterior
) -> Figure:
    """The paper's Figure 1 for test map `row`."""
    axes, (labels, shown) = grid(clean.labels, clean.names), _shown(clean)
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
        labels[row],
        dict(zip(names, power, strict=True)),
        bins.k,
        spectra.cosmic_variance(bins.n_modes),
        clean.box_size,
        shown,
    )


def headline(row: int, clean: MapSet, name: str, perturbed: MapSet, posterior: Posterior) -> Figure:
    """What one perturbation does to test map `row`."""
    axes, (labels, shown) = grid(clean.labels, clean.names), _shown(clean)
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
        labels[row],
        power[1] / power[0] - 1,
        bins.k,
        spectra.cosmic_variance(bins.n_modes),
        clean.box_size,
        shown,
    )


def examples(
    rows: np.ndarray,
    clean: MapSet,
    perturbed: Mapping[str, MapSet],
    posterior: Posterior,
) -> Figure:
    """The paper's Figure 2 for the test maps `rows`."""
    axes, (labels, shown) = grid(clean.labels, clean.names), _shown(clean)
    sets = {"clean": clean, **perturbed}
    density = {name: densities(posterior, data.maps[rows], axes) for name, data in sets.items()}
    return figures.examples(
        clean.maps[rows],
        [{name: d[i] for name, d in density.items()} for i in range(len(rows))],
        axes,
        labels[rows],
        clean.box_size,
        shown,
    )


def extremes(
    name: str,
    titles: Sequence[str],
    rows: np.ndarray,
    clean: MapSet,
    perturbed: MapSet,
    posterior: Posterior,
    axes: tuple[np.ndarray, ...],
) -> Figure:
    """Single maps that one perturbation damaged, with one title for each of `rows`."""
    labels, shown = _shown(clean)
    before, after = (densities(posterior, data.maps[rows], axes) for data in (clean, perturbed))
    return figures.extremes(
        name,
        titles,
        clean.maps[rows],
        perturbed.maps[rows],
        [{"clean": b, name: a} for b, a in zip(before, after, strict=True)],
        axes,
        labels[rows],
        clean.box_size,
        shown,
    )
