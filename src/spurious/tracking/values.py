"""Results as the flat names and numbers that a tracker takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's numbers by name: `x`, and where it has an interval `x`, `x.low` and `x.high`."""
    flat: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, int | float):
            flat[name] = value
        elif isinstance(value, Mapping) and "mean" in value:
            flat |= {
                name: value["mean"],
                f"{name}.low": value["low"],
                f"{name}.high": value["high"],
            }
    return flat


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
