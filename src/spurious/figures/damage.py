"""What perturbations did, averaged over the test maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from spurious.figures.spectra import power_changes
from spurious.figures.style import CLEAN, colours, handles, pretty


def spectrum_changes(
    changes: Mapping[str, Mapping[str, np.ndarray]], k: np.ndarray, cosmic_variance: np.ndarray
) -> Figure:
    """Relative change of the mean P(k) over all test maps, raw and of the contrast.

    `changes` maps a perturbation's name to {"raw": ..., "contrast": ...}, each of shape (n_bins,).
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    shade = colours(list(changes))
    titles = {"raw": "raw counts", "contrast": "density contrast (each map over its mean)"}
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), titles, strict=True):
        power_changes(axes, {n: c[kind] for n, c in changes.items()}, k, cosmic_variance, shade)
        axes.set_title(titles[kind])
    figure.legend(
        handles=handles(shade)[:-1][1:],
        loc="outside lower center",
        ncols=min(len(shade), 6),
        frameon=False,
    )
    return figure


def damage_bars(rows: Mapping[str, Mapping[str, Any]], paper: Mapping[str, float]) -> Figure:
    """Mean KL(perturbed ‖ clean) of each perturbation, 95 % interval, and the paper's value.

    Rows that share a `group` share a colour.
    """
    figure = Figure(figsize=(8, 0.32 * len(rows) + 1.6), layout="constrained")
    axes = figure.subplots()
    groups = list(dict.fromkeys(row.get("group", "") for row in rows.values()))
    shade = colours(groups)
    for y, (name, row) in enumerate(rows.items()):
        kl = row["kl_perturbed_clean"]
        error = [[kl["mean"] - kl["low"]], [kl["high"] - kl["mean"]]]
        colour = shade[row.get("group", "")]
        axes.barh(y, max(kl["mean"], 1e-4), xerr=error, color=colour, height=0.7)
        if name in paper:
            axes.plot(paper[name], y, "D", color=CLEAN)
    axes.set_yticks(range(len(rows)), [pretty(name) for name in rows])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="mean KL(perturbed ‖ clean) [nat]")
    legend: list[Artist] = [Patch(color=shade[g], label=pretty(g)) for g in groups if g]
    if paper:
        legend.append(Line2D([], [], marker="D", linestyle="", color=CLEAN, label="paper’s value"))
    if legend:
        axes.legend(handles=legend)
    return figure
