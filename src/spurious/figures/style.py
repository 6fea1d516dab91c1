"""Colours, labels and legends that all figures share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.lines import Line2D

LABELS = {"omega_m": r"$\Omega_m$", "sigma_8": r"$\sigma_8$"}
K_LABEL = r"$k\ [h\,\mathrm{Mpc}^{-1}]$"
# Okabe and Ito's palette: told apart also without colour vision and in grey.
CLEAN = "#000000"
LOG_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Five more, each far from all others also for who lacks one kind of cone (a test measures it).
SHADES = (*PALETTE, "#8900FF", "#4E1400", "#000062", "#D8C476", "#623B62")
TRUTH = PALETTE[2]


def colours(names: Sequence[str]) -> dict[str, str]:
    """One colour per name, the same in every figure made of the same names."""
    return {name: SHADES[i % len(SHADES)] for i, name in enumerate(names)}


def pretty(name: str) -> str:
    """A perturbation's or parameter's name as a reader should see it."""
    return LABELS.get(name, name.replace("_", " ").replace("bim", "BIM").replace("fgsm", "FGSM"))


def handles(shade: Mapping[str, str]) -> list[Line2D]:
    """Entries of a legend: the clean map, each perturbation in its colour, the truth."""
    names = {"clean": CLEAN, **shade}
    lines = [Line2D([], [], color=colour, label=pretty(name)) for name, colour in names.items()]
    truth = Line2D([], [], marker="o", linestyle="", color=TRUTH, fillstyle="none", label="truth")
    return [*lines, truth]
