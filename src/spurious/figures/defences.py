"""Defences side by side: damage against budget, and what information it costs to avoid damage."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from spurious.figures.style import CLEAN, SHADES, pretty

AXES = {"linf": "largest change of a pixel [std]", "l2": "RMS change [std]"}
LEAST = 1e-4  # nats: what is drawn of a damage of zero
MARKERS = "sDv^P*X<>hd"
MANY = tuple(to_hex(shade) for shade in colormaps["tab20"](range(20)))  # where `SHADES` are too few
COLUMNS = 5  # of the legend


def damage_against_budget(result: Mapping[str, Any]) -> Figure:
    """Mean KL of the strongest attack at every budget, a curve a posterior.

    Dashed are posteriors whose robustness is unproven.

    Args:
        result: what the stage `defend` writes.
    """
    rows, shades = result["defences"], _shades(result)
    figure = Figure(figsize=(11.5, _height(rows, 4.4)), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for axes, (norm, label) in zip(panels, AXES.items(), strict=True):
        for name, row in rows.items():
            _curve(axes, _points({name: row}, norm), shades[name], row)
        axes.set(xscale="log", yscale="log", xlabel=label)
        axes.set_xticks(sorted({one["std"] for one in _points(rows, norm)}))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("damage: mean KL(perturbed ‖ clean) [nat]")
    _legend(figure, result, shades)
    return figure


def information_against_damage(result: Mapping[str, Any]) -> Figure:
    """Information kept against the damage that is left: of attacks, and of each worst systematic.

    A full mark is a family that the defence was trained over, an open one a family that it has
    never seen; an open circle is an attack that keeps P(k). To the upper left is better.

    Args:
        result: what the stage `defend` writes.
    """
    rows, shades = result["defences"], _shades(result)
    families = list(next(iter(rows.values()))["families"])
    markers = dict(zip(families, MARKERS, strict=False))
    figure = Figure(figsize=(11.5, _height(rows, 5.2)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for name, row in rows.items():
        for seen, damage in ((True, row["damage"]), (False, row["bounded"]["damage"])):
            _mark(panels[0], row, damage, shades[name], "o", seen)
        for family, one in row["families"].items():
            if one["kl"] is not None:
                _mark(panels[1], row, one["kl"], shades[name], markers[family], one["seen"])
    for axes in panels:
        axes.set(xscale="log", xlabel="damage left: mean KL(perturbed ‖ clean) [nat]")
        axes.axhline(1, color="0.7", linewidth=0.8, zorder=0)
        axes.set_ylim(bottom=0, top=1.04 * max(1, axes.get_ylim()[1]))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("information kept, relative to the undefended")
    budget = f"{result['epsilon']['value']:g} {result['epsilon']['unit']} a pixel"
    handles = [
        _sample("o", f"strongest attack, {budget}"),
        _sample("o", "the same, P(k) kept", False),
    ]
    panels[0].legend(handles=handles, fontsize=8, loc="best")
    handles = [_sample(mark, f"worst {pretty(name)}") for name, mark in markers.items()]
    panels[1].legend(handles=[*handles, _sample("s", "not trained over", False)], fontsize=8)
    _legend(figure, result, shades)
    return figure


def _sample(marker: str, label: str, full: bool = True) -> Line2D:
    """An entry of a legend."""
    fill: Any = "full" if full else "none"
    return Line2D([], [], marker=marker, color="0.3", fillstyle=fill, linestyle="", label=label)


def _height(rows: Mapping[str, Any], panels: float) -> float:
    """Of a figure, inches: its panels and the lines of its legend."""
    return panels + 0.22 * -(-len(rows) // COLUMNS)


def _shades(result: Mapping[str, Any]) -> dict[str, str]:
    """The target is black, every other posterior has a colour."""
    others = [name for name in result["defences"] if name != result["target"]]
    shades = SHADES if len(others) <= len(SHADES) else MANY
    return {result["target"]: CLEAN} | dict(zip(others, cycle(shades)))


def _points(rows: Mapping[str, Any], norm: str) -> list[Mapping[str, Any]]:
    return [one for row in rows.values() for one in row["curves"] if one["norm"] == norm]


def _curve(axes: Axes, points: Any, colour: str, row: Mapping[str, Any]) -> None:
    x = np.array([point["std"] for point in points])
    mean, low, high = (
        np.maximum([point["damage"][key] for point in points], LEAST)
        for key in ("mean", "low", "high")
    )
    axes.plot(x, mean, "o--" if row["unproven"] else "o-", color=colour, markersize=4)
    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def _mark(
    axes: Axes,
    row: Mapping[str, Any],
    damage: Mapping[str, float],
    colour: str,
    marker: str,
    full: bool,
) -> None:
    """One damage of a posterior with both intervals; pale if what it withstands is unproven."""
    x, y = max(damage["mean"], LEAST), row["information"]["mean"]
    across = [[max(x - damage["low"], 0)], [max(damage["high"] - x, 0)]]
    upwards = [[y - row["information"]["low"]], [row["information"]["high"] - y]]
    axes.errorbar(
        [x], [y], xerr=across, yerr=upwards, marker=marker, color=colour, markersize=7,
        markerfacecolor=colour if full else "white", elinewidth=0.7,
        alpha=0.5 if row["unproven"] else 1,
    )  # fmt: skip


def _legend(figure: Figure, result: Mapping[str, Any], shades: Mapping[str, str]) -> None:
    named = {
        name: pretty(name)
        + (" (undefended)" if name == result["target"] else "")
        + (": unproven" if result["defences"][name]["unproven"] else "")
        for name in shades
    }
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4, label=named[name],
               linestyle="--" if result["defences"][name]["unproven"] else "-")
        for name, colour in shades.items()
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="outside lower center", ncols=COLUMNS, frameon=False, fontsize=8
    )
