"""Remake docs/figures/systematics.png: what each systematic does to one map and to its power.

All have the amplitude that changes the map as much, in the mean square, as the paper's systematic.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from spurious import simulate, spectra
from spurious.config import Simulation
from spurious.perturbations.systematics import (
    Baryons,
    Beam,
    Calibration,
    CorrelatedNoise,
    Effect,
    GainDrift,
    Logistic,
    Masked,
    Saturation,
    Stripes,
    matched,
)

ROOT = Path(__file__).resolve().parents[1]
SEED = 1
LARGEST_CHANGE = 0.3  # of the power, at the edge of a panel
RANGE = 6.0  # of the colours of a change, counts


def systematics(box_size: float) -> dict[str, Effect]:
    """Every systematic, with its amplitude still to be matched (but for the sign)."""
    return {
        "logistic": Logistic(0.25, -15.0, 3.0),
        "calibration": Calibration(1.0, (0, 40, 80, 160, 320), (0.1, -0.1, 0.1, -0.1)),
        "saturation": Saturation(0.1, 150.0),
        "gain drift": GainDrift(0.1, angle=30.0),
        "stripes": Stripes(1.0, stripes=16, axis=0, seed=SEED),
        "masked": Masked(1.0, 0.05, 4.0, box_size, SEED),
        "beam": Beam(0.1, 4.0, box_size),
        "baryons": Baryons(0.1, 2.0, box_size, threshold=100.0),
        "correlated noise": CorrelatedNoise(1.0, -1.5, SEED),
    }


def draw(clean: np.ndarray, box_size: float) -> Figure:
    """The clean map (1, N, N) with its spectrum, then each change with its dP / P."""
    goal = float(np.mean((Logistic(0.25, -15.0, 3.0)(clean).numpy() - clean) ** 2))
    figure = Figure(figsize=(14, 11.5), layout="constrained")
    panels = figure.subplots(4, 5, height_ratios=(1.5, 1, 1.5, 1)).T.reshape(5, 2, 2)
    pairs = [pair for row in (0, 1) for pair in panels[:, row]]
    clean_power = power(clean, box_size)
    bins = spectra.bins(clean.shape[-1], box_size)
    norm = LogNorm(8, float(clean.max()))
    image(pairs[0][0], clean[0], box_size, f"clean map, 8 to {clean.max():.0f} counts", norm)
    pairs[0][1].loglog(bins.k, clean_power, color="black")
    pairs[0][1].set_title(r"$P(k)$ of the contrast [$(\mathrm{Mpc}/h)^2$]", fontsize=10)
    for (name, effect), pair in zip(systematics(box_size).items(), pairs[1:], strict=True):
        found = matched(effect, clean, goal)
        perturbed = found(clean).numpy()
        title = f"{name}: {found.AMPLITUDE} = {getattr(found, found.AMPLITUDE):.2g}"
        image(pair[0], perturbed[0] - clean[0], box_size, title)
        change(pair[1], bins, power(perturbed, box_size) / clean_power - 1)
        print(f"{title}, {found}")
    bar = figure.colorbar(pairs[1][0].images[0], ax=panels, shrink=0.4, aspect=40, extend="both")
    bar.set_label(f"change, counts (RMS {goal**0.5:.2f} in every panel)")
    return figure


def power(maps: np.ndarray, box_size: float) -> np.ndarray:
    """P(k) of the density contrast of the only map."""
    return np.asarray(spectra.power(maps, box_size, contrast=True))[0]


def image(
    axes: Axes, map_: np.ndarray, side: float, title: str, norm: LogNorm | None = None
) -> None:
    """A map as rows from the top, or, without `norm`, a change in blue and red."""
    colours = {"norm": norm} if norm else {"cmap": "RdBu_r", "vmin": -RANGE, "vmax": RANGE}
    axes.imshow(map_, extent=(0, side, side, 0), **colours)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(r"second axis [$\mathrm{Mpc}/h$]", fontsize=8)
    axes.set_ylabel(r"first axis [$\mathrm{Mpc}/h$]", fontsize=8)
    axes.tick_params(labelsize=8)


def change(axes: Axes, bins: spectra.Bins, values: np.ndarray) -> None:
    """Relative change of the power over the cosmic variance of one map."""
    cosmic = spectra.cosmic_variance(bins.n_modes)
    axes.fill_between(bins.k, -cosmic, cosmic, color="0.9", lw=0)
    axes.axhline(0, color="0.5", lw=0.8)
    axes.semilogx(bins.k, values, color="#D55E00")
    axes.set_ylim(-LARGEST_CHANGE, LARGEST_CHANGE)
    axes.set_title(r"$\Delta P/P$ of the contrast", fontsize=10)
    axes.set_xlabel(r"$k\ [h\,\mathrm{Mpc}^{-1}]$", fontsize=8)
    axes.tick_params(labelsize=8)


def main() -> None:
    """Simulate, perturb, draw."""
    clean = np.asarray(simulate(omega_m=0.3, sigma_8=0.8, seed=SEED))[None]
    target = ROOT / "docs" / "figures" / "systematics.png"
    draw(clean, Simulation().box_size.value).savefig(target, dpi=70)
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
