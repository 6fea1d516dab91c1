"""Security curves: damage against budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from spurious.figures.style import CLEAN, SHADES, pretty

KL, MOVED = "kl_perturbed_clean", "moved"
LEAST = 1e-4  # nats: bottom of the upper panels
CONTROL = "0.55"
# Family -> title, label of the abscissa, attack that is shown on every posterior.
PANELS = {
    "linf": ("largest change of a pixel", r"$\epsilon_\infty$ [std]", "strongest_linf"),
    "l2": ("RMS change", r"$\epsilon_2$ [std]", "strongest_l2"),
    "cosmic": (
        "change of $P(k)$ in any bin",
        r"$|\Delta P|$ [cosmic variance]",
        "strongest_bounded",
    ),
}
COUNTED = (
    "Counted is KL(perturbed ‖ clean), which all attacks climb but BIM: the paper's climbs "
    "−log q(truth). Every curve is a lower bound of what its budget allows."
)
# Attack -> name, line and marker.
STYLES = {
    "strongest_linf": ("strongest: Auto-PGD", "-", "o"),
    "bim": ("BIM, the paper's steps", "", "D"),
    "fgsm": ("FGSM, one step", ":", "s"),
    "random_sign": ("random sign", "--", ""),
    "strongest_l2": ("strongest: Auto-PGD", "-", "o"),
    "noise": ("Gaussian noise", "--", ""),
    "strongest_bounded": ("strongest: Auto-PGD", "-", "o"),
    "bounded_noise": ("Gaussian noise", "--", ""),
    "strongest_phase_only": ("phases only: Auto-PGD", "", "D"),
}


def security_curves(curves: Mapping[str, Any], paper: Mapping[str, float]) -> Figure:
    """KL and fraction of maps moved, with 95 % intervals, against three kinds of budget.

    Colours are posteriors and line styles attacks, all made on the target. The title names the
    damage and what the attacks climb.

    Args:
        curves: what `spurious.audit.curves.Curves.as_json` gives, and the target's name as
            `target`.
        paper: mean KL(perturbed || clean) in the paper, by name of the attack there.
    """
    figure = Figure(figsize=(12.5, 7.6), layout="constrained")
    panels = figure.subplots(2, 3, sharex="col", sharey="row", height_ratios=[3, 2])
    shade = _shades(curves)
    for column, (family, (title, label, everywhere)) in enumerate(PANELS.items()):
        upper, lower = panels[:, column]
        chosen = [curve for curve in curves["curves"] if curve["family"] == family]
        for axes, quantity in ((upper, KL), (lower, MOVED)):
            for curve in chosen:
                for who in shade if curve["name"] == everywhere else ["target"]:
                    _draw(axes, curve, who, quantity, CONTROL if curve["control"] else shade[who])
        _abscissa(lower, family, chosen)
        upper.legend(handles=_attacks(chosen), loc="upper left", fontsize=8, frameon=False)
        upper.set_title(title, y=1.12)
        lower.set_xlabel(label)
        if family != "cosmic":
            _counts(upper, curves["std_counts"])
        elif chosen:
            _note(
                upper,
                f"RMS change at most {chosen[0]['rms_counts'] / curves['std_counts']:.3g} std",
            )
    _ordinates(panels, curves, paper)
    names = {"target": f"{pretty(curves['target'])} (target)"}
    figure.suptitle(COUNTED, fontsize=9)
    figure.legend(
        handles=[
            Line2D([], [], color=colour, marker="o", markersize=4, label=names.get(n, pretty(n)))
            for n, colour in shade.items()
        ],
        loc="outside lower center",
        ncols=min(len(shade), 6),
        frameon=False,
        title="posterior",
    )
    return figure


def _shades(curves: Mapping[str, Any]) -> dict[str, str]:
    """One colour a posterior, the target's first."""
    names = dict.fromkeys(
        who for curve in curves["curves"] for one in curve["points"] for who in one["responses"]
    )
    ordered = ["target", *(name for name in names if name != "target")]
    return {name: SHADES[i % len(SHADES)] for i, name in enumerate(ordered)}


