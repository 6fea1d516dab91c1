"""The search for the worst systematic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from spurious.figures.style import CLEAN, PALETTE, colours, pretty

FENCE_LABELS = {
    "power": r"largest RMS over maps of $\Delta P/P$, contrast [%]",
    "cosmic": r"largest RMS over maps of $\Delta P$ in one map's cosmic variances",
    "chi2": r"$\chi^2$ of a map's $\Delta P$ against its cosmic variance",
    "raw_power": r"largest RMS over maps of $\Delta P/P$, counts [%]",
    "mean_shift": "RMS over maps of the change of a map's mean [%]",
    "rms": "RMS change [counts]",
    "pdf": r"RMS over maps of $d'$ of the PDF",
    "scattering": r"RMS over maps of $d'$ of the scattering transform",
    "mean_power": r"largest $|\Delta P/P|$ of the mean spectrum, contrast [%]",
    "mean_cosmic": r"largest $|\Delta P|$ of the mean spectrum in one map's cosmic variances",
    "mean_chi2": r"$\chi^2$ of the mean $\Delta P$ against one map's cosmic variance",
    "mean_raw_power": r"largest $|\Delta P/P|$ of the mean spectrum, counts [%]",
    "mean_density": "|change of the mean density| [%]",
}
PERCENT = ("power", "raw_power", "mean_shift", "mean_power", "mean_raw_power", "mean_density")
Curve = Sequence[tuple[float, float]]
"""Pairs (height of the fence, mean KL in nats)."""


def search_history(values: np.ndarray, changes: np.ndarray, limit: float) -> Figure:
    """KL of every trial and the best so far whose `changes`, `max |dP/P|`, respect `limit`."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    trials = np.arange(len(values))
    feasible = changes <= limit
    axes.plot(trials[~feasible], values[~feasible], "x", color="0.6", label="breaks the fence")
    axes.plot(trials[feasible], values[feasible], "o", color=PALETTE[1], label="feasible")
    best = np.maximum.accumulate(np.where(feasible, values, -np.inf))
    axes.step(trials, np.where(np.isfinite(best), best, np.nan), where="post", color=PALETTE[0],
              label="best feasible")  # fmt: skip
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(bottom=-0.002)
    axes.set(xlabel="trial", ylabel="mean KL(perturbed ‖ clean) [nat]")
    axes.legend()
    return figure


def fronts(
    curves: Mapping[str, Mapping[str, Curve]],
    points: Mapping[str, Mapping[str, tuple[float, float]]],
    references: Mapping[str, Mapping[str, tuple[float, float]]],
    limits: Mapping[str, float],
) -> Figure:
    """KL against the height of each fence, one panel each: families, the paper's point, references.

    Args:
        curves: fence -> family -> its Pareto front.
        points: fence -> name -> one systematic, such as the paper's.
        references: fence -> what an attack respects -> its height and KL. One that lies below the
            panel's heights, such as an attack that leaves the spectrum alone, keeps within all of
            them: a level line. None is a ceiling: each has a limit of its own.
        limits: fence -> height at which the search was run; fences without one have no line.
    """
    figure = Figure(figsize=(5.2 * len(curves), 4.6), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    families = list(dict.fromkeys(name for found in curves.values() for name in found))
    shade = colours(families)
    for axes, (fence, found) in zip(panels, curves.items(), strict=True):
        unit = 100 if fence in PERCENT else 1
        lowest = min((x for curve in found.values() for x, _ in curve), default=0.0)
        for name, curve in found.items():
            if not curve:
                continue
            x, y = np.transpose(sorted(curve))
            axes.plot(unit * x, y, "o-", color=shade[name], label=pretty(name))
        for number, (name, place) in enumerate(references.get(fence, {}).items()):
            _reference(axes, unit, place, lowest, number, name)
        for name, (x, y) in points.get(fence, {}).items():
            axes.plot(unit * x, y, "*", color=CLEAN, markersize=13, label=pretty(name))
        if fence in limits:
            axes.axvline(unit * limits[fence], color="0.7", zorder=0, label="fence of the search")
        axes.set(xscale="log", xlabel=FENCE_LABELS[fence])
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.grid(alpha=0.3)
    panels[0].set_yscale("symlog", linthresh=0.001)  # shared
    panels[0].set_ylim(0, 2 * panels[0].get_ylim()[1])
    panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels[0].set_ylabel("mean KL(perturbed ‖ clean) [nat]")
    named: dict[str, Any] = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    figure.legend(named.values(), named, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _reference(
    axes: Axes, unit: float, place: tuple[float, float], lowest: float, number: int, name: str
) -> None:
    """A horizontal line for what lies below all heights, else a mark."""
    x, y = place
    if x < lowest:
        style = ("--", ":", "-.")[number % 3]
        axes.axhline(y, color="0.35", linestyle=style, linewidth=1, label=name)
    else:
        axes.plot(unit * x, y, marker="sDv^P"[number % 5], color="0.35", linestyle="", label=name)
