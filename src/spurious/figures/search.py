"""The search for the worst systematic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from spurious.figures.style import CLEAN, PALETTE, colours, pretty


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


def pareto(
    values: np.ndarray,
    changes: np.ndarray,
    front: Sequence[tuple[float, float]],
    limit: float,
    others: Mapping[str, tuple[float, float]],
) -> Figure:
    """KL against max |dP/P| of the contrast: all trials, the front, the fence, and `others`."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(100 * changes, values, ".", color="0.7", label="trials")
    if front:
        x, y = np.transpose(sorted(front))
        axes.step(100 * x, y, where="post", color=PALETTE[1], marker="o", label="Pareto front")
    axes.axvline(100 * limit, color=CLEAN, linestyle="--", label="fence of the search")
    for name, (change, kl) in others.items():
        axes.plot(100 * change, kl, "*", markersize=13, label=pretty(name),
                  color=colours(list(others))[name])  # fmt: skip
    axes.set(xscale="log", xlabel=r"max over bins of $|\Delta P/P|$ of the contrast [%]")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(bottom=-0.002)
    axes.set_ylabel("mean KL(perturbed ‖ clean) [nat]")
    axes.legend(fontsize=8)
    return figure
