"""The tuning of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spurious.figures.style import CLEAN, PALETTE, pretty


def tuning_history(values: Sequence[float | None], best_so_far: Sequence[float | None]) -> Figure:
    """Validation loss of every trial, None where it was pruned; the first is the one to beat.

    Losses far above the others are marked at the upper edge.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    loss, best = (np.array(v, dtype=float) for v in (values, best_so_far))  # None becomes NaN
    trials = np.arange(len(loss))
    finite = loss[np.isfinite(loss)]
    if finite.size:
        low, middle = finite.min(), np.median(finite)
        margin = 0.1 * max(middle - low, 1e-3)
        # The pruner lets hardly anything pass that is worse than the median; what does is an
        # outlier, which would squeeze the rest.
        top = max(middle + 3 * (middle - low), loss[0] if np.isfinite(loss[0]) else low) + margin
        axes.set_ylim(low - margin, top)
        high = loss > top
        axes.plot(trials[high], np.full(high.sum(), top), "^", color=PALETTE[1], clip_on=False,
                  label="above" if high.any() else None)  # fmt: skip
    axes.plot(trials, loss, "o", color=PALETTE[1], label="complete")
    ended = np.isnan(loss)
    if ended.any():
        axes.plot(trials[ended], np.zeros(ended.sum()), "x", color="0.5", clip_on=False,
                  transform=axes.get_xaxis_transform(), label="ended early")  # fmt: skip
    axes.step(trials, best, where="post", color=PALETTE[0], label="best so far")
    if len(loss) and np.isfinite(loss[0]):
        axes.axhline(loss[0], color=CLEAN, linestyle="--", label="to beat")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel="least validation loss [nat per map]")
    axes.legend()
    return figure


def tuning_importances(importances: Mapping[str, float], n_trials: int) -> Figure:
    """Importance of each parameter, by complete trials; says so if they are too few."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    if not importances:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"{n_trials} complete trials are too few to tell importances",
                  ha="center", va="center")  # fmt: skip
        return figure
    names = sorted(importances, key=importances.__getitem__)
    axes.barh([pretty(name) for name in names], [importances[name] for name in names],
              color=PALETTE[1])  # fmt: skip
    axes.set(xlabel=f"importance, PED-ANOVA of {n_trials} complete trials")
    return figure
