"""Figures of detection: who would notice a perturbation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spurious.config.detection import Detection
from spurious.detection.verdicts import ESCAPES, detectors, verdict
from spurious.figures.style import pretty

TITLES = {
    "known": "AUROC of one map,\nperturbation known",
    "anomaly": "AUROC of one map,\nlooking for anything odd",
    "p_value": "p-value of all maps",
}
LABELS = {
    "log_power": "P(k)",
    "pdf": "PDF",
    "peaks": "peaks",
    "equilateral": "bispectrum, equilateral",
    "squeezed": "bispectrum, squeezed",
    "minkowski": "Minkowski",
    "scattering": "scattering",
    "mmd": "MMD, all together",
    "network": "network, counts",
    "network_contrast": "network, contrast",
}
SMALLEST = 1e-3  # p-values below have the same colour


def detection(rows: Mapping[str, Mapping[str, Any]], settings: Detection | None = None) -> Figure:
    """Perturbations against detectors: AUROC with and without knowing the perturbation, p-values.

    Below 0.5, an AUROC has the colour of 0.5. P-values below the level over the number of detectors
    are in bold. On the right are the verdicts, and the number of maps.

    Args:
        rows: what `spurious.detection.Detector.row` gave, by name of the perturbation.
        settings: of the verdicts; by default those of params.yaml's schema.
    """
    settings = settings or Detection()
    (first, *_) = rows.values()
    judges = detectors(first)
    columns = {
        "known": [name for name in judges if "auroc" in first[name]],
        "anomaly": [name for name in judges if "auroc_anomaly" in first[name]],
        "p_value": judges,
    }
    figure = Figure(figsize=(5.5 + 0.44 * sum(map(len, columns.values())), 2.8 + 0.3 * len(rows)),
                    layout="constrained")  # fmt: skip
    panels = figure.subplots(
        1, 3, sharey=True, width_ratios=[max(len(names), 1) for names in columns.values()]
    )
    level = settings.level / len(judges)
    for axes, (kind, names) in zip(panels, columns.items(), strict=True):
        cells = [[_value(row[name], kind) for name in names] for row in rows.values()]
        _heat_map(axes, *(_p_value(cells, level) if kind == "p_value" else _auroc(cells)))
        labels = [LABELS.get(name, pretty(name)) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_title(TITLES[kind], fontsize=10)
    panels[0].set_yticks(range(len(rows)), [pretty(name) for name in rows])
    _verdicts(panels[-1], [verdict(row, settings) for row in rows.values()], len(judges))
    return figure


def _value(cell: Mapping[str, Any], kind: str) -> float:
    """The number that a panel shows for a detector; a network always knows the perturbation."""
    if kind == "p_value":
        return float(cell["p_value"])
    return float(cell.get(f"auroc_{kind}", cell["auroc"])["mean"])


def _auroc(cells: Sequence[Sequence[float]]) -> tuple[np.ndarray, list[list[str]], np.ndarray]:
    """Shade from 0 (no better than chance) to 1, text, and whether it is bold: never."""
    means = np.array(cells)
    texts = [[f"{value:.2f}" for value in row] for row in means]
    return np.maximum(2 * means - 1, 0), texts, np.zeros(means.shape, bool)


def _p_value(
    cells: Sequence[Sequence[float]], level: float
) -> tuple[np.ndarray, list[list[str]], np.ndarray]:
    """Shade by order of magnitude, text, and whether it is bold: if noticed."""
    values = np.array(cells)
    shade = np.log10(np.maximum(values, SMALLEST)) / np.log10(SMALLEST)
    texts = [["<.001" if v < 1e-3 else f"{v:.3f}".lstrip("0") for v in row] for row in values]
    return shade, texts, values < level


def _verdicts(axes: Axes, verdicts: Sequence[Mapping[str, Any]], right: int) -> None:
    for y, found in enumerate(verdicts):
        escapes = found["verdict"] == ESCAPES
        axes.text(
            right - 0.3, y, f"{found['verdict']} (n = {found['n_maps']})", va="center", fontsize=8,
            color="#D55E00" if escapes else "black", fontweight="bold" if escapes else "normal",
        )  # fmt: skip


def _heat_map(axes: Axes, shade: np.ndarray, texts: list[list[str]], bold: np.ndarray) -> None:
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for (y, x), value in np.ndenumerate(shade):
        axes.text(
            x, y, texts[y][x], ha="center", va="center", fontsize=7.5,
            color="white" if value > 0.7 else "black",
            fontweight="bold" if bold[y, x] else "normal",
        )  # fmt: skip
    axes.set_xticks(np.arange(shade.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(shade.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
