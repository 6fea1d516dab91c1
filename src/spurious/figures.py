"""Figures of the report. Every function returns a matplotlib Figure; none shows or saves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import ScalarFormatter

LABELS = {"omega_m": r"$\Omega_m$", "sigma_8": r"$\sigma_8$"}
K_LABEL = r"$k\ [h\,\mathrm{Mpc}^{-1}]$"
# Okabe and Ito's palette: told apart also without colour vision and in grey.
CLEAN = "#000000"
LOG_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def colours(names: Sequence[str]) -> dict[str, str]:
    """One colour a perturbation, the same in every figure made of the same names."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def pretty(name: str) -> str:
    """A perturbation's or parameter's name as a reader should see it."""
    return LABELS.get(name, name.replace("_", " ").replace("bim", "BIM").replace("fgsm", "FGSM"))


def workflow(
    clean: np.ndarray,
    perturbed: Mapping[str, np.ndarray],
    posteriors: Mapping[str, np.ndarray],
    axes_values: tuple[np.ndarray, np.ndarray],
    truth: np.ndarray,
    spectra: Mapping[str, np.ndarray],
    k: np.ndarray,
    cosmic_variance: np.ndarray,
    box_size: float,
) -> Figure:
    """The paper's Figure 1 for one map: clean map + pattern = perturbed map, posteriors, P(k).

    Args:
        clean: map (N, N) in counts.
        perturbed: name -> map (N, N) in counts.
        posteriors: "clean" and each name -> density on the grid, shape (n_sigma_8, n_omega_m).
        axes_values: the grid's Omega_m and sigma_8.
        truth: the true (Omega_m, sigma_8).
        spectra: "clean" and each name -> P(k) of the density contrast, (Mpc/h)^2.
        k: wavenumbers of the bins, h/Mpc.
        cosmic_variance: relative standard deviation of one map's P(k) in each bin.
        box_size: side of the map, Mpc/h.
    """
    figure = Figure(figsize=(13, 3.1 * len(perturbed) + 3.9), layout="constrained")
    grid = figure.add_gridspec(len(perturbed) + 1, 12)
    shade = colours(list(perturbed))
    norm = LogNorm(max(1.0, float(clean.min())), float(clean.max()))
    for row, (name, map_) in enumerate(perturbed.items()):
        images = [figure.add_subplot(grid[row, 4 * i : 4 * i + 4]) for i in range(3)]
        _image(images[0], clean, "clean map", box_size, norm=norm, unit="counts")
        pattern = map_ - clean
        limit = max(float(np.abs(pattern).max()), 1e-6)
        title = f"+ {pretty(name)} (RMS {np.sqrt(np.mean(pattern**2)):.2f} counts)"
        _image(
            images[1],
            pattern,
            title,
            box_size,
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            unit="counts",
        )
        _image(images[2], map_, "= perturbed map", box_size, norm=norm, unit="counts")
    last = [figure.add_subplot(grid[-1, 4 * i : 4 * i + 4]) for i in range(3)]
    contours(last[0], posteriors, axes_values, truth, shade)
    figure.legend(handles=_handles(shade), loc="outside lower center", ncols=9, frameon=False)
    last[0].set_title("inferred posteriors, 68 and 95 %")
    _spectra(last[1], spectra, k, cosmic_variance, shade)
    changes = {name: spectra[name] / spectra["clean"] - 1 for name in perturbed}
    _changes(last[2], changes, k, cosmic_variance, shade)
    last[2].set_title("change of its power spectrum")
    return figure


def examples(
    maps: np.ndarray,
    posteriors: Sequence[Mapping[str, np.ndarray]],
    axes_values: tuple[np.ndarray, np.ndarray],
    truths: np.ndarray,
    box_size: float,
) -> Figure:
    """The paper's Figure 2: test maps (n, N, N) and how each perturbation moves their posteriors.

    `posteriors[i]` maps "clean" and each perturbation's name to a density on the grid;
    the green circle is the truth.
    """
    n = len(maps)
    figure = Figure(figsize=(4 * n, 7.6), layout="constrained")
    axes = figure.subplots(2, n, squeeze=False)
    shade = colours([name for name in posteriors[0] if name != "clean"])
    for i in range(n):
        norm = LogNorm(max(1.0, float(maps[i].min())), float(maps[i].max()))
        title = ", ".join(f"{LABELS[p]} = {v:.2f}" for p, v in zip(LABELS, truths[i], strict=True))
        _image(axes[0, i], maps[i], title, box_size, norm=norm, unit="counts")
        contours(axes[1, i], posteriors[i], axes_values, truths[i], shade)
    figure.legend(handles=_handles(shade), loc="outside lower center", ncols=9, frameon=False)
    return figure


