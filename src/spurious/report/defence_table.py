"""Defences side by side: as a CSV file, and as text for a terminal."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spurious import tracking
from spurious.files import replacing

QUALITY = ("nll", "rejected")  # of a row, beside the metrics of each parameter
OF_PARAMETER = ("rmse", "z_rms", "coverage_68", "coverage_95")


def line(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's numbers as one line of a table: `x`, and the ends of its interval."""
    flat = tracking.numbers(
        {key: row[key] for key in ("information", "damage", "damage_ratio", "damage_left")}
    )
    flat |= {"proven": float(not row["unproven"])} | tracking.numbers(
        {"rejected_attacked": row["rejected"], "bounded": row["bounded"]["damage"]}
    )
    flat["bounded.proven"] = float(not row["bounded"]["unproven"])
    for part in ("clean", "inside"):
        if row[part] is not None:
            kept = {f"{part}.{key}": value for key, value in row[part].items() if _is_kept(key)}
            flat |= tracking.numbers(kept)
    for name, found in row["families"].items():
        if found["kl"] is not None:
            flat |= tracking.numbers({f"family.{name}": found["kl"]})
            flat[f"family.{name}.seen"] = float(found.get("seen", False))
    for point in row["curves"]:
        flat |= tracking.numbers({f"{point['norm']}.{point['std']:.3g}_std": point["damage"]})
    return flat


def _is_kept(key: str) -> bool:
    return key in QUALITY or key.endswith(OF_PARAMETER)


def write_table(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One line a posterior; docs/defences.md says what each column means."""
    lines = [
        {
            "defence": name,
            "kind": row["kind"],
            "unproven_by": " ".join(row["unproven"]),
            "bounded.unproven_by": " ".join(row["bounded"]["unproven"]),
            **line(row),
        }
        for name, row in rows.items()
    ]
    columns = list(dict.fromkeys(column for one in lines for column in one))
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)


def format_table(rows: Mapping[str, Mapping[str, Any]], best: str | None) -> str:
    """The rows for a terminal, and the winner."""
    lines = []
    for name, row in rows.items():
        families = ", ".join(
            f"{family} {found['kl']['mean']:.3g}" + (" (seen)" if found["seen"] else "")
            for family, found in row["families"].items()
            if found["kl"] is not None
        )
        verdict = f"; unproven: {', '.join(row['unproven'])}" if row["unproven"] else ""
        lines.append(
            f"{name}: information kept {row['information']['mean']:.3g}, damage of the strongest "
            f"attack {row['damage']['mean']:.3g} nat, with P(k) kept "
            f"{row['bounded']['damage']['mean']:.3g}, of the worst systematics {families}{verdict}"
        )
    return "\n".join([*lines, f"winner: {best or 'none'}"])
