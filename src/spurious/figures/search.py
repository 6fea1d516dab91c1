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
    "power": r"largest $|\Delta P/P|$ of the contrast [%]",
    "cosmic": r"largest $|\Delta P|$ in one map's cosmic variances",
    "chi2": r"$\chi^2$ of $\Delta P$ against one map's cosmic variance",
    "raw_power": r"largest $|\Delta P/P|$ of the counts [%]",
    "mean_shift": "|change of the mean density| [%]",
    "rms": "RMS change [counts]",
}
PERCENT = ("power", "raw_power", "mean_shift")
Curve = Sequence[tuple[float, float]]
"""Pairs (height of the fence, mean KL in nats)."""


def search_history(values: np.ndarray, changes: np.ndarray, limit: float) -> Figure:
    """KL of every trial and the best so far whose `changes`, max |dP/P|, respect `limit`."""
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
    ceilings: Mapping[str, Mapping[str, Curve]],
    limits: Mapping[str, float],
) -> Figure:
    """KL against the height of each fence, a panel each: families, paper's point, ceilings.

    Args:
        curves: fence -> family -> its Pareto front.
        points: fence -> name -> one systematic, such as the paper's.
        ceilings: fence -> attack -> what it reaches. One that lies below the panel's heights, such
            as an attack that leaves the spectrum alone, holds at all of them: a level line.
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
        for number, (name, curve) in enumerate(ceilings.get(fence, {}).items()):
            style = {"color": "0.35", "linestyle": ("--", ":", "-.")[number % 3]}
            _ceiling(axes, unit, curve, lowest, {**style, "label": pretty(name)})
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


def _ceiling(
    axes: Axes, unit: float, curve: Curve, lowest: float, style: Mapping[str, Any]
) -> None:
    """A level line for what lies below all heights, else a line through its points."""
    x, y = np.transpose(sorted(curve))
    if x.max() < lowest:
        axes.axhline(y.max(), **style)
    else:
        axes.plot(unit * x, y, marker="s", **style)
