"""A map to be flipped between clean, perturbed and difference, along the budget of an attack."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import imsave

from spurious.audit.attacks import Attacks, Limit
from spurious.densities.divergences import kl
from spurious.posteriors.posterior import Posterior
from spurious.report.findings import PLAIN, number


def flipped(
    map_: np.ndarray, budgets: Mapping[str, float], posterior: Posterior, steps: int, seed: int
) -> dict[str, Any]:
    """What the page shows of one map under the strongest attack within an L∞ ball.

    Args:
        map_: (N, N) in counts.
        budgets: largest change of a pixel in counts, by its label.
        posterior: to attack.
        steps: of the attack.
        seed: of its random start.

    Returns:
        `clean`, a picture; and `frames`, one a budget, each with its `label`, the pictures
        `perturbed` and `difference`, and a `text` with what happened to the posterior. Pictures
        are PNGs as base64, one pixel each of the map.
    """
    attacks = Attacks(posterior, steps=steps, seed=seed)
    norm = LogNorm(max(1.0, float(map_.min())), float(map_.max()))
    frames = []
    for label, budget in budgets.items():
        perturbed = np.asarray(attacks.strongest(map_[None], Limit(budget)))[0]
        change = perturbed - map_
        largest = max(float(np.abs(change).max()), 1e-6)
        frames.append(
            {
                "label": label,
                "perturbed": _picture(perturbed, "viridis", norm),
                "difference": _picture(change, "RdBu_r", Normalize(-largest, largest)),
                "text": f"No pixel changes by more than {number(budget)} counts, in the root mean "
                f"square by {number(float(np.sqrt(np.mean(change**2))))}; colours of the "
                f"difference end at ±{number(largest)}. {_moved(map_, perturbed, posterior)}",
            }
        )
    return {"clean": _picture(map_, "viridis", norm), "frames": frames}


def _moved(clean: np.ndarray, perturbed: np.ndarray, posterior: Posterior) -> str:
    """The posterior before and after."""
    before, after = posterior(clean[None]), posterior(perturbed[None])
    means = [np.asarray(one.mean())[0] for one in (before, after)]
    widths = [np.asarray(one.stddev())[0] for one in (before, after)]
    parts = [
        f"{PLAIN.get(name, name)} {_pair(means[0][i], widths[0][i])} → "
        f"{_pair(means[1][i], widths[1][i])}"
        for i, name in enumerate(posterior.names)
    ]
    divergence = float(np.asarray(kl(after, before))[0])
    return f"Posterior: {', '.join(parts)}; KL(perturbed ‖ clean) {number(divergence)} nat."


def _pair(mean: float, width: float) -> str:
    return f"{mean:.3f} ± {width:.3f}"


def _picture(values: np.ndarray, colours: str, norm: Normalize) -> str:
    """A map as PNG, base64: x to the right and y up."""
    shades = colormaps[colours](norm(np.asarray(values, float).T[::-1]))
    file, undated = io.BytesIO(), cast(dict[str, str], {"Software": None})
    imsave(file, np.asarray(shades), format="png", metadata=undated)
    return base64.b64encode(file.getvalue()).decode()


def labelled(values: Sequence[float], unit: str) -> list[str]:
    """Budgets as the page shows them."""
    return [f"{number(value)} {unit}" for value in values]
