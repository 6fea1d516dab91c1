"""What perturbations did, averaged over the test maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from spurious.figures.spectra import power_changes
from spurious.figures.style import CLEAN, PALETTE, colours, handles, pretty

ONE_SIGMA = 0.5  # nat: as much as a shift by one sigma
SMALLEST = 1e-4  # nat or percent: what is less stands at the edge
VERDICTS: dict[str, tuple[str, Any]] = {
    "escapes": (PALETTE[0], "full"),
    "noticed": (PALETTE[1], "none"),
    "too few maps": ("0.55", "none"),
}


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


def damage_against_power(
    rows: Mapping[str, Mapping[str, Any]], verdicts: Mapping[str, str], labelled: int = 8
) -> Figure:
    """Mean KL(perturbed ‖ clean) against the largest change of the mean P(k) of the contrast.

    Args:
        rows: damage by name.
        verdicts: of detection, by name; those without one have too few maps to judge.
        labelled: how many names are written beside their marks, of the most damaging, of those
            that escape, and of the strong ones that P(k) sees least.
    """
    figure = Figure(figsize=(9.5, 4.4), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(rows, key=lambda name: -rows[name]["kl_perturbed_clean"]["mean"])
    escaping = [name for name in ordered if verdicts.get(name) == "escapes"]
    strong = [name for name in ordered if rows[name]["kl_perturbed_clean"]["mean"] >= ONE_SIGMA]
    hidden = sorted(strong, key=lambda name: _place(rows[name])[0])[: labelled // 4]  # from P(k)
    named = {*ordered[: labelled // 2], *escaping[: labelled - labelled // 2], *hidden}
    for name in ordered:
        kl, (x, y) = rows[name]["kl_perturbed_clean"], _place(rows[name])
        colour, fill = VERDICTS.get(verdicts.get(name, ""), VERDICTS["too few maps"])
        ends = [[max(y - kl["low"], 0)], [max(kl["high"] - y, 0)]]
        axes.errorbar(x, y, ends, marker="o", color=colour, fillstyle=fill, elinewidth=0.7)
    _label(axes, {name: _place(rows[name]) for name in ordered if name in named})
    axes.axhline(ONE_SIGMA, color=CLEAN, linestyle="--", linewidth=0.8)
    axes.annotate("1 σ", (0.005, ONE_SIGMA), (0, 2), textcoords="offset points", fontsize=8,
                  xycoords=axes.get_yaxis_transform())  # fmt: skip
    axes.set(xscale="log", yscale="log", ylabel="mean KL(perturbed ‖ clean) [nat]")
    axes.set_xlabel(r"largest $|\Delta P/P|$ of the mean spectrum, contrast [%]")
    legend = [
        Line2D([], [], marker="o", linestyle="", color=colour, fillstyle=fill, label=verdict)
        for verdict, (colour, fill) in VERDICTS.items()
        if verdict in verdicts.values()
    ]
    axes.legend(handles=legend, loc="lower right")
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure


def _place(row: Mapping[str, Any]) -> tuple[float, float]:
    """Of a mark: the change of P(k) in percent, and the KL."""
    change, kl = row["mean_power_change_contrast"]["mean"], row["kl_perturbed_clean"]["mean"]
    return max(100 * change, SMALLEST), max(kl, SMALLEST)


def _label(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Names beside marks: on the other side where a neighbour or the frame is in the way."""
    axes.set(xscale="log", yscale="log")
    axes.autoscale_view()
    to_frame = axes.transData + axes.transAxes.inverted()
    taken: list[np.ndarray] = []
    for name, place in places.items():
        here = to_frame.transform(place)
        crowded = any(np.all(np.abs(here - other) < (0.12, 0.05)) for other in taken)
        offset, side = ((-6, -11), "right") if crowded or here[0] > 0.9 else ((6, 3), "left")
        axes.annotate(pretty(name), place, offset, textcoords="offset points", fontsize=8, ha=side)
        taken.append(here)


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
