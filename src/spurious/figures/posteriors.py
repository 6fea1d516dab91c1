"""Figures of training, and of how good the posteriors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spurious.figures.style import CLEAN, PALETTE, colours, pretty


def learning_curve(history: Mapping[str, Sequence[float]]) -> Figure:
    """Loss of training and validation maps against the epoch.

    It is the negative log-likelihood; of a defended network it is the defence's, and the negative
    log-likelihood of validation maps as they are is shown beside it.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(1, len(history["loss"]) + 1)
    curves = {"loss": "training", "val_loss": "validation", "val_nll": "validation, clean maps"}
    shown = {name: label for name, label in curves.items() if name in history}
    for color, (name, label) in zip((1, 0, 2), shown.items(), strict=False):
        axes.plot(epochs, history[name], color=PALETTE[color], label=label)
    best = int(np.argmin(history["val_loss"]))
    axes.axvline(epochs[best], color="grey", linestyle=":", label="weights kept")
    what = "loss of the defence" if "val_nll" in history else "negative log-likelihood"
    axes.set(xlabel="epoch", ylabel=f"{what} [nat per map]")
    low = min(min(history[name]) for name in shown)
    axes.set_ylim(low - 0.2, float(np.percentile(history["val_loss"], 90)) + 1)
    axes.legend()
    return figure


def predicted_versus_true(
    means: np.ndarray, stds: np.ndarray, truths: np.ndarray, names: Sequence[str]
) -> Figure:
    """Posterior mean and standard deviation, each (n, p), against the truth of every test map."""
    figure = Figure(figsize=(5 * len(names), 4.6), layout="constrained")
    jitter = np.random.default_rng(0).uniform(-0.012, 0.012, len(truths))
    for i, axes in enumerate(np.ravel(figure.subplots(1, len(names)))):
        # Labels lie on a grid and would cover each other.
        x = truths[:, i] + jitter * np.ptp(truths[:, i])
        axes.errorbar(
            x, means[:, i], stds[:, i], fmt=".", color=PALETTE[1], alpha=0.35, markersize=4
        )
        ends = [truths[:, i].min(), truths[:, i].max()]
        axes.plot(ends, ends, color=CLEAN)
        label = pretty(names[i])
        axes.set(xlabel=f"true {label}", ylabel=f"posterior mean and σ of {label}")
    return figure


def error_plane(nodes: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """RMSE and bias of the posterior mean over the plane of two parameters, one row each.

    Cosmologies without maps are grey.

    Args:
        nodes: from `spurious.quality.accuracy.over_grid`.
        names: the two parameters.

    Raises:
        ValueError: there are not two parameters.
    """
    if len(names) != 2:
        raise ValueError(f"{len(names)} parameters span no plane")
    figure = Figure(figsize=(10.5, 8), layout="constrained")
    for row, name in zip(figure.subplots(2, 2), names, strict=True):
        label, bias = pretty(name), np.asarray(nodes[name]["bias"])
        limit = max(float(np.abs(bias).max()), 1e-6)
        _plane(row[0], nodes, names, np.asarray(nodes[name]["rmse"]), f"RMSE of {label}", vmin=0)
        _plane(row[1], nodes, names, bias, f"bias of {label}", "RdBu_r", vmin=-limit, vmax=limit)
    return figure


def posterior_bars(
    table: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
    forecast: Mapping[str, float] | None = None,
) -> Figure:
    """RMSE of every posterior with its 95 % interval, one panel per parameter.

    Args:
        table: posterior -> metrics, of which `<name>_rmse` is drawn, as made by
            `spurious.quality.accuracy.metrics`.
        names: the parameters.
        forecast: parameter -> the Fisher forecast for the power spectrum alone, drawn as a line.
    """
    figure = Figure(figsize=(5 * len(names), 4.4), layout="constrained")
    shade = colours(list(table))
    for axes, name in zip(np.ravel(figure.subplots(1, len(names))), names, strict=True):
        for x, (posterior, metrics) in enumerate(table.items()):
            rmse = metrics[f"{name}_rmse"]
            error = [[rmse["mean"] - rmse["low"]], [rmse["high"] - rmse["mean"]]]
            axes.bar(x, rmse["mean"], yerr=error, color=shade[posterior], width=0.6, capsize=4)
        if forecast and name in forecast:
            axes.axhline(forecast[name], color=CLEAN, linestyle="--", label="Fisher forecast, P(k)")
            axes.legend()
        axes.set_xticks(
            range(len(table)), [pretty(n) for n in table], rotation=25, ha="right",
            rotation_mode="anchor",
        )  # fmt: skip
        axes.set_ylabel(f"RMSE of {pretty(name)}")
        axes.margins(y=0.2)
    return figure


def _plane(
    axes: Axes,
    nodes: Mapping[str, Any],
    names: Sequence[str],
    values: np.ndarray,
    label: str,
    cmap: str = "viridis",
    **limits: Any,
) -> None:
    """Values (k,) at the nodes in colour: as cells where the nodes form a grid, else as points."""
    x, y = (np.asarray(nodes[name]["truth"]) for name in names)
    (columns, i), (rows, j) = (np.unique(v, return_inverse=True) for v in (x, y))
    if len(columns) * len(rows) <= 2 * len(values):
        axes.set_facecolor("0.75")  # cells without maps, which white would pass off as no bias
        cells = np.full((len(rows), len(columns)), np.nan)
        cells[j, i] = values
        drawn: Any = axes.pcolormesh(columns, rows, cells, cmap=cmap, shading="nearest", **limits)
    else:
        drawn = axes.scatter(x, y, c=values, cmap=cmap, s=30, edgecolors="0.5", linewidths=0.4,
                             **limits)  # fmt: skip
    axes.set(xlabel=f"true {pretty(names[0])}", ylabel=f"true {pretty(names[1])}")
    axes.figure.colorbar(drawn, ax=axes, label=label)
