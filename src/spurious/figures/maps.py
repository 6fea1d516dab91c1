"""Maps, what perturbations add to them, and the posteriors inferred from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from spurious.figures.spectra import power_changes, power_spectra
from spurious.figures.style import CLEAN, LABELS, LOG_TICKS, TRUTH, colours, handles, pretty

NAMES = tuple(LABELS)


def workflow(
    clean: np.ndarray,
    perturbed: Mapping[str, np.ndarray],
    posteriors: Mapping[str, np.ndarray],
    axes_values: tuple[np.ndarray, ...],
    truth: np.ndarray,
    spectra: Mapping[str, np.ndarray],
    k: np.ndarray,
    cosmic_variance: np.ndarray,
    box_size: float,
    names: Sequence[str] = NAMES,
) -> Figure:
    """The paper's Figure 1 for one map: clean map + pattern = perturbed map, posteriors, P(k).

    Args:
        clean: map (N, N) in counts.
        perturbed: name -> map (N, N) in counts.
        posteriors: "clean" and each name -> density on the grid, shape (n_second, n_first).
        axes_values: the grid's values of the parameters that are drawn, two or one.
        truth: their true values.
        spectra: "clean" and each name -> P(k) of the density contrast, (Mpc/h)^2.
        k: wavenumbers of the bins, h/Mpc.
        cosmic_variance: relative standard deviation of one map's P(k) in each bin.
        box_size: side of the map, Mpc/h.
        names: of the parameters that are drawn.
    """
    figure = Figure(figsize=(13, 3.1 * len(perturbed) + 3.9), layout="constrained")
    grid = figure.add_gridspec(len(perturbed) + 1, 12)
    shade = colours(list(perturbed))
    norm = LogNorm(max(1.0, float(clean.min())), float(clean.max()))
    for row, (name, map_) in enumerate(perturbed.items()):
        images = [figure.add_subplot(grid[row, 4 * i : 4 * i + 4]) for i in range(3)]
        image(images[0], clean, "clean map", box_size, norm=norm, unit="counts")
        pattern = map_ - clean
        limit = max(float(np.abs(pattern).max()), 1e-6)
        title = f"+ {pretty(name)} (RMS {np.sqrt(np.mean(pattern**2)):.2f} counts)"
        image(
            images[1],
            pattern,
            title,
            box_size,
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            unit="counts",
        )
        image(images[2], map_, "= perturbed map", box_size, norm=norm, unit="counts")
    last = [figure.add_subplot(grid[-1, 4 * i : 4 * i + 4]) for i in range(3)]
    contours(last[0], posteriors, axes_values, truth, shade, names)
    figure.legend(handles=handles(shade), loc="outside lower center", ncols=9, frameon=False)
    last[0].set_title(f"inferred posteriors{levels(axes_values)}")
    power_spectra(last[1], spectra, k, cosmic_variance, shade)
    changes = {name: spectra[name] / spectra["clean"] - 1 for name in perturbed}
    power_changes(last[2], changes, k, cosmic_variance, shade)
    last[2].set_title("change of its power spectrum")
    return figure


def headline(
    clean: np.ndarray,
    perturbed: np.ndarray,
    name: str,
    posteriors: Mapping[str, np.ndarray],
    axes_values: tuple[np.ndarray, ...],
    truth: np.ndarray,
    change: np.ndarray,
    k: np.ndarray,
    cosmic_variance: np.ndarray,
    box_size: float,
    names: Sequence[str] = NAMES,
) -> Figure:
    """One perturbation of one map: the map, the change, the posteriors, the change of P(k).

    Args:
        clean: map (N, N) in counts.
        perturbed: the same map, perturbed.
        name: of the perturbation.
        posteriors: "clean" and `name` -> density on the grid, shape (n_second, n_first).
        axes_values: the grid's values of the parameters that are drawn, two or one.
        truth: their true values.
        change: relative change of P(k) of the contrast in each bin.
        k: wavenumbers of the bins, h/Mpc.
        cosmic_variance: relative standard deviation of one map's P(k) in each bin.
        box_size: side of the map, Mpc/h.
        names: of the parameters that are drawn.
    """
    figure = Figure(figsize=(14.5, 3.7), layout="constrained")
    panels = figure.subplots(1, 4)
    shade = colours([name])
    norm = LogNorm(max(1.0, float(clean.min())), float(clean.max()))
    image(panels[0], clean, "a test map", box_size, norm=norm, unit="counts")
    pattern = perturbed - clean
    limit = max(float(np.abs(pattern).max()), 1e-6)
    title = f"the change (RMS {np.sqrt(np.mean(pattern**2)):.2f} counts)"
    style: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    image(panels[1], pattern, title, box_size, unit="counts", **style)
    contours(panels[2], posteriors, axes_values, truth, shade, names)
    panels[2].set_title(f"posterior{levels(axes_values)}", fontsize=10)
    power_changes(panels[3], {name: change}, k, cosmic_variance, shade)
    panels[3].set_title("change of its power spectrum", fontsize=10)
    figure.legend(handles=handles(shade), loc="outside lower center", ncols=3, frameon=False)
    return figure


def examples(
    maps: np.ndarray,
    posteriors: Sequence[Mapping[str, np.ndarray]],
    axes_values: tuple[np.ndarray, ...],
    truths: np.ndarray,
    box_size: float,
    names: Sequence[str] = NAMES,
) -> Figure:
    """The paper's Figure 2: test maps (n, N, N) and how each perturbation moves their posteriors.

    `posteriors[i]` maps "clean" and each perturbation's name to a density on the grid of the
    parameters of these names; the green circle is the truth.
    """
    n = len(maps)
    figure = Figure(figsize=(4 * n, 7.6), layout="constrained")
    axes = figure.subplots(2, n, squeeze=False)
    shade = colours([name for name in posteriors[0] if name != "clean"])
    for i in range(n):
        norm = LogNorm(max(1.0, float(maps[i].min())), float(maps[i].max()))
        title = ", ".join(_value(p, v) for p, v in zip(names, truths[i], strict=True))
        image(axes[0, i], maps[i], title, box_size, norm=norm, unit="counts")
        contours(axes[1, i], posteriors[i], axes_values, truths[i], shade, names)
    figure.legend(handles=handles(shade), loc="outside lower center", ncols=9, frameon=False)
    return figure


def preview(maps: np.ndarray, labels: np.ndarray, box_size: float) -> Figure:
    """Simulated maps (n, N, N) in counts on one colour scale; titles from `labels` (n, 2)."""
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(3.5 * columns + 1.5, 3.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    norm = LogNorm(low := max(1.0, float(maps.min())), float(maps.max()))
    for axes, map_, label in zip(panels, maps.clip(low), labels, strict=False):
        shown = axes.imshow(map_.T, origin="lower", extent=(0, box_size, 0, box_size), norm=norm)
        values = zip(LABELS, label, strict=True)
        axes.set_title(", ".join(f"{LABELS[name]} = {value:.3g}" for name, value in values))
        axes.set(xlabel="Mpc/h", ylabel="Mpc/h")
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    unit = "projected particle count per pixel"
    _plain_ticks(figure.colorbar(shown, ax=list(panels), label=unit, shrink=0.8))
    return figure


def _value(name: str, value: float) -> str:
    return f"{pretty(name)} = {value:{'.2f' if name in LABELS else '.3g'}}"


def contours(
    axes: Axes,
    posteriors: Mapping[str, np.ndarray],
    axes_values: tuple[np.ndarray, ...],
    truth: np.ndarray,
    shade: Mapping[str, str],
    names: Sequence[str] = NAMES,
) -> None:
    """68 and 95 % highest-density contours of each posterior, and the truth as a green circle.

    Of a single parameter, the densities themselves.
    """
    if len(axes_values) == 1:
        _curves(axes, posteriors, axes_values[0], truth[0], shade, names[0])
        return
    for name, density in posteriors.items():
        heights = credible_levels(density, (0.95, 0.68))
        axes.contour(*axes_values, density, levels=heights, colors=shade.get(name, CLEAN))
    axes.plot(*truth, "o", color=TRUTH, markersize=9, fillstyle="none", markeredgewidth=2)
    axes.set(xlabel=pretty(names[0]), ylabel=pretty(names[1]))


def _curves(
    axes: Axes,
    posteriors: Mapping[str, np.ndarray],
    values: np.ndarray,
    truth: float,
    shade: Mapping[str, str],
    parameter: str,
) -> None:
    for name, density in posteriors.items():
        axes.plot(values, density, color=shade.get(name, CLEAN))
    axes.plot(truth, 0, "o", color=TRUTH, markersize=9, fillstyle="none", markeredgewidth=2)
    axes.set(xlabel=pretty(parameter), ylabel="density over its largest")


def levels(axes_values: Sequence[np.ndarray]) -> str:
    """What the contours hold, for a title; curves of one parameter hold nothing."""
    return ", 68 and 95 %" if len(axes_values) == 2 else ""


def credible_levels(density: np.ndarray, masses: Sequence[float]) -> list[float]:
    """Density levels whose superlevel sets hold the given masses, in increasing order of level."""
    ordered = np.sort(density, axis=None)[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    levels = [float(ordered[min(int(np.searchsorted(mass, m)), ordered.size - 1)]) for m in masses]
    # A posterior narrower than a grid cell would give two equal levels, which contour refuses.
    return [levels[0], *[max(b, float(np.nextafter(a, np.inf))) for a, b in pairwise(levels)]]


def image(
    axes: Axes, map_: np.ndarray, title: str, box_size: float, *, unit: str, **style: Any
) -> None:
    """One map (N, N) with its scale and a bar that names its `unit`; `style` as for `imshow`."""
    shown = axes.imshow(map_.T, origin="lower", extent=(0, box_size, 0, box_size), **style)
    axes.set_title(title, fontsize=10)
    axes.set(xlabel="Mpc/h", ylabel="Mpc/h")
    bar = axes.figure.colorbar(shown, ax=axes, label=unit, fraction=0.046, pad=0.03)
    if isinstance(shown.norm, LogNorm):
        _plain_ticks(bar)


def _plain_ticks(bar: Colorbar) -> None:
    """Ticks at 1, 2, 5, 10, ... in plain numbers, for a logarithmic scale."""
    low, high = bar.ax.get_ylim()
    bar.set_ticks([tick for tick in LOG_TICKS if low <= tick <= high])
    bar.ax.yaxis.set_major_formatter(ScalarFormatter())
    bar.ax.minorticks_off()