def preview(maps: np.ndarray, labels: np.ndarray, box_size: float) -> Figure:
    """Simulated maps (n, N, N) in counts on one colour scale; titles from `labels` (n, 2)."""
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(3.5 * columns + 1.5, 3.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    norm = LogNorm(low := max(1.0, float(maps.min())), float(maps.max()))
    for axes, map_, label in zip(panels, maps.clip(low), labels, strict=False):
        image = axes.imshow(map_.T, origin="lower", extent=(0, box_size, 0, box_size), norm=norm)
        values = zip(LABELS, label, strict=True)
        axes.set_title(", ".join(f"{LABELS[name]} = {value:.3g}" for name, value in values))
        axes.set(xlabel="Mpc/h", ylabel="Mpc/h")
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    unit = "projected particle count per pixel"
    _plain_ticks(figure.colorbar(image, ax=list(panels), label=unit, shrink=0.8))
    return figure


def contours(
    axes: Axes,
    posteriors: Mapping[str, np.ndarray],
    axes_values: tuple[np.ndarray, np.ndarray],
    truth: np.ndarray,
    shade: Mapping[str, str],
) -> None:
    """68 and 95 % highest-density contours of each posterior, and the truth as a green circle."""
    for name, density in posteriors.items():
        levels = credible_levels(density, (0.95, 0.68))
        axes.contour(*axes_values, density, levels=levels, colors=shade.get(name, CLEAN))
    axes.plot(*truth, "o", color="green", markersize=9, fillstyle="none", markeredgewidth=2)
    axes.set(xlabel=LABELS["omega_m"], ylabel=LABELS["sigma_8"])


def credible_levels(density: np.ndarray, masses: Sequence[float]) -> list[float]:
    """Density levels whose superlevel sets hold the given masses, in increasing order of level."""
    ordered = np.sort(density, axis=None)[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    levels = [float(ordered[min(int(np.searchsorted(mass, m)), ordered.size - 1)]) for m in masses]
    # A posterior narrower than a grid cell would give two equal levels, which contour refuses.
    return [levels[0], *[max(b, float(np.nextafter(a, np.inf))) for a, b in pairwise(levels)]]


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
        _changes(axes, {n: c[kind] for n, c in changes.items()}, k, cosmic_variance, shade)
        axes.set_title(titles[kind])
    figure.legend(
        handles=_handles(shade)[:-1][1:],
        loc="outside lower center",
        ncols=len(shade),
        frameon=False,
    )
    return figure


def learning_curve(history: Mapping[str, Sequence[float]]) -> Figure:
    """Negative log-likelihood of training and validation maps against the epoch."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["loss"], color=PALETTE[1], label="training")
    axes.plot(epochs, history["val_loss"], color=PALETTE[0], label="validation")
    best = int(np.argmin(history["val_loss"]))
    axes.axvline(epochs[best], color="grey", linestyle=":", label="weights kept")
    axes.set(xlabel="epoch", ylabel="negative log-likelihood [nat per map]")
    low = min(min(history["loss"]), min(history["val_loss"]))
    axes.set_ylim(low - 0.2, float(np.percentile(history["val_loss"], 90)) + 1)
    axes.legend()
    return figure


def predicted_versus_true(
    means: np.ndarray, stds: np.ndarray, truths: np.ndarray, names: Sequence[str]
) -> Figure:
    """Posterior mean and standard deviation, each (n, p), against the truth of every test map."""
    figure = Figure(figsize=(5 * len(names), 4.6), layout="constrained")
    jitter = np.random.default_rng(0).uniform(-0.006, 0.006, len(truths))
    for i, axes in enumerate(np.ravel(figure.subplots(1, len(names)))):
        x = truths[:, i] + jitter  # labels lie on a grid and would cover each other
        axes.errorbar(
            x, means[:, i], stds[:, i], fmt=".", color=PALETTE[1], alpha=0.35, markersize=4
        )
        ends = [truths[:, i].min(), truths[:, i].max()]
        axes.plot(ends, ends, color=CLEAN)
        label = pretty(names[i])
        axes.set(xlabel=f"true {label}", ylabel=f"posterior mean and σ of {label}")
    return figure


def coverage(pit: np.ndarray, names: Sequence[str]) -> Figure:
    """Share of test maps inside the central credible interval of each level; `pit` is (n, p)."""
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.subplots()
    levels = np.linspace(0, 1, 101)
    error = np.sqrt(levels * (1 - levels) / len(pit))
    axes.fill_between(
        levels, levels - 2 * error, levels + 2 * error, color="0.85", label="2σ sampling"
    )
    axes.plot(levels, levels, color=CLEAN, linewidth=1)
    for i, name in enumerate(names):
        inside = 2 * np.abs(pit[:, i, None] - 0.5) <= levels
        axes.plot(levels, inside.mean(axis=0), color=PALETTE[i], label=pretty(name))
    axes.set(xlabel="credible level", ylabel="share of truths inside", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    return figure


def damage_bars(rows: Mapping[str, Mapping[str, Any]], paper: Mapping[str, float]) -> Figure:
    """Mean KL(perturbed ‖ clean) of each perturbation, 95 % interval, and the paper's value."""
    figure = Figure(figsize=(8, 0.55 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    for y, (name, row) in enumerate(rows.items()):
        kl = row["kl_perturbed_clean"]
        error = [[kl["mean"] - kl["low"]], [kl["high"] - kl["mean"]]]
        axes.barh(y, max(kl["mean"], 1e-4), xerr=error, color=colours(list(rows))[name], height=0.6)
        if name in paper:
            axes.plot(paper[name], y, "D", color=CLEAN)
    axes.set_yticks(range(len(rows)), [pretty(name) for name in rows])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="mean KL(perturbed ‖ clean) [nat]")
    if paper:
        axes.legend(handles=[Line2D([], [], marker="D", linestyle="", color=CLEAN, label="paper")])
    return figure


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


def _image(
    axes: Axes, map_: np.ndarray, title: str, box_size: float, *, unit: str, **style: Any
) -> None:
    image = axes.imshow(map_.T, origin="lower", extent=(0, box_size, 0, box_size), **style)
    axes.set_title(title, fontsize=10)
    axes.set(xlabel="Mpc/h", ylabel="Mpc/h")
    bar = axes.figure.colorbar(image, ax=axes, label=unit, fraction=0.046, pad=0.03)
    if isinstance(image.norm, LogNorm):
        _plain_ticks(bar)


def _plain_ticks(bar: Colorbar) -> None:
    """Ticks at 1, 2, 5, 10, ... in plain numbers, for a logarithmic scale."""
    low, high = bar.ax.get_ylim()
    bar.set_ticks([tick for tick in LOG_TICKS if low <= tick <= high])
    bar.ax.yaxis.set_major_formatter(ScalarFormatter())
    bar.ax.minorticks_off()


def _spectra(
    axes: Axes,
    spectra: Mapping[str, np.ndarray],
    k: np.ndarray,
    cosmic_variance: np.ndarray,
    shade: Mapping[str, str],
) -> None:
    clean = spectra["clean"]
    axes.fill_between(k, clean * (1 - cosmic_variance), clean * (1 + cosmic_variance), color="0.85")
    for name, power in spectra.items():
        style = "-" if name == "clean" else "--"
        axes.loglog(k, power, style, color=shade.get(name, CLEAN))
    axes.set(xlabel=K_LABEL, ylabel=r"$P(k)\ [(\mathrm{Mpc}/h)^2]$")
    axes.set_title("power spectrum of the contrast")


def _changes(
    axes: Axes,
    changes: Mapping[str, np.ndarray],
    k: np.ndarray,
    cosmic_variance: np.ndarray,
    shade: Mapping[str, str],
) -> None:
    axes.fill_between(k, -100 * cosmic_variance, 100 * cosmic_variance, color="0.85")
    axes.axhline(0, color=CLEAN, linewidth=0.8)
    for name, change in changes.items():
        axes.plot(k, 100 * np.asarray(change), color=shade[name])
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel=K_LABEL, ylabel=r"$\Delta P/P$ [%]")


def _handles(shade: Mapping[str, str]) -> list[Line2D]:
    names = {"clean": CLEAN, **shade}
    lines = [Line2D([], [], color=colour, label=pretty(name)) for name, colour in names.items()]
    truth = Line2D([], [], marker="o", linestyle="", color="green", fillstyle="none", label="truth")
    return [*lines, truth]
