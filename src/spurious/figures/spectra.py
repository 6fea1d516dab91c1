"""Power spectra and their changes, drawn into given axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from spurious.figures.style import CLEAN, K_LABEL


def power_spectra(
    axes: Axes,
    spectra: Mapping[str, np.ndarray],
    k: np.ndarray,
    cosmic_variance: np.ndarray,
    shade: Mapping[str, str],
) -> None:
    """P(k) of "clean" and of perturbed maps, (Mpc/h)^2, with the clean one's cosmic variance."""
    clean = spectra["clean"]
    axes.fill_between(k, clean * (1 - cosmic_variance), clean * (1 + cosmic_variance), color="0.85")
    for name, power in spectra.items():
        style = "-" if name == "clean" else "--"
        axes.loglog(k, power, style, color=shade.get(name, CLEAN))
    axes.set(xlabel=K_LABEL, ylabel=r"$P(k)\ [(\mathrm{Mpc}/h)^2]$")
    axes.set_title("power spectrum of the contrast")


def power_changes(
    axes: Axes,
    changes: Mapping[str, np.ndarray],
    k: np.ndarray,
    cosmic_variance: np.ndarray,
    shade: Mapping[str, str],
) -> None:
    """Relative changes of P(k) in percent, with the cosmic variance of one map in grey."""
    axes.fill_between(k, -100 * cosmic_variance, 100 * cosmic_variance, color="0.85")
    axes.axhline(0, color=CLEAN, linewidth=0.8)
    for name, change in changes.items():
        axes.plot(k, 100 * np.asarray(change), color=shade[name])
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel=K_LABEL, ylabel=r"$\Delta P/P$ [%]")