def _draw(axes: Axes, curve: Mapping[str, Any], who: str, quantity: str, colour: str) -> None:
    points = [point for point in curve["points"] if who in point["responses"]]
    x = np.array([point.get("std", point["budget"]) for point in points])
    values = [point["responses"][who][quantity] for point in points]
    mean, low, high = (
        np.array([value[key] for value in values], float) for key in ("mean", "low", "high")
    )
    _, line, marker = STYLES[curve["name"]]
    main = who == "target" and not curve["control"]
    size = 7 if marker == "D" else 4 if main else 2.5
    style: dict[str, Any] = {"color": colour, "linestyle": line, "markersize": size}
    style["linewidth"] = 2 if main and line == "-" else 1.2
    if len(points) == 1:
        ends = [mean - low, high - mean]
        axes.errorbar(x, mean, ends, marker=marker, markerfacecolor="white", zorder=5, **style)
        return
    axes.plot(x, mean, marker=marker, zorder=4 if main else 3, **style)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _abscissa(axes: Axes, family: str, curves: Sequence[Mapping[str, Any]]) -> None:
    """Logarithmic; fractions of the cosmic variance with a place for zero."""
    values = sorted(
        {point.get("std", point["budget"]) for curve in curves for point in curve["points"]}
    )
    least = min((value for value in values if value > 0), default=1.0)
    if family == "cosmic" and values and values[0] == 0:
        axes.set_xscale("symlog", linthresh=least, linscale=0.6)
        axes.set_xlim(-0.3 * least, 1.4 * max(values[-1], least))
    else:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _counts(axes: Axes, std: float) -> None:
    """The same budgets in counts, above."""
    both: Any = (lambda x: x * std, lambda x: x / std)
    above = axes.secondary_xaxis("top", functions=both)
    above.set_xlabel("counts a pixel", fontsize=9)
    above.tick_params(labelsize=8)
    above.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _attacks(curves: Sequence[Mapping[str, Any]]) -> list[Line2D]:
    """A legend of the lines of one panel."""
    entries = []
    for curve in curves:
        name, line, marker = STYLES[curve["name"]]
        colour = CONTROL if curve["control"] else CLEAN
        style: dict[str, Any] = {"color": colour, "linestyle": line, "markersize": 4}
        if marker == "D":
            style |= {"markersize": 6, "markerfacecolor": "white"}
        entries.append(Line2D([], [], label=name, marker=marker, **style))
    return entries


def _ordinates(panels: Any, curves: Mapping[str, Any], paper: Mapping[str, float]) -> None:
    """Scales, labels, and the paper's values as lines."""
    upper, lower = panels[0, 0], panels[1, 0]
    upper.set_yscale("log")
    upper.set_ylim(bottom=LEAST)
    upper.set_ylabel("mean KL(perturbed ‖ clean) [nat]")
    lower.set_ylim(-0.03, 1.03)
    lower.yaxis.set_major_formatter(PercentFormatter(1.0))
    lower.set_ylabel(f"maps moved by more than {curves['sigmas']:g} σ")
    for axes in panels[0]:
        for value in paper.values():
            axes.axhline(value, color=CLEAN, linewidth=0.8, linestyle=(0, (6, 3)), zorder=1)
    for axes in panels.flat:
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["right"]].set_visible(False)
    if paper:
        text = ", ".join(f"{value:g} {pretty(name)}" for name, value in paper.items())
        place: Any = {"xycoords": upper.get_yaxis_transform(), "textcoords": "offset points"}
        upper.annotate(f"paper: {text}", (0.01, max(paper.values())), (0, 3), fontsize=8, **place)


def _note(axes: Axes, text: str) -> None:
    axes.annotate(text, (0.98, 0.03), xycoords="axes fraction", ha="right", fontsize=8)
