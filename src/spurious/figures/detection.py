"""Who would notice: what `spurious.detection` found, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spurious.figures.style import pretty

TITLES = {
    "auroc_known": "AUROC, perturbation known",
    "auroc_anomaly": "AUROC, looking for anything odd",
    "p_value": "p-value, half of the maps",
}
LABELS = {
    "log_power": "P(k)",
    "pdf": "PDF",
    "peaks": "peaks",
    "equilateral": "bispectrum, equilateral",
    "squeezed": "bispectrum, squeezed",
    "minkowski": "Minkowski",
    "mmd": "MMD, all together",
}
NOTICED = 0.01  # p-values below are in bold
SMALLEST = 1e-3  # p-values below have the same colour


def detection(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Perturbations against statistics: AUROC for those who know the perturbation or not, p-values.

    Below 0.5, an AUROC has the colour of 0.5. P-values below 0.01 are in bold.

    Args:
        rows: what `spurious.detection.Detector.row` gave, by name of the perturbation.
    """
    (first, *_) = rows.values()
    columns = {
        kind: [name for name, cell in first.items() if isinstance(cell, Mapping) and kind in cell]
        for kind in TITLES
    }
    figure = Figure(figsize=(4 + 0.52 * sum(map(len, columns.values())), 2.6 + 0.34 * len(rows)),
                    layout="constrained")  # fmt: skip
    panels = figure.subplots(
        1, 3, sharey=True, width_ratios=[len(names) for names in columns.values()]
    )
    for axes, (kind, names) in zip(panels, columns.items(), strict=True):
        cells = [[row[name][kind] for name in names] for row in rows.values()]
        _heat_map(axes, *(_p_value if kind == "p_value" else _auroc)(cells))
        labels = [LABELS.get(name, pretty(name)) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_title(TITLES[kind], fontsize=10)
    panels[0].set_yticks(range(len(rows)), [pretty(name) for name in rows])
    return figure


def _auroc(cells: Sequence[Sequence[Any]]) -> tuple[np.ndarray, list[list[str]], np.ndarray]:
    """Shade from 0 (no better than chance) to 1, text, and what is in bold: nothing."""
    means = np.array([[cell["mean"] for cell in row] for row in cells])
    texts = [[f"{value:.2f}" for value in row] for row in means]
    return np.maximum(2 * means - 1, 0), texts, np.zeros(means.shape, bool)


def _p_value(cells: Sequence[Sequence[float]]) -> tuple[np.ndarray, list[list[str]], np.ndarray]:
    """Shade by order of magnitude, text, and what is in bold: what was noticed."""
    values = np.array(cells)
    shade = np.log10(np.maximum(values, SMALLEST)) / np.log10(SMALLEST)
    texts = [["<.001" if v < 1e-3 else f"{v:.3f}".lstrip("0") for v in row] for row in values]
    return shade, texts, values < NOTICED


def _heat_map(axes: Axes, shade: np.ndarray, texts: list[list[str]], bold: np.ndarray) -> None:
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for (y, x), value in np.ndenumerate(shade):
        axes.text(
            x, y, texts[y][x], ha="center", va="center", fontsize=8,
            color="white" if value > 0.7 else "black",
            fontweight="bold" if bold[y, x] else "normal",
        )  # fmt: skip
    axes.set_xticks(np.arange(shade.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(shade.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
