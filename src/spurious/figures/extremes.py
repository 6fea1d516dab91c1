"""The maps that one perturbation damaged most and least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from spurious.figures.maps import NAMES, contours, image, levels
from spurious.figures.style import colours, handles


def extremes(
    name: str,
    titles: Sequence[str],
    clean: np.ndarray,
    perturbed: np.ndarray,
    posteriors: Sequence[Mapping[str, np.ndarray]],
    axes_values: tuple[np.ndarray, ...],
    truths: np.ndarray,
    box_size: float,
    names: Sequence[str] = NAMES,
) -> Figure:
    """One row per map: the perturbed map, the change, and the posteriors before and after.

    Args:
        name: of the perturbation.
        titles: of each map, (n,).
        clean: (n, N, N) in counts.
        perturbed: the same maps, perturbed.
        posteriors: of each map, "clean" and `name` -> density on the grid.
        axes_values: the grid's values of the parameters that are drawn, two or one.
        truths: their true values, one row a map.
        box_size: side of a map, Mpc/h.
        names: of the parameters that are drawn.
    """
    n = len(titles)
    figure = Figure(figsize=(12, 3.3 * n + 0.6))
    # A layout of fixed margins: one such figure is drawn for every attack, and solving for the
    # margins would take as long as drawing it.
    figure.subplots_adjust(
        left=0.04, right=0.99, top=1 - 0.3 / (3.3 * n), bottom=1.1 / (3.3 * n + 0.6), wspace=0.42,
        hspace=0.35,
    )  # fmt: skip
    panels = figure.subplots(n, 3, squeeze=False)
    shade = colours([name])
    for i, title in enumerate(titles):
        norm = LogNorm(max(1.0, float(clean[i].min())), float(clean[i].max()))
        pattern = perturbed[i] - clean[i]
        limit = max(float(np.abs(pattern).max()), 1e-6)
        rms = f"change (RMS {np.sqrt(np.mean(pattern**2)):.2f} counts)"
        image(panels[i, 0], perturbed[i], title, box_size, norm=norm, unit="counts")
        image(
            panels[i, 1], pattern, rms, box_size, cmap="RdBu_r", vmin=-limit, vmax=limit,
            unit="counts",
        )  # fmt: skip
        contours(panels[i, 2], posteriors[i], axes_values, truths[i], shade, names)
        panels[i, 2].set_title(f"posterior{levels(axes_values)}", fontsize=10)
    figure.legend(handles=handles(shade), loc="lower center", ncols=3, frameon=False)
    return figure
