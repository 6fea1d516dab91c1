"""Defences side by side: damage against budget, and what information it costs to avoid damage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, StrMethodFormatter

from spurious.figures.style import CLEAN, PALETTE, pretty

SHADES = (*PALETTE, "#7F3C8D", "#8C564B", "#6B8E23", "#1F3A5F", "#999999")
AXES = {"linf": "largest change of a pixel [std]", "l2": "RMS change [std]"}
LEAST = 1e-4  # nats: what is drawn of a damage of zero
MARKERS = "sDv^P*X<>hd"


def damage_against_budget(result: Mapping[str, Any]) -> Figure:
    """Mean KL of the strongest attack at every budget, a curve a posterior.

    Dashed are posteriors whose robustness is unproven.

    Args:
        result: what the stage `defend` writes.
    """
    rows, shades = result["defences"], _shades(result)
    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
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
    """Information kept against the damage that is left, of the attack and of each worst systematic.

    A full mark is a family that the defence was trained over, or, for the attack, any posterior; an
    open one a family that it has never seen. To the upper left is better.

    Args:
        result: what the stage `defend` writes.
    """
    rows, shades = result["defences"], _shades(result)
    families = list(next(iter(rows.values()))["families"])
    marks = {"attack": "o", **dict(zip(families, MARKERS, strict=False))}
    figure = Figure(figsize=(8.2, 5.6), layout="constrained")
    axes = figure.subplots()
    for name, row in rows.items():
        found = {"attack": {"kl": row["damage"], "seen": True}, **row["families"]}
        for kind, one in found.items():
            if one["kl"] is not None:
                _mark(axes, row["information"], one, shades[name], marks[kind], row)
    axes.set(xscale="log", xlabel="damage left: mean KL(perturbed ‖ clean) [nat]")
    axes.set_ylabel("information kept: posterior volume of the undefended over its own")
    axes.axhline(1, color="0.7", linewidth=0.8, zorder=0)
    axes.set_ylim(bottom=0, top=1.04 * max(1, axes.get_ylim()[1]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.25)
    budget = result["epsilon"]
    kinds = {"attack": f"strongest attack, {budget['value']:g} {budget['unit']} a pixel"}
    handles = [
        Line2D([], [], marker=mark, color="0.3", linestyle="",
               label=kinds.get(kind, f"worst {pretty(kind)}"))
        for kind, mark in marks.items()
    ]  # fmt: skip
    handles.append(
        Line2D(
            [],
            [],
            marker="s",
            color="0.3",
            fillstyle="none",
            linestyle="",
            label="not trained over",
        )
    )
    axes.legend(handles=handles, fontsize=8, loc="best")
    _legend(figure, result, shades)
    return figure


def _shades(result: Mapping[str, Any]) -> dict[str, str]:
    """The target is black, every other posterior has a colour."""
    others = [name for name in result["defences"] if name != result["target"]]
    return {
        result["target"]: CLEAN,
        **{name: SHADES[i % len(SHADES)] for i, name in enumerate(others)},
    }


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
    information: Mapping[str, float],
    one: Mapping[str, Any],
    colour: str,
    marker: str,
    row: Mapping[str, Any],
) -> None:
    kl, face = one["kl"], colour if one["seen"] else "white"
    x, y = max(kl["mean"], LEAST), information["mean"]
    spans = (
        [[max(x - kl["low"], 0)], [max(kl["high"] - x, 0)]],
        [
            [y - information["low"]],
            [information["high"] - y],
        ],
    )
    axes.errorbar(
        [x], [y], xerr=spans[0], yerr=spans[1], marker=marker, color=colour, markersize=8,
        markerfacecolor=face, elinewidth=0.7, alpha=0.5 if row["unproven"] else 1,
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
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
