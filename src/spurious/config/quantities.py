"""Sections and quantities, under the names that the sections of params.yaml import."""

from spurious.description.quantities import (
    Axis,
    Budget,
    Density,
    InverseDensity,
    Length,
    Range,
)
from spurious.description.section import UNKNOWN_KEY, Section, parts

__all__ = [
    "UNKNOWN_KEY",
    "Axis",
    "Budget",
    "Density",
    "InverseDensity",
    "Length",
    "Range",
    "Section",
    "parts",
]
