"""Rows of damage side by side: as a CSV file, as figures, and as text for a terminal."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spurious import figures, tracking
from spurious.files import replacing

SHORT = {"omega_m": "Om", "sigma_8": "s8"}


def draw_damage(
    rows: Mapping[str, Mapping[str, Any]],
    paper: Mapping[str, float],
    lines: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Changes of the spectrum and bars of the KL.

    Args:
        rows: damage by name.
        paper: the paper's KL by name.
        lines: whose spectra are drawn; by default all.
    """
    spectrum = next(iter(rows.values()))["spectrum"]
    changes = {
        name: {kind: rows[name]["spectrum"][kind]["mean_change"] for kind in ("raw", "contrast")}
        for name in lines or rows
    }
    return {
        "spectra": figures.spectrum_changes(
            changes, np.array(spectrum["k"]), np.array(spectrum["cosmic_variance"])
        ),
        "damage": figures.damage_bars(rows, paper),
    }


def write_table(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One line per perturbation: numbers `x` and the ends of its interval, `x.low`, `x.high`."""
    lines = [{"perturbation": name, **tracking.numbers(row)} for name, row in rows.items()]
    columns = list(dict.fromkeys(column for line in lines for column in line))
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)


def format_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table for a terminal: means only, largest changes of the mean power in percent."""
    columns = _columns(next(iter(rows.values())))
    first = max(20, *map(len, rows))
    widths = [max(12, len(title) + 2) for title in columns]
    titles = zip(columns, widths, strict=True)
    lines = [" " * first + "".join(f"{title:>{width}s}" for title, width in titles)]
    for name, row in rows.items():
        cells = zip(columns.values(), widths, strict=True)
        numbers = (f"{unit * row[key]['mean']:{width}.3g}" for (key, unit), width in cells)
        lines.append(f"{name:{first}s}" + "".join(numbers))
    return "\n".join(lines)


def _columns(row: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Title -> (key of a row, factor)."""
    shifted = [key.removeprefix("abs_shift_") for key in row if key.startswith("abs_shift_")]
    return {
        "KL(p||c)": ("kl_perturbed_clean", 1),
        "KL(c||p)": ("kl_clean_perturbed", 1),
        "sym. KL": ("kl_symmetrised", 1),
        **{f"|shift| {SHORT.get(name, name)}": (f"abs_shift_{name}", 1) for name in shifted},
        "RMS": ("rms_counts", 1),
        "dP/P raw %": ("mean_power_change_raw", 100),
        "contrast %": ("mean_power_change_contrast", 100),
    }
