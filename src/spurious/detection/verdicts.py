"""Verdicts: is a perturbation noticed, does it escape, or were there too few maps to tell?

With J detectors and false alarms of `level` a perturbation, all of them together,

- **noticed**: a p-value is below level / J (Bonferroni), or the largest AUROC of one map is at
  least the least AUROC that so many maps are sure to show;
- **too few maps**: not noticed, and that least AUROC is above `strong`;
- **escapes**: not noticed, though an AUROC of `strong` would have been.

The least AUROC A of n maps, one a simulation, is the one that a one-sided test at level / J
against 1/2 finds with chance `power`,

    A - 1/2 = z(1 - level / J) s_0 + z(power) s_A,

with s_0^2 the variance of a cross-fitted AUROC where nothing has changed
(`two_sample.chance_variance`), s_A^2 = 2 [A (1 - A) + (n - 1) (Q_1 + Q_2 - 2 A^2)] / n^2,
Q_1 = A / (2 - A) and Q_2 = 2 A^2 / (1 + A) (Hanley & McNeil 1982, Radiology 143, 29), doubled like
s_0^2 for the cross-fit, and z the quantiles of the normal distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from spurious.config.detection import Detection
from spurious.detection.two_sample import chance_variance

NOTICED, ESCAPES, TOO_FEW = "noticed", "escapes", "too few maps"


def verdict(row: Mapping[str, Any], settings: Detection | None = None) -> dict[str, Any]:
    """The verdict on one perturbation.

    Args:
        row: of `Detector.row`.
        settings: level, power and strong; by default those of params.yaml's schema.

    Returns:
        `verdict`; `by`, the detectors that notice it, by increasing p-value; `best`, the detector
        with the largest AUROC, and `auroc`, that with its interval; `least_auroc`; `n_maps`.
    """
    settings = settings or Detection()
    cells = {name: row[name] for name in detectors(row)}
    level = settings.level / len(cells)
    aurocs = {name: cell["auroc"] for name, cell in cells.items() if "auroc" in cell}
    best = max(aurocs, key=lambda name: aurocs[name]["mean"])
    least = least_auroc(row.get("n_simulations", row["n_maps"]), level, settings.power)
    by = [
        name
        for name, cell in sorted(cells.items(), key=lambda item: item[1]["p_value"])
        if cell["p_value"] < level or (name in aurocs and aurocs[name]["mean"] >= least < 1)
    ]
    missed = TOO_FEW if least > settings.strong else ESCAPES
    return {
        "verdict": NOTICED if by else missed,
        "by": by,
        "best": best,
        "auroc": {key: aurocs[best][key] for key in ("mean", "low", "high")},
        "least_auroc": least,
        "n_maps": row["n_maps"],
    }


def detectors(row: Mapping[str, Any]) -> list[str]:
    """The detectors that judge in a row of `Detector.row`: all that have a p-value."""
    return [k for k, cell in row.items() if isinstance(cell, Mapping) and "p_value" in cell]


@lru_cache(maxsize=64)  # the same for every perturbation of as many maps
def least_auroc(n: int, level: float, power: float) -> float:
    """The smallest AUROC that n maps show at this level with this chance; 1 if they show none.

    Args:
        n: number of perturbed maps, and of clean ones.
        level: of the one-sided test of one detector.
        power: chance to notice.
    """
    critical = 0.5 + norm.isf(level) * np.sqrt(chance_variance(n))

    def margin(value: float) -> float:
        return value - critical - norm.ppf(power) * np.sqrt(variance(value, n))

    return float(brentq(margin, 0.5, 1.0)) if margin(1.0) > 0 else 1.0


def variance(value: float, n: int) -> float:
    """Variance of a cross-fitted AUROC of n perturbed and n clean maps, where it is `value`."""
    first, second = value / (2 - value), 2 * value**2 / (1 + value)
    single = value * (1 - value) + (n - 1) * (first + second - 2 * value**2)
    return float(2 * max(single, 0.0) / n**2)
