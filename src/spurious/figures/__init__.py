"""Figures of the report. Every function returns a matplotlib Figure; none shows or saves it."""

from spurious.figures.audit import security_curves
from spurious.figures.calibration import coverage, pit_histogram, sbc, tarp
from spurious.figures.damage import damage_against_power, damage_bars, spectrum_changes
from spurious.figures.defences import damage_against_budget, information_against_damage
from spurious.figures.detection import detection
from spurious.figures.extremes import extremes
from spurious.figures.maps import (
    contours,
    credible_levels,
    examples,
    headline,
    preview,
    workflow,
)
from spurious.figures.posteriors import (
    error_plane,
    learning_curve,
    posterior_bars,
    predicted_versus_true,
)
from spurious.figures.search import fronts, search_history
from spurious.figures.style import colours, pretty
from spurious.figures.tuning import tuning_history, tuning_importances

__all__ = [
    "colours",
    "contours",
    "coverage",
    "credible_levels",
    "damage_against_budget",
    "damage_against_power",
    "damage_bars",
    "detection",
    "error_plane",
    "examples",
    "extremes",
    "fronts",
    "headline",
    "information_against_damage",
    "learning_curve",
    "pit_histogram",
    "posterior_bars",
    "predicted_versus_true",
    "pretty",
    "preview",
    "sbc",
    "search_history",
    "security_curves",
    "spectrum_changes",
    "tarp",
    "tuning_history",
    "tuning_importances",
    "workflow",
]
