"""Figures of calibration: what `spurious.quality.coverage` found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spurious.bootstrap import binomial_band
from spurious.figures.style import CLEAN, PALETTE, colours, pretty

BAND = "0.85"
BAND_LABEL = "95 % if calibrated"


def coverage(pit: np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Share of test maps inside the central credible interval of each level.

    `pit` is (n, p): one panel with one curve per parameter. Or it maps the name of each of several
    posteriors, tested on the same maps, to such an array: one panel per parameter, one curve per
    posterior.
    """
    if isinstance(pit, Mapping):
        figure, panels = _panels(len(names), 4.4)
        shade = colours(list(pit))
        for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
            curves = {label: (levels[:, i], shade[label]) for label, levels in pit.items()}
            _coverage_curves(axes, curves)
            axes.set_title(pretty(name))
        return figure
    figure, panels = _panels(1, 4.4)
    curves = {name: (pit[:, i], PALETTE[i % len(PALETTE)]) for i, name in enumerate(names)}
    _coverage_curves(panels[0], curves)
    return figure


def pit_histogram(pit: np.ndarray, names: Sequence[str], bins: int = 20) -> Figure:
    """Histogram of each parameter's PIT (n, p): flat if calibrated, a hump if too wide.

    The grey band holds each bar with a probability of 95 % if the maps are independent.
    """
    figure, panels = _panels(len(names), 3.4)
    for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
        _histogram(axes, pit[:, i], np.linspace(0, 1, bins + 1), PALETTE[i % len(PALETTE)])
        axes.set(xlabel=f"marginal CDF of {pretty(name)} at the truth", xlim=(0, 1))
    panels[0].set_ylabel("test maps")
    return figure


def sbc(ranks: np.ndarray, n_samples: int, names: Sequence[str]) -> Figure:
    """Histogram of the truths' ranks (n, p) among `n_samples` posterior draws: flat if calibrated.

    The number of bins, at most 20, divides the number n_samples + 1 of possible ranks.
    """
    possible = n_samples + 1
    bins = max(number for number in range(1, 21) if possible % number == 0)
    figure, panels = _panels(len(names), 3.4)
    for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
        edges = np.linspace(0, possible, bins + 1) - 0.5
        _histogram(axes, ranks[:, i], edges, PALETTE[i % len(PALETTE)])
        axes.set(xlabel=f"rank of {pretty(name)} among {n_samples} draws", xlim=edges[[0, -1]])
    panels[0].set_ylabel("test maps")
    return figure


def tarp(levels: np.ndarray, ecp: np.ndarray, low: np.ndarray, high: np.ndarray) -> Figure:
    """Expected coverage probability of joint credible regions, with its bootstrap interval.

    All arguments are those of `spurious.quality.coverage.Tarp`, of shape (n_levels,).
    """
    figure, (axes,) = _panels(1, 4.4)
    axes.fill_between(levels, low, high, color=PALETTE[1], alpha=0.25, linewidth=0,
                      label="95 % bootstrap")  # fmt: skip
    axes.plot(levels, levels, color=CLEAN, linewidth=1, label="calibrated")
    axes.plot(levels, ecp, color=PALETTE[1], label="all parameters")
    axes.set(xlabel="credibility level", ylabel="expected coverage", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.legend(loc="upper left")
    return figure


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.8 * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=True)[0])


def _coverage_curves(axes: Axes, curves: Mapping[str, tuple[np.ndarray, str]]) -> None:
    """The coverage of each name's PIT (n,) in its colour, with the band that chance allows."""
    levels = np.linspace(0, 1, 101)
    (n,) = {len(pit) for pit, _ in curves.values()}
    axes.fill_between(levels, *binomial_band(n, levels), color=BAND, label=BAND_LABEL)
    axes.plot(levels, levels, color=CLEAN, linewidth=1)
    for name, (pit, colour) in curves.items():
        inside = 2 * np.abs(pit[:, None] - 0.5) <= levels
        axes.plot(levels, inside.mean(axis=0), color=colour, label=pretty(name))
    axes.set(xlabel="credible level", ylabel="share of truths inside", xlim=(0, 1), ylim=(0, 1))
    axes.legend()


def _histogram(axes: Axes, values: np.ndarray, edges: np.ndarray, colour: str) -> None:
    """Counts of `values` (n,) in equal bins, with the band that chance allows in each."""
    n, bins = len(values), len(edges) - 1
    low, high = binomial_band(n, 1 / bins)
    axes.axhspan(n * float(low), n * float(high), color=BAND, label=BAND_LABEL)
    axes.axhline(n / bins, color=CLEAN, linewidth=1)
    counts = np.histogram(values, edges)[0]
    axes.stairs(counts, edges, baseline=None, color=colour, linewidth=1.8)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.1 * max(counts.max(), n * float(high))))
    axes.legend(loc="lower center")
